import type { ExportDtype } from "../config/names.ts";
import { isJsonNumber, isJsonObject, type JsonValue, parseStrictJsonObject } from "../weights/strict-json.ts";

/** The two names of a config's dtype: transformers reads both, and writes the first since version 4.56. */
const DTYPE_KEYS = ["dtype", "torch_dtype"] as const;

/**
 * A config.json with the dtype of its weights set, and nothing else changed: keys keep their order, numbers their digits.
 * Where it names no dtype it gets `torch_dtype`, which old and new readers know. Throws InputError.
 */
export function setConfigDtype(jsonText: string, fileName: string, dtype: ExportDtype): string {
  const config = parseStrictJsonObject(jsonText, fileName);
  const present = DTYPE_KEYS.filter((key) => config.has(key));
  for (const key of present.length > 0 ? present : ["torch_dtype"]) config.set(key, dtype);
  return `${formatJson(config)}\n`;
}

/** JSON of an object with other values under some keys, or without them (undefined), and nothing else changed. Throws InputError. */
export function withValues(
  jsonText: string,
  fileName: string,
  values: Readonly<Record<string, string | undefined>>,
): string {
  const object = parseStrictJsonObject(jsonText, fileName);
  for (const [key, value] of Object.entries(values)) {
    if (value === undefined) object.delete(key);
    else object.set(key, value);
  }
  return `${formatJson(object)}\n`;
}

/** JSON as Python's json.dumps(indent=2) lays it out. */
function formatJson(value: JsonValue, indent = ""): string {
  const inner = `${indent}  `;
  if (isJsonNumber(value)) return value.source;
  if (Array.isArray(value)) {
    if (value.length === 0) return "[]";
    return `[\n${value.map((item) => inner + formatJson(item, inner)).join(",\n")}\n${indent}]`;
  }
  if (!isJsonObject(value)) return JSON.stringify(value);
  if (value.size === 0) return "{}";
  const entries = [...value].map(([key, item]) => `${inner}${JSON.stringify(key)}: ${formatJson(item, inner)}`);
  return `{\n${entries.join(",\n")}\n${indent}}`;
}
