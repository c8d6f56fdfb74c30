import { ConfigReader } from "./config-reader.ts";
import { parseRope, type Rope } from "./llama-rope.ts";
import { throwProblems } from "./problems.ts";
import { describeJson, isJsonNumber, isJsonObject, jsonSize, parseStrictJsonObject } from "./strict-json.ts";

export type { Rope, RopeScaling } from "./llama-rope.ts";

/** What a Llama model's config.json says, as far as it decides shapes and mathematics. Sizes are in elements. */
export interface LlamaConfig {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  /** Query heads. */
  readonly heads: number;
  /** A divisor of `heads`: each key-value head serves heads / keyValueHeads query heads. */
  readonly keyValueHeads: number;
  /** Even. heads · headDim need not equal hiddenSize. */
  readonly headDim: number;
  readonly rmsNormEps: number;
  readonly tieWordEmbeddings: boolean;
  readonly maxPositionEmbeddings: number;
  readonly rope: Rope;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  readonly padTokenId: number | null;
  /** As declared, such as "bfloat16". The files' own dtypes decide. */
  readonly dtype: string | null;
}

/**
 * Upper limits far above any Llama model (Llama-3.1-405B: 128256, 16384, 53248, 126, 128), so that no product of two
 * sizes overflows and nothing absurd is allocated.
 */
const MAX_SIZES = {
  vocab_size: 2 ** 24,
  hidden_size: 2 ** 17,
  intermediate_size: 2 ** 20,
  num_hidden_layers: 2 ** 12,
  num_attention_heads: 2 ** 12,
  num_key_value_heads: 2 ** 12,
  head_dim: 2 ** 12,
  max_position_embeddings: 2 ** 30,
} as const;

const ARCHITECTURE = "LlamaForCausalLM";

/**
 * Parses a config.json. Absent keys have the defaults of transformers' LlamaConfig; unknown keys are ignored, as there.
 * Throws one InputError with a line for each thing that is wrong, not a Llama's, or not supported.
 */
export function parseLlamaConfig(jsonText: string, fileName: string): LlamaConfig {
  const reader = new ConfigReader(parseStrictJsonObject(jsonText, fileName));
  checkIsLlama(reader);
  checkSupported(reader);
  const shape = readShape(reader);
  const tokens = reader.isSound("vocab_size") ? shape.vocabSize : MAX_SIZES.vocab_size;
  const maxPositionEmbeddings = reader.size("max_position_embeddings", 2048, MAX_SIZES.max_position_embeddings);
  const config: LlamaConfig = {
    ...shape,
    rmsNormEps: reader.positiveNumber("rms_norm_eps", 1e-6),
    tieWordEmbeddings: reader.boolean("tie_word_embeddings", false),
    maxPositionEmbeddings,
    rope: parseRope(reader, maxPositionEmbeddings),
    bosTokenId: readTokenId(reader, "bos_token_id", 1, tokens),
    eosTokenIds: readEosTokenIds(reader, tokens),
    padTokenId: readPadTokenId(reader, tokens),
    dtype: reader.optionalString("dtype") ?? reader.optionalString("torch_dtype"),
  };
  throwProblems(fileName, reader.problems);
  return config;
}

function checkIsLlama(reader: ConfigReader): void {
  const modelType = reader.get("model_type");
  const architectures = reader.get("architectures");
  if (modelType !== "llama" && !(modelType === undefined && architectures !== undefined)) {
    reader.problem(
      `model_type must be "llama", the one kind of model that can be trained, found ${describeJson(modelType)}`,
    );
  }
  if (!reader.isSet("architectures")) return;
  if (!Array.isArray(architectures) || architectures.length !== 1 || architectures[0] !== ARCHITECTURE) {
    reader.problem(`architectures must be ["${ARCHITECTURE}"], found ${describeJson(architectures)}`);
  }
}

function checkSupported(reader: ConfigReader): void {
  for (const key of ["attention_bias", "mlp_bias"]) {
    if (reader.boolean(key, false)) reader.problem(`${key} must be false: biases are not supported, found true`);
  }
  if (reader.isSet("sliding_window")) {
    const found = describeJson(reader.get("sliding_window"));
    reader.problem(`sliding_window must be null: only full attention is supported, found ${found}`);
  }
  if (reader.isSet("quantization_config")) {
    const found = describeQuantization(reader);
    reader.problem(`quantization_config must be absent: the model must be stored in 16 or 32 bits, found ${found}`);
  }
  const activation = reader.get("hidden_act");
  if (activation !== undefined && activation !== "silu") {
    reader.problem(`hidden_act must be "silu", found ${describeJson(activation)}`);
  }
  const slices = reader.get("pretraining_tp");
  if (reader.isSet("pretraining_tp") && jsonSize(slices) !== 1) {
    reader.problem(`pretraining_tp must be 1: sliced matrix products are not supported, found ${describeJson(slices)}`);
  }
  const layerTypes = reader.get("layer_types");
  if (Array.isArray(layerTypes) && layerTypes.some((type) => type !== "full_attention")) {
    reader.problem(`layer_types must all be "full_attention", found ${describeJson(layerTypes)}`);
  }
}

function describeQuantization(reader: ConfigReader): string {
  const value = reader.get("quantization_config");
  const method = isJsonObject(value) ? value.get("quant_method") : undefined;
  return method === undefined ? describeJson(value) : `quant_method ${describeJson(method)}`;
}

type Shape = Pick<
  LlamaConfig,
  "vocabSize" | "hiddenSize" | "intermediateSize" | "layers" | "heads" | "keyValueHeads" | "headDim"
>;

function readShape(reader: ConfigReader): Shape {
  const size = (key: keyof typeof MAX_SIZES, fallback: number) => reader.size(key, fallback, MAX_SIZES[key]);
  const hiddenSize = size("hidden_size", 4096);
  const heads = size("num_attention_heads", 32);
  const keyValueHeads = reader.isSet("num_key_value_heads") ? size("num_key_value_heads", heads) : heads;
  if (reader.isSound("num_attention_heads", "num_key_value_heads") && heads % keyValueHeads !== 0) {
    reader.problem(
      `num_attention_heads must be a multiple of num_key_value_heads, found ${heads} and ${keyValueHeads}`,
    );
  }
  const headDim = readHeadDim(reader, hiddenSize, heads);
  return {
    vocabSize: size("vocab_size", 32000),
    hiddenSize,
    intermediateSize: size("intermediate_size", 11008),
    layers: size("num_hidden_layers", 32),
    heads,
    keyValueHeads,
    headDim,
  };
}

function readHeadDim(reader: ConfigReader, hiddenSize: number, heads: number): number {
  const isGiven = reader.isSet("head_dim");
  const headDim = isGiven ? reader.size("head_dim", 128, MAX_SIZES.head_dim) : hiddenSize / heads;
  if (!reader.isSound("hidden_size", "num_attention_heads", "head_dim")) return headDim;
  if (!Number.isInteger(headDim)) {
    reader.problem(
      `hidden_size must be a multiple of num_attention_heads where head_dim is not given, found ${hiddenSize} and ${heads}`,
    );
  } else if (headDim % 2 !== 0) {
    reader.problem(`head_dim must be even: rope turns pairs of elements, found ${headDim}`);
  }
  return headDim;
}

function readTokenId(reader: ConfigReader, key: string, fallback: number | null, vocabSize: number): number | null {
  const value = reader.get(key);
  if (value === undefined) return fallback;
  if (value === null) return null;
  const id = jsonSize(value);
  if (id !== undefined && id < vocabSize) return id;
  reader.problem(
    `${key} must be a token from 0 to ${vocabSize - 1} (vocab_size − 1) or null, found ${describeJson(value)}`,
  );
  return null;
}

function readEosTokenIds(reader: ConfigReader, vocabSize: number): number[] {
  const value = reader.get("eos_token_id");
  if (!Array.isArray(value)) {
    const id = readTokenId(reader, "eos_token_id", 2, vocabSize);
    return id === null ? [] : [id];
  }
  const ids = value.flatMap((item) => {
    const id = jsonSize(item);
    return id !== undefined && id < vocabSize ? [id] : [];
  });
  if (ids.length !== value.length) {
    reader.problem(
      `eos_token_id must list tokens from 0 to ${vocabSize - 1} (vocab_size − 1), found ${describeJson(value)}`,
    );
  }
  return ids;
}

// Files of the first Llama models write -1 for "none".
function readPadTokenId(reader: ConfigReader, vocabSize: number): number | null {
  const value = reader.get("pad_token_id");
  if (isJsonNumber(value) && value.source === "-1") return null;
  return readTokenId(reader, "pad_token_id", null, vocabSize);
}
