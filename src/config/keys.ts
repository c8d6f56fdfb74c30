import type { z } from "zod";
import {
  type Config,
  columnsSchema,
  configSchema,
  exportSchema,
  loraSchema,
  pushSchema,
  requirements,
} from "./schema.ts";

/** The keys whose value is a map of settings. */
export const SECTIONS = {
  columns: columnsSchema,
  lora: loraSchema,
  export: exportSchema,
  push_to_hub: pushSchema,
} as const;
type Section = keyof typeof SECTIONS;

/** A setting as messages and `--set` name it: `beta`, `lora.r`. */
export type SettingKey =
  | Exclude<keyof Config, Section>
  | { [S in Section]: `${S}.${Extract<keyof Config[S], string>}` }[Section];

export function isSection(key: string): key is Section {
  return Object.hasOwn(SECTIONS, key);
}

/** A section that a text stands for, and the setting in it that the text is: `push_to_hub: owner/name`. */
export const SHORT_FORM = { section: "push_to_hub", setting: "repo" } as const;

/** Schemas of all settings and sections, in the order of the schema. */
const SCHEMAS: ReadonlyMap<string, z.ZodType> = new Map(
  Object.entries(configSchema.shape).flatMap(([key, schema]): [string, z.ZodType][] =>
    isSection(key)
      ? [
          [key, schema],
          ...Object.entries(SECTIONS[key].shape).map(([inner, s]): [string, z.ZodType] => [`${key}.${inner}`, s]),
        ]
      : [[key, schema]],
  ),
);

/** Every setting in the order of the schema: `model`, …, `lora.r`, `lora.lora_alpha`, … */
export const SETTING_KEYS = [...SCHEMAS.keys()].filter((key) => !isSection(key)) as readonly SettingKey[];

/** True for a setting and for a section. */
export function isKey(key: string): boolean {
  return SCHEMAS.has(key);
}

/** Completes "`key` must be …". */
export function requirementOf(key: string): string {
  const schema = SCHEMAS.get(key);
  const requirement = schema && requirements.get(schema)?.requirement;
  if (requirement === undefined) throw new Error(`internal: the config key ${key} has no requirement`);
  return requirement;
}

/** What a setting is for, in a line. */
export function descriptionOf(key: SettingKey): string {
  const description = SCHEMAS.get(key)?.description;
  if (description === undefined) throw new Error(`internal: the config key ${key} is not described`);
  return description;
}

/** The value of a setting in a loaded config; undefined where it is unset and has no default. */
export function settingOf(config: Config, key: SettingKey): unknown {
  const [first, inner] = key.split(".");
  const value = (config as Readonly<Record<string, unknown>>)[first!];
  return inner === undefined ? value : (value as Readonly<Record<string, unknown>>)[inner];
}
