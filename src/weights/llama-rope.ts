import type { ConfigReader } from "./config-reader.ts";
import { describeJson, isJsonNumber, isJsonObject, type JsonObject, type JsonValue, jsonSize } from "./strict-json.ts";

/** Llama 3.1's change of the rotary frequencies for long contexts. */
export interface RopeScaling {
  readonly factor: number;
  readonly lowFreqFactor: number;
  /** Above lowFreqFactor. */
  readonly highFreqFactor: number;
  /** Context length before scaling, in tokens. */
  readonly originalMaxPositionEmbeddings: number;
}

/** Rotary position embedding: the base of the frequencies, and their scaling ("llama3") or null ("default"). */
export interface Rope {
  readonly theta: number;
  readonly scaling: RopeScaling | null;
}

const DEFAULT_THETA = 10_000;
const MAX_POSITIONS = 2 ** 30;

/**
 * Rope settings from a config.json: `rope_parameters` (transformers 5), or `rope_theta` with `rope_scaling`, as
 * transformers' RotaryEmbeddingConfigMixin reads them; but where two keys contradict each other it is a problem here.
 */
export function parseRope(config: ConfigReader, maxPositionEmbeddings: number): Rope {
  checkPartialRotaryFactor(config);
  const found: { key: string; rope: Rope }[] = [];
  const theta = config.get("rope_theta") === undefined ? undefined : config.positiveNumber("rope_theta");
  for (const key of ["rope_parameters", "rope_scaling"]) {
    const value = config.get(key);
    if (value === undefined || value === null) continue;
    if (!isJsonObject(value)) config.problem(`${key} must be an object or null, found ${describeJson(value)}`);
    else if (value.size > 0) found.push({ key, rope: parseObject(config, key, value, theta, maxPositionEmbeddings) });
  }
  const [first, second] = found;
  if (first !== undefined && second !== undefined && JSON.stringify(first.rope) !== JSON.stringify(second.rope)) {
    config.problem("rope_parameters and rope_scaling must agree where both are given, found different settings");
  }
  return first?.rope ?? { theta: theta ?? DEFAULT_THETA, scaling: null };
}

function parseObject(
  config: ConfigReader,
  key: string,
  object: JsonObject,
  outerTheta: number | undefined,
  maxPositions: number,
): Rope {
  const rope = config.nested(key, object);
  for (const [name, value] of object) {
    if (isJsonObject(value)) rope.problem(`${name} must not be an object: rope by kind of layer is not supported`);
  }
  checkPartialRotaryFactor(rope);
  let theta = outerTheta ?? DEFAULT_THETA;
  if (rope.get("rope_theta") !== undefined) {
    theta = rope.positiveNumber("rope_theta");
    const areSound = config.isSound("rope_theta") && rope.isSound("rope_theta");
    if (areSound && outerTheta !== undefined && outerTheta !== theta) {
      rope.problem(
        `rope_theta must agree with the outer rope_theta where both are given, found ${theta} and ${outerTheta}`,
      );
    }
  }
  const type = readType(rope);
  if (type !== "default" && type !== "llama3") {
    rope.problem(`rope_type must be "default" or "llama3", found ${describeJson(type)}`);
  }
  return { theta, scaling: type === "llama3" ? readScaling(config, rope, maxPositions) : null };
}

function readType(rope: ConfigReader): JsonValue {
  const type = rope.get("rope_type");
  const olderType = rope.get("type");
  if (type !== undefined && olderType !== undefined && type !== olderType) {
    rope.problem(
      `rope_type and type must agree where both are given, found ${describeJson(type)} and ${describeJson(olderType)}`,
    );
  }
  if (type !== undefined) return type;
  return olderType === undefined ? "default" : olderType;
}

function readScaling(config: ConfigReader, rope: ConfigReader, maxPositionEmbeddings: number): RopeScaling {
  const lowFreqFactor = rope.positiveNumber("low_freq_factor");
  const highFreqFactor = rope.positiveNumber("high_freq_factor");
  if (rope.isSound("low_freq_factor", "high_freq_factor") && highFreqFactor <= lowFreqFactor) {
    rope.problem(`high_freq_factor must be above low_freq_factor, found ${highFreqFactor} and ${lowFreqFactor}`);
  }
  return {
    factor: rope.positiveNumber("factor"),
    lowFreqFactor,
    highFreqFactor,
    originalMaxPositionEmbeddings: readOriginalLength(config, rope, maxPositionEmbeddings),
  };
}

// transformers lets a key of the outer object win over the nested one.
function readOriginalLength(config: ConfigReader, rope: ConfigReader, maxPositionEmbeddings: number): number {
  const key = "original_max_position_embeddings";
  const outer = config.get(key);
  const inner = rope.get(key);
  if (outer !== undefined && inner !== undefined && jsonSize(outer) !== jsonSize(inner)) {
    rope.problem(
      `${key} must agree with the outer ${key} where both are given, found ${describeJson(inner)} and ${describeJson(outer)}`,
    );
  }
  return (outer === undefined ? rope : config).size(key, maxPositionEmbeddings, MAX_POSITIONS);
}

function checkPartialRotaryFactor(reader: ConfigReader): void {
  const value = reader.get("partial_rotary_factor");
  if (value === undefined || value === null || (isJsonNumber(value) && Number(value.source) === 1)) return;
  reader.problem(`partial_rotary_factor must be 1: rope turns whole heads, found ${describeJson(value)}`);
}
