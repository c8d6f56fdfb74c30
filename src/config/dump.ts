import { EFFECTS } from "./effects.ts";
import { SETTING_KEYS, type SettingKey, settingOf } from "./keys.ts";
import { ALTERNATIVES } from "./rules.ts";
import type { Config } from "./schema.ts";

/**
 * A config as YAML, in the order of the schema, with every default spelled out. What has no effect in it is left out, so
 * that the text loads back to the same config. Readers of YAML 1.1 (PyYAML) and 1.2 understand it alike.
 */
export function dumpConfig(config: Config): string {
  const lines: string[] = [];
  let openSection = "";
  for (const key of SETTING_KEYS.filter((key) => isWritten(config, key))) {
    const [first = "", inner] = key.split(".");
    if (inner !== undefined && first !== openSection) lines.push(`${first}:`);
    openSection = inner === undefined ? "" : first;
    lines.push(`${inner === undefined ? first : `  ${inner}`}: ${yamlText(settingOf(config, key))}`);
  }
  return `${lines.join("\n")}\n`;
}

function isWritten(config: Config, key: SettingKey): boolean {
  const value = settingOf(config, key);
  const isDisplaced = ALTERNATIVES.some(([first, second]) => first === key && settingOf(config, second) !== undefined);
  const isIdle = EFFECTS.some((effect) => effect.key === key && effect.neutral !== value && !effect.isUsed(config));
  return value !== undefined && !isDisplaced && !isIdle;
}

/** A value as YAML that readers of 1.1 and 1.2 understand alike. */
export function yamlText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(yamlText).join(", ")}]`;
  if (typeof value === "string") return quoted(value);
  // YAML 1.1 takes 5e-7 for text, and 5.0e-7 for a number.
  return typeof value === "number" ? String(value).replace(/^(-?\d+)e/, "$1.0e") : String(value);
}

/** JSON's quotes are YAML's. YAML asks for control characters to be escaped that JSON lets stand. */
function quoted(text: string): string {
  return JSON.stringify(text).replace(
    /[\u007f-\u009f\u2028\u2029\ufeff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
