import { z } from "zod";
import { SHORT_FORM } from "./keys.ts";
import { ALTERNATIVES } from "./rules.ts";
import { configSchema } from "./schema.ts";
import { type JsonSchema, SWEEP_DEFINITIONS, sweepJsonSchema } from "./sweep-json-schema.ts";

/** The settings of a run as JSON Schema (draft 2020-12). */
export function configJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(configSchema, {
    io: "input",
    override: ({ jsonSchema }) => {
      // A bound of the number format, not of the setting.
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
    },
  });
}

/**
 * A config file as JSON Schema, for completion and checks in an editor: the settings of a run, and `sweep:`. Whatever
 * loads is valid; rules between settings are checked when it is loaded, but for keys that exclude each other.
 */
export function configFileJsonSchema(): JsonSchema {
  const { $schema, properties, required, ...rest } = configJsonSchema();
  return {
    $schema,
    title: "A config of dpo-train",
    ...rest,
    properties: { ...withShortForm(properties as JsonSchema), sweep: sweepJsonSchema() },
    $defs: SWEEP_DEFINITIONS,
    // A sweep may go over the model too, and set one of two keys in place of the other.
    if: { not: { required: ["sweep"] } },
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema; nothing awaits it.
    then: { required, allOf: ALTERNATIVES.map((pair) => ({ not: { required: pair } })) },
  };
}

/** A section that a text may stand for takes that text too. */
function withShortForm(properties: JsonSchema): JsonSchema {
  const { section, setting } = SHORT_FORM;
  const { description, default: otherwise, ...map } = properties[section] as JsonSchema;
  const { type } = (map.properties as Readonly<Record<string, JsonSchema>>)[setting]!;
  return { ...properties, [section]: { description, default: otherwise, anyOf: [{ type }, map] } };
}
