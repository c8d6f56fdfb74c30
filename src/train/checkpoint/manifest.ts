import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { InputError } from "../../errors.ts";
import { printable } from "../../text.ts";
import { writeFileAtomically } from "../../weights/atomic-file.ts";
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from "../../weights/peft-adapter.ts";
import { fileError, openRegularFile, readTextFile } from "../../weights/regular-file.ts";

export const MANIFEST_FILE = "manifest.json";
export const STATE_FILE = "state.json";
export const OPTIMIZER_FILE = "optimizer.safetensors";
export const METRICS_COPY = "metrics.jsonl";

/** What a checkpoint is made of besides its manifest. */
export const CHECKPOINT_FILES = [
  ADAPTER_CONFIG_FILE,
  ADAPTER_WEIGHTS_FILE,
  METRICS_COPY,
  OPTIMIZER_FILE,
  STATE_FILE,
] as const;

export type CheckpointFile = (typeof CHECKPOINT_FILES)[number];
type Hashes = Readonly<Record<CheckpointFile, string>>;

const MAX_MANIFEST_BYTES = 2 ** 16;

/** Writes the last file of a checkpoint: the SHA-256 of each other, in hexadecimal. */
export async function writeManifest(folder: string, hashes: Hashes): Promise<void> {
  await writeFileAtomically(path.join(folder, MANIFEST_FILE), formatManifest(hashes));
}

/** @throws InputError naming the file of a checkpoint that is not what was written */
export async function verifyManifest(folder: string): Promise<void> {
  const manifest = path.join(folder, MANIFEST_FILE);
  const text = await readTextFile(manifest, MAX_MANIFEST_BYTES);
  const hashes = parseManifest(text);
  // Written in one way only: whatever else stands there, somebody else wrote it.
  if (!hashes || formatManifest(hashes) !== text) {
    throw new InputError(`${printable(manifest)}: is not the manifest of a checkpoint`);
  }
  for (const name of CHECKPOINT_FILES) {
    const file = path.join(folder, name);
    const found = await sha256OfFile(file);
    if (found !== hashes[name]) {
      throw new InputError(
        `${printable(file)}: its SHA-256 must be ${hashes[name].slice(0, 16)}… as when it was written, found ${found.slice(0, 16)}…`,
      );
    }
  }
}

/** SHA-256 in hexadecimal. @throws InputError */
export async function sha256OfFile(file: string): Promise<string> {
  const { handle } = await openRegularFile(file);
  await handle.close();
  const hash = createHash("sha256");
  try {
    await pipeline(createReadStream(file), hash);
  } catch (error) {
    throw fileError(file, "read", error);
  }
  return hash.digest("hex");
}

function formatManifest(hashes: Hashes): string {
  const sha256 = Object.fromEntries(CHECKPOINT_FILES.map((name) => [name, hashes[name]]));
  return `${JSON.stringify({ sha256 }, null, 2)}\n`;
}

function parseManifest(text: string): Hashes | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return null;
  }
  const sha256 = (parsed as { sha256?: Record<string, unknown> } | null)?.sha256;
  const isComplete = CHECKPOINT_FILES.every((name) => /^[0-9a-f]{64}$/.test(String(sha256?.[name])));
  return isComplete ? (sha256 as Hashes) : null;
}
