import { SETTING_KEYS, type SettingKey } from "./keys.ts";
import { MAX_RUNS, NOT_SWEPT, SWEEP_METRICS } from "./sweep-section.ts";

/** A JSON Schema, or a part of one. */
export type JsonSchema = Readonly<Record<string, unknown>>;

/** `sweep:` as JSON Schema, inside the schema of the config, whose settings it refers to. */
export function sweepJsonSchema(): JsonSchema {
  return {
    description: "Many runs in place of one, for dpo-train sweep: a grid, a random search or a list of runs.",
    type: "object",
    properties: {
      grid: {
        description: "Every combination of the values listed for each setting.",
        ...settings(values),
      },
      random: {
        description: "sweep.count runs, drawn from a distribution for each setting.",
        ...settings(distribution),
      },
      runs: {
        description: "These runs, each by the settings that make it differ.",
        type: "array",
        minItems: 1,
        maxItems: MAX_RUNS,
        items: settings(value),
      },
      count: {
        description: "How many runs random draws.",
        type: "integer",
        minimum: 1,
        maximum: MAX_RUNS,
      },
      seed: {
        description: "What random draws with.",
        default: 0,
        type: "integer",
        minimum: 0,
        maximum: 0xffffffff,
      },
      metric: {
        description:
          "What runs are compared by. Losses of runs with different beta are not on one scale; accuracies are.",
        default: "eval_loss",
        enum: SWEEP_METRICS.map(({ name }) => name),
      },
    },
    additionalProperties: false,
    oneOf: [
      { required: ["grid"], properties: without("random", "runs", "count", "seed") },
      { required: ["random", "count"], properties: without("grid", "runs") },
      { required: ["runs"], properties: without("grid", "random", "count", "seed") },
    ],
  };
}

function without(...keys: string[]): JsonSchema {
  return Object.fromEntries(keys.map((key) => [key, false]));
}

/** A map from settings, each as `--set` names it, to what `schemaOf` makes of them. */
function settings(schemaOf: (key: SettingKey) => JsonSchema): JsonSchema {
  const swept = SETTING_KEYS.filter((key) => !Object.hasOwn(NOT_SWEPT, key));
  const properties = Object.fromEntries(swept.map((key) => [key, schemaOf(key)]));
  return { type: "object", properties, minProperties: 1, additionalProperties: false };
}

/** A setting's own value, or null for its default. */
function value(key: SettingKey): JsonSchema {
  return { anyOf: [{ $ref: `#/properties/${key.split(".").join("/properties/")}` }, { type: "null" }] };
}

function values(key: SettingKey): JsonSchema {
  const items = { $ref: `#/properties/sweep/properties/runs/items/properties/${key}` };
  return { type: "array", minItems: 1, uniqueItems: true, items };
}

function distribution(key: SettingKey): JsonSchema {
  const list = { $ref: `#/properties/sweep/properties/grid/properties/${key}` };
  return { anyOf: [list, onlyKey("choice", list), { $ref: "#/$defs/range" }] };
}

function onlyKey(key: string, schema: JsonSchema): JsonSchema {
  return { type: "object", properties: { [key]: schema }, required: [key], additionalProperties: false };
}

function lowHigh(items: JsonSchema): JsonSchema {
  return { description: "[low, high]", type: "array", minItems: 2, maxItems: 2, uniqueItems: true, items };
}

/** What the distributions refer to. */
export const SWEEP_DEFINITIONS: JsonSchema = {
  range: {
    anyOf: [
      onlyKey("uniform", lowHigh({ type: "number" })),
      onlyKey("log_uniform", lowHigh({ type: "number", exclusiveMinimum: 0 })),
    ],
  },
};
