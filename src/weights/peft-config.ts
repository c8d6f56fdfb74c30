import { printable } from "../text.ts";
import { ConfigReader } from "./config-reader.ts";
import { throwProblems } from "./problems.ts";
import { isProjection, PROJECTIONS, type Projection } from "./projections.ts";
import { describeJson, isJsonObject, type JsonValue, parseStrictJsonObject } from "./strict-json.ts";

/** What an adapter_config.json says of the mathematics: y = Wx + scale · B(Ax). */
export interface LoraSettings {
  readonly r: number;
  readonly loraAlpha: number;
  /** Rank-stabilized LoRA (arXiv:2312.03732): the scale divides by √r in place of r. */
  readonly useRslora: boolean;
  /** In the order of PROJECTIONS; each in every layer. */
  readonly targetModules: readonly Projection[];
}

/** The factor of B·A: lora_alpha / r (arXiv:2106.09685, 4.1), or lora_alpha / √r. */
export function loraScale({ r, loraAlpha, useRslora }: LoraSettings): number {
  return loraAlpha / (useRslora ? Math.sqrt(r) : r);
}

const MAX_RANK = 2 ** 16;

/** Initializations that leave the base weights as they are, so that the adapter's files say everything. */
const NEUTRAL_INITIALIZATIONS: readonly (JsonValue | undefined)[] = [true, false, "gaussian", "orthogonal", "eva"];

/** Keys without effect on what a trained adapter computes. Every other key that is not read must be unset. */
const NEUTRAL_KEYS = new Set([
  "auto_mapping",
  "base_model_name_or_path",
  "ensure_weight_tying",
  "eva_config",
  "inference_mode",
  "lora_dropout",
  "megatron_core",
  "peft_version",
  "qalora_group_size",
  "revision",
  "runtime_config",
]);
const READ_KEYS = new Set([
  "bias",
  "init_lora_weights",
  "lora_alpha",
  "peft_type",
  "r",
  "target_modules",
  "task_type",
  "use_rslora",
]);

/** Parses an adapter_config.json of PEFT. Throws one InputError with a line for each thing that is not supported. */
export function parsePeftConfig(jsonText: string, fileName: string): LoraSettings {
  const reader = new ConfigReader(parseStrictJsonObject(jsonText, fileName));
  requireOneOf(reader, "peft_type", ["LORA"]);
  if (reader.isSet("task_type")) requireOneOf(reader, "task_type", ["CAUSAL_LM"]);
  if (reader.isSet("bias")) requireOneOf(reader, "bias", ["none"]);
  if (reader.isSet("init_lora_weights")) requireOneOf(reader, "init_lora_weights", NEUTRAL_INITIALIZATIONS);
  for (const [key, value] of reader.entries()) {
    if (READ_KEYS.has(key) || NEUTRAL_KEYS.has(key) || isUnset(value)) continue;
    reader.problem(`${printable(key)} must be unset, because it is not supported, found ${describeJson(value)}`);
  }
  const settings: LoraSettings = {
    r: reader.size("r", 8, MAX_RANK),
    loraAlpha: reader.positiveNumber("lora_alpha", 8),
    useRslora: reader.boolean("use_rslora", false),
    targetModules: readTargetModules(reader),
  };
  throwProblems(fileName, reader.problems);
  return settings;
}

function requireOneOf(reader: ConfigReader, key: string, allowed: readonly (JsonValue | undefined)[]): void {
  if (allowed.includes(reader.get(key))) return;
  const list = allowed.map((value) => describeJson(value)).join(" or ");
  reader.problem(`${key} must be ${list}, found ${describeJson(reader.get(key))}`);
}

function isUnset(value: JsonValue): boolean {
  if (Array.isArray(value)) return value.length === 0;
  return value === null || value === false || (isJsonObject(value) && value.size === 0);
}

function readTargetModules(reader: ConfigReader): Projection[] {
  const value = reader.get("target_modules");
  if (value === "all-linear") return [...PROJECTIONS];
  const names = Array.isArray(value) ? value : [];
  if (names.length > 0 && names.every((name) => typeof name === "string" && isProjection(name))) {
    return PROJECTIONS.filter((projection) => names.includes(projection));
  }
  reader.problem(
    `target_modules must be "all-linear" or a list of some of ${PROJECTIONS.join(", ")} ` +
      `(regular expressions and other modules are not supported), found ${describeJson(value, 200)}`,
  );
  return [];
}

/** The text of an adapter_config.json, with the keys of PEFT 0.21 in its order. */
export function formatPeftConfig(settings: LoraSettings, baseModel: string): string {
  const config = {
    alora_invocation_tokens: null,
    alpha_pattern: {},
    arrow_config: null,
    auto_mapping: null,
    base_model_name_or_path: baseModel,
    bias: "none",
    corda_config: null,
    ensure_weight_tying: false,
    eva_config: null,
    exclude_modules: null,
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    kasa_config: null,
    layer_replication: null,
    layers_pattern: null,
    layers_to_transform: null,
    loftq_config: {},
    lora_alpha: settings.loraAlpha,
    lora_bias: false,
    lora_dropout: 0,
    lora_ga_config: null,
    megatron_config: null,
    megatron_core: "megatron.core",
    modules_to_save: null,
    monteclora_config: null,
    peft_type: "LORA",
    peft_version: "0.21.0",
    qalora_group_size: 16,
    r: settings.r,
    rank_pattern: {},
    revision: null,
    target_modules: settings.targetModules,
    target_parameters: null,
    task_type: "CAUSAL_LM",
    trainable_token_indices: null,
    use_bdlora: null,
    use_dora: false,
    use_qalora: false,
    use_rslora: settings.useRslora,
    velora_config: null,
  };
  return JSON.stringify(config, null, 2);
}
