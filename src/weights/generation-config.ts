import { ConfigReader } from "./config-reader.ts";
import { findInFolder } from "./folder-files.ts";
import type { LlamaConfig } from "./llama-config.ts";
import { throwProblems } from "./problems.ts";
import { readTextFile } from "./regular-file.ts";
import { describeJson, jsonSize, parseStrictJsonObject } from "./strict-json.ts";

const GENERATION_CONFIG_FILE = "generation_config.json";
const MAX_BYTES = 2 ** 20;

/**
 * The tokens that end an answer: those of config.json and, where a model folder has one, of generation_config.json, in
 * which chat models often name more. @throws InputError when that file is malformed
 */
export async function readEosTokenIds(folder: string, config: LlamaConfig): Promise<number[]> {
  const path = await findInFolder(folder, GENERATION_CONFIG_FILE);
  if (path === undefined) return [...config.eosTokenIds];
  const reader = new ConfigReader(parseStrictJsonObject(await readTextFile(path, MAX_BYTES), path));
  const value = reader.get("eos_token_id") ?? [];
  const ids = (Array.isArray(value) ? value : [value]).map(jsonSize);
  if (ids.some((id) => id === undefined || id >= config.vocabSize)) {
    const last = config.vocabSize - 1;
    reader.problem(
      `eos_token_id must be a token from 0 to ${last} (vocab_size − 1), a list of such, or null, found ${describeJson(value)}`,
    );
  }
  throwProblems(path, reader.problems);
  return [...new Set([...config.eosTokenIds, ...ids.filter((id) => id !== undefined)])];
}
