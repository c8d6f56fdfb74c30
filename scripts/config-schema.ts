import { writeFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { configFileJsonSchema } from "../src/config/json-schema.ts";

// Writes configs/schema.json from the schema: npx tsx scripts/config-schema.ts

export const CONFIG_SCHEMA_PATH = fileURLToPath(new URL("../configs/schema.json", import.meta.url));

export function configSchemaText(): string {
  return `${JSON.stringify(configFileJsonSchema(), null, 2)}\n`;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  writeFileSync(CONFIG_SCHEMA_PATH, configSchemaText());
}
