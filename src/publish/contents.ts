import { readdir } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import type { PushedPart } from "../config/names.ts";
import { InputError } from "../errors.ts";
import { withValues } from "../export/model-config.ts";
import { looksLikeHubId } from "../hub/resolve.ts";
import type { UploadFile } from "../hub/upload.ts";
import { printable } from "../text.ts";
import { TEMPORARY_SUFFIX } from "../weights/atomic-file.ts";
import { findInFolder } from "../weights/folder-files.ts";
import { CONFIG_FILE } from "../weights/model-folder.ts";
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from "../weights/peft-adapter.ts";
import { fileError, openRegularFile, readTextFile } from "../weights/regular-file.ts";
import { parseStrictJsonObject } from "../weights/strict-json.ts";
import type { HubBase } from "./finished-run.ts";

export const CARD_FILE = "README.md";

/** The files of adapter/ or merged/ as they go. */
export interface Contents {
  readonly files: readonly UploadFile[];
  /** The user's own model card; null where there is none in the folder. */
  readonly ownCard: string | null;
  /** Folders and hidden files, which do not go. */
  readonly leftOut: readonly string[];
}

const MAX_JSON_BYTES = 2 ** 24;
const MAX_CARD_BYTES = 2 ** 22;

/**
 * What of adapter/ or merged/ goes: its files, but for hidden ones. Where one names a place on this machine, it goes
 * without.
 *
 * @param base null where none is known
 * @throws InputError where it is no such folder, or an adapter whose base nobody could find
 */
export async function readContents(folder: string, what: PushedPart, base: HubBase | null): Promise<Contents> {
  const names = await namesIn(folder, what);
  requireWhole(folder, what, names);
  const files: UploadFile[] = [];
  let ownCard: string | null = null;
  for (const name of names.kept) {
    const file = await findInFolder(folder, name);
    if (file === undefined) continue;
    if (name === CARD_FILE) ownCard = await readTextFile(file, MAX_CARD_BYTES);
    else files.push(await uploadFile(file, name, base));
  }
  return { files, ownCard, leftOut: names.leftOut };
}

async function namesIn(folder: string, what: PushedPart): Promise<{ kept: string[]; leftOut: string[] }> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    const isKept = (entry: (typeof entries)[number]) => !entry.isDirectory() && !entry.name.startsWith(".");
    const visible = entries.filter(({ name }) => !name.endsWith(TEMPORARY_SUFFIX));
    return {
      kept: visible
        .filter(isKept)
        .map(({ name }) => name)
        .sort(),
      leftOut: visible
        .filter((entry) => !isKept(entry))
        .map(({ name }) => name)
        .sort(),
    };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw fileError(folder, "read", error);
    const other =
      what === "merged"
        ? "push the adapter with --what adapter, or make it with dpo-train merge"
        : "the run has not written it, or it was removed";
    throw new InputError(`${printable(folder, 1000)} is not there: ${other}`);
  }
}

function requireWhole(folder: string, what: PushedPart, { kept }: { kept: readonly string[] }): void {
  const needed = what === "adapter" ? [ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE] : [CONFIG_FILE];
  const missing = needed.filter((name) => !kept.includes(name));
  if (what === "merged" && !kept.some((name) => name.endsWith(".safetensors"))) missing.push("*.safetensors");
  if (missing.length > 0)
    throw new InputError(`${printable(folder, 1000)} must hold ${missing.join(" and ")}: found none`);
}

async function uploadFile(file: string, name: string, base: HubBase | null): Promise<UploadFile> {
  const text = await rewritten(file, name, base);
  if (text !== null) return textFile(name, text);
  const { handle, sizeBytes } = await openRegularFile(file);
  await handle.close();
  return { path: name, sizeBytes, content: pathToFileURL(file) };
}

/** A file that is not on this machine. */
export function textFile(name: string, text: string): UploadFile {
  const content = new Blob([text]);
  return { path: name, sizeBytes: content.size, content };
}

/** Where transformers keeps, or kept, what a model was loaded from. */
const ORIGINS: Readonly<Record<string, readonly string[]>> = {
  [CONFIG_FILE]: ["_name_or_path"],
  "tokenizer_config.json": ["name_or_path", "special_tokens_map_file", "tokenizer_file"],
};

/** The text of a file that goes otherwise than it is; null where it goes as it is. */
async function rewritten(file: string, name: string, base: HubBase | null): Promise<string | null> {
  if (name === ADAPTER_CONFIG_FILE) return adapterConfig(file, base);
  const keys = ORIGINS[name];
  if (keys === undefined) return null;
  const text = await readTextFile(file, MAX_JSON_BYTES);
  const config = parseStrictJsonObject(text, file);
  const paths = keys.filter((key) => {
    const origin = config.get(key);
    return typeof origin === "string" && origin !== "" && !looksLikeHubId(origin);
  });
  return paths.length === 0 ? null : withValues(text, file, Object.fromEntries(paths.map((key) => [key, undefined])));
}

async function adapterConfig(file: string, base: HubBase | null): Promise<string | null> {
  if (base === null) {
    throw new InputError(
      `${printable(file, 1000)}: the base of the adapter is a folder of this machine, where nobody else finds it: name its Hub id with --base-model owner/name (push_to_hub.base_model), or push the merged model with --what merged`,
    );
  }
  const text = await readTextFile(file, MAX_JSON_BYTES);
  const config = parseStrictJsonObject(text, file);
  const isNamed = config.get("base_model_name_or_path") === base.name;
  // Of the base, by which AutoPeftModel loads it.
  const isPinned = (config.get("revision") ?? null) === base.commit;
  if (isNamed && isPinned) return null;
  const revision = isPinned ? {} : { revision: base.commit ?? undefined };
  return withValues(text, file, { base_model_name_or_path: base.name, ...revision });
}
