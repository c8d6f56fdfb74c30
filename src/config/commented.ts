import { parse } from "yaml";
import { yamlText } from "./dump.ts";
import type { SettingKey } from "./keys.ts";

/** A setting, and why it has this value. */
export interface CommentedSetting {
  readonly key: SettingKey;
  readonly value: unknown;
  /** One line. */
  readonly comment: string;
}

/** A block of a config under a title. */
export interface ConfigPart {
  readonly title: string;
  readonly settings: readonly CommentedSetting[];
}

/** A config as YAML, a comment above each key. Settings of one section (`lora.r`) must follow each other. */
export function commentedConfig(header: readonly string[], parts: readonly ConfigPart[]): string {
  const blocks = parts
    .filter(({ settings }) => settings.length > 0)
    .map(({ title, settings }) => [`# --- ${title} ---`, "", ...settings.flatMap(linesOf)].join("\n"));
  return `${[header.map((line) => `# ${line}`.trimEnd()).join("\n"), ...blocks].join("\n\n")}\n`;
}

function linesOf({ key, value, comment }: CommentedSetting, i: number, all: readonly CommentedSetting[]): string[] {
  const [first, inner] = key.split(".") as [string, string?];
  if (inner === undefined) return [`# ${comment}`, `${first}: ${valueText(value)}`];
  const opening = all[i - 1]?.key.startsWith(`${first}.`) ? [] : [`${first}:`];
  return [...opening, `  # ${comment}`, `  ${inner}: ${valueText(value)}`];
}

/** Without quotes where no reader of YAML could take the text for something else. */
function valueText(value: unknown): string {
  const isPlain =
    typeof value === "string" &&
    /^[\w./@][\w./@+-]*$/.test(value) &&
    (["1.1", "1.2"] as const).every((version) => parse(value, { version }) === value);
  return isPlain ? value : yamlText(value);
}
