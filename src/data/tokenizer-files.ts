import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { findInFolder, requireFolder } from "../weights/folder-files.ts";
import { readTextFile } from "../weights/regular-file.ts";

/** Far above any published tokenizer (Llama 3's has 17 MB). */
const MAX_FILE_BYTES = 256 * 2 ** 20;

export type JsonFields = Record<string, unknown>;

/** The texts of a tokenizer's special tokens, as transformers reads them. */
export interface SpecialTokenTexts {
  /** By name: `bos_token`, `eos_token` and whatever else the files name so. */
  named: Record<string, string>;
  /** Tokens without a name of their own. */
  extra: string[];
}

export interface TokenizerFiles {
  tokenizer: JsonFields;
  config: JsonFields;
  specialTokens: SpecialTokenTexts;
  chatTemplate: { text: string; place: string } | undefined;
}

/**
 * Reads a model folder's tokenizer.json and tokenizer_config.json and, where they are, special_tokens_map.json and
 * chat_template.jinja, with the precedence transformers gives them.
 *
 * @throws InputError when a file is missing or malformed
 */
export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  await requireFolder(folder, "a model folder");
  const [tokenizer, config, specialTokensMap, templateText] = await Promise.all([
    readJsonObject(folder, "tokenizer.json"),
    readJsonObject(folder, "tokenizer_config.json"),
    readJsonObject(folder, "special_tokens_map.json"),
    readText(folder, "chat_template.jinja"),
  ]);
  const missing = tokenizer === undefined ? "tokenizer.json" : "tokenizer_config.json";
  if (tokenizer === undefined || config === undefined) {
    throw new InputError(
      `${printable(folder)}: a model folder must hold ${missing}, found none; copy it from the model`,
    );
  }
  // transformers reads special_tokens_map.json only beside a config that does not list the added tokens itself.
  const namedTokens = config.added_tokens_decoder === undefined ? { ...config, ...specialTokensMap } : config;
  return {
    tokenizer,
    config,
    specialTokens: specialTokenTexts(namedTokens),
    chatTemplate:
      templateText === undefined
        ? configuredChatTemplate(config.chat_template, `${folder}/tokenizer_config.json`)
        : { text: templateText, place: `${folder}/chat_template.jinja` },
  };
}

async function readText(folder: string, name: string): Promise<string | undefined> {
  const path = await findInFolder(folder, name);
  return path === undefined ? undefined : readTextFile(path, MAX_FILE_BYTES);
}

async function readJsonObject(folder: string, name: string): Promise<JsonFields | undefined> {
  const text = await readText(folder, name);
  if (text === undefined) return undefined;
  const place = printable(`${folder}/${name}`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new InputError(`${place}: must be JSON: ${printable((cause as Error).message)}`, { cause });
  }
  if (!isFields(value)) throw new InputError(`${place}: must be a JSON object`);
  return value;
}

function specialTokenTexts(fields: JsonFields): SpecialTokenTexts {
  const named: Record<string, string> = {};
  for (const [name, value] of Object.entries(fields)) {
    const text = name.endsWith("_token") ? tokenText(value) : undefined;
    if (text !== undefined) named[name] = text;
  }
  const listed = fields.extra_special_tokens ?? fields.additional_special_tokens;
  const extra = Array.isArray(listed) ? listed.map(tokenText).filter((text) => text !== undefined) : [];
  return { named, extra };
}

/** A token is written as its text or as an object with its `content`. */
function tokenText(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  return isFields(value) && typeof value.content === "string" ? value.content : undefined;
}

function configuredChatTemplate(value: unknown, place: string): { text: string; place: string } | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "string") return { text: value, place };
  // Several templates: a list of {name, template}, of which "default" is the one for plain conversations.
  const entries: unknown[] = Array.isArray(value) ? value : [];
  const fallback = entries.filter(isFields).find(({ name }) => name === "default");
  if (typeof fallback?.template === "string") return { text: fallback.template, place };
  throw new InputError(`${printable(place)}: chat_template must be text or a list with a template named default`);
}

export function isFields(value: unknown): value is JsonFields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
