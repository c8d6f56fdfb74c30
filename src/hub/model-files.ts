/** Which files of a repository make a model folder, and which of their names may be trusted. */
import { SAFETENSORS_FILE, SAFETENSORS_INDEX_FILE } from "@huggingface/hub";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { parseModelIndex } from "../weights/model-index.ts";

/** Without these no model can be trained, whatever its weights. */
export const REQUIRED_FILES: readonly string[] = ["config.json", "tokenizer.json", "tokenizer_config.json"];

const OPTIONAL_FILES = new Set([
  "generation_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "tokenizer.model",
  "vocab.json",
  "merges.txt",
  "chat_template.jinja",
  "chat_template.json",
]);

/** Notices that must travel with the weights: `LICENSE`, `LICENSE.txt`, `USE_POLICY.md`, … */
const NOTICE = /^(README|LICEN[CS]E|NOTICE|USE_POLICY)(\.(md|txt|pdf))?$/i;

/** Letters, digits, `.`, `_` and `-` alone: a name that cannot leave its folder on any system or change a URL. */
const SHARD_NAME = /^\w[\w.-]*\.safetensors$/;

const WEIGHTS_NOT_READ = /\.(bin|pth|pt|gguf|ckpt|h5|msgpack|npz)$/i;

/** Whether a model folder takes this file of a repository whatever the form of its weights. */
export function isCompanionFile(path: string): boolean {
  return REQUIRED_FILES.includes(path) || OPTIONAL_FILES.has(path) || NOTICE.test(path);
}

/** Whether a file may be one of those that hold a model's weights. */
export function isWeightFile(path: string): boolean {
  return path === SAFETENSORS_INDEX_FILE || SHARD_NAME.test(path);
}

/**
 * The distinct shard names in the text of a `model.safetensors.index.json`, in order.
 *
 * @throws InputError when it is not such an index, or names a file outside its own folder.
 */
export function shardNames(indexText: string, place: string): string[] {
  const names = [...new Set(parseModelIndex(indexText, place).values())];
  const odd = names.find((name) => !SHARD_NAME.test(name));
  if (odd === undefined) return names;
  throw new InputError(
    `${place}: shards must have names of letters, digits, ".", "_" and "-" alone, found "${printable(odd)}"`,
  );
}

/**
 * Refuses a listing that holds a path no Git repository can hold (absolute, `..`, NUL): its server is not to be trusted.
 *
 * @throws InputError naming the path.
 */
export function assertRelativePath(path: string, subject: string): void {
  if (path === "" || path.startsWith("/") || path.includes("\0") || path.split("/").includes("..")) {
    throw new InputError(
      `${subject}: the server lists a file that would leave the repository's folder, "${printable(path)}"; nothing was downloaded`,
    );
  }
}

/**
 * Refuses a repository that cannot become a model folder, before anything large is downloaded.
 *
 * @param paths every file of the repository
 * @throws InputError naming what is missing and how to get it.
 */
export function assertModelRepository(paths: readonly string[], subject: string): void {
  if (!paths.includes(SAFETENSORS_FILE) && !paths.includes(SAFETENSORS_INDEX_FILE)) {
    if (paths.includes("adapter_config.json")) {
      throw new InputError(`${subject} is an adapter, not a model: give its base model here`);
    }
    const other = paths.filter((path) => WEIGHTS_NOT_READ.test(path)).slice(0, 3);
    throw new InputError(
      `${subject} has no ${SAFETENSORS_FILE} and no ${SAFETENSORS_INDEX_FILE}` +
        `${other.length > 0 ? ` (it has ${printable(other.join(", "))}, which are not read)` : ""}: ` +
        "load it in Python with transformers, write it with save_pretrained, and give that folder",
    );
  }
  const missing = REQUIRED_FILES.filter((file) => !paths.includes(file));
  if (missing.length > 0) {
    throw new InputError(
      `${subject} has no ${missing.join(" and no ")}: choose a repository in the transformers format, ` +
        "or write one with save_pretrained of the model and of its fast tokenizer, and give that folder",
    );
  }
}
