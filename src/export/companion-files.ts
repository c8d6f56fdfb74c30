import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { isCompanionFile } from "../hub/model-files.ts";
import { AtomicFile } from "../weights/atomic-file.ts";
import { findInFolder } from "../weights/folder-files.ts";
import { CONFIG_FILE } from "../weights/model-folder.ts";
import { openRegularFile, readExactly } from "../weights/regular-file.ts";

const COPY_BYTES = 2 ** 20;

/** Made anew for the merged model: the base's would describe another model. */
const NOT_COPIED = new Set(
  [CONFIG_FILE, "README", "README.md", "README.txt", "README.pdf"].map((name) => name.toLowerCase()),
);

/**
 * Copies what belongs to a model besides weights and config.json, as it is: tokenizer, chat template, generation config,
 * licences and notices. Returns the names. Throws InputError.
 */
export async function copyCompanionFiles(from: string, to: string): Promise<string[]> {
  const names = (await readdir(from)).filter((name) => isCompanionFile(name) && !NOT_COPIED.has(name.toLowerCase()));
  const copied: string[] = [];
  for (const name of names.sort()) {
    const path = await findInFolder(from, name);
    if (path === undefined) continue;
    await copyFile(path, join(to, name));
    copied.push(name);
  }
  return copied;
}

async function copyFile(from: string, to: string): Promise<void> {
  const source = await openRegularFile(from);
  try {
    const target = await AtomicFile.create(to);
    try {
      const buffer = new Uint8Array(Math.min(COPY_BYTES, source.sizeBytes));
      for (let at = 0; at < source.sizeBytes; at += buffer.byteLength) {
        const piece = buffer.subarray(0, Math.min(buffer.byteLength, source.sizeBytes - at));
        await readExactly(source.handle, from, piece, at);
        await target.write(piece);
      }
      await target.seal();
      await target.publish();
    } catch (error) {
      await target.discard();
      throw error;
    }
  } finally {
    await source.handle.close();
  }
}
