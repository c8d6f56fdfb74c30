import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { requirePlainFileName } from "./file-name.ts";
import { refuseOtherWeightFormats } from "./safetensors-header.ts";
import { describeJson, isJsonObject, parseStrictJsonObject } from "./strict-json.ts";

export const WEIGHTS_FILE = "model.safetensors";
export const INDEX_FILE = "model.safetensors.index.json";

/** Llama-3.1-405B has 191 shards. Each is held open, so their number is bounded. */
const MAX_SHARDS = 1000;

/** Parses a model.safetensors.index.json into tensor name → shard file name. Throws InputError. */
export function parseModelIndex(jsonText: string, fileName: string): ReadonlyMap<string, string> {
  const place = printable(fileName);
  const weightMap = parseStrictJsonObject(jsonText, fileName).get("weight_map");
  if (!isJsonObject(weightMap) || weightMap.size === 0) {
    throw new InputError(
      `${place}: weight_map must be an object from tensor names to shard files, found ${describeJson(weightMap)}`,
    );
  }
  const shards = new Map<string, string>();
  for (const [tensor, shard] of weightMap) {
    const where = `${fileName}: weight_map of "${tensor}"`;
    if (typeof shard !== "string") {
      throw new InputError(`${printable(where)}: must be the name of a shard file, found ${describeJson(shard)}`);
    }
    requirePlainFileName(shard, where);
    refuseOtherWeightFormats(shard);
    if (!shard.endsWith(".safetensors")) {
      throw new InputError(`${printable(where)}: must be a .safetensors file, found "${printable(shard)}"`);
    }
    shards.set(tensor, shard);
  }
  const count = new Set(shards.values()).size;
  if (count > MAX_SHARDS) throw new InputError(`${place}: must name at most ${MAX_SHARDS} shards, found ${count}`);
  return shards;
}
