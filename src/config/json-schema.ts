import { z } from "zod";
import { configSchema } from "./schema.ts";

/** The config as JSON Schema (draft 2020-12), for completion and checks in an editor. */
export function configJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(configSchema, {
    io: "input",
    override: ({ jsonSchema }) => {
      // A bound of the number format, not of the setting.
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
    },
  });
}
