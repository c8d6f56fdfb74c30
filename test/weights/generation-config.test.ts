import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { InputError } from "../../src/errors.ts";
import { readEosTokenIds } from "../../src/weights/generation-config.ts";
import { readLlamaConfig } from "../../src/weights/model-folder.ts";
import { TWIN_TINY } from "../data/folders.ts";

const config = { ...(await readLlamaConfig(TWIN_TINY)), vocabSize: 100, eosTokenIds: [7, 8] };

async function folderWith(generationConfig: string | null): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "dpo-train-weights-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  if (generationConfig !== null) await writeFile(join(folder, "generation_config.json"), generationConfig);
  return folder;
}

it.each([
  [null, [7, 8]],
  ["{}", [7, 8]],
  ['{"eos_token_id": null}', [7, 8]],
  ['{"eos_token_id": []}', [7, 8]],
  ['{"eos_token_id": 9, "top_p": 0.9}', [7, 8, 9]],
  ['{"eos_token_id": [0, 8, 99]}', [7, 8, 0, 99]],
])("generation_config.json %s: an answer ends at %j", async (text, ids) => {
  expect(await readEosTokenIds(await folderWith(text), config)).toEqual(ids);
});

it.each(["100", "-1", "1.0", '"7"', "[1, null]", "[[1]]", "true", "{}"])(
  "eos_token_id %s is refused",
  async (value) => {
    const folder = await folderWith(`{"eos_token_id": ${value}}`);
    const reading = readEosTokenIds(folder, config);
    await expect(reading).rejects.toThrow(InputError);
    await expect(reading).rejects.toThrow(
      `${join(folder, "generation_config.json")}: eos_token_id must be a token from 0 to 99`,
    );
  },
);

it.each(["", "[]", '{"eos_token_id": 1, "eos_token_id": 2}', "{'a': 1}"])("the file %j is refused", async (text) => {
  await expect(readEosTokenIds(await folderWith(text), config)).rejects.toThrow(InputError);
});
