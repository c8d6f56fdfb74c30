import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { InputError } from "../../src/errors.ts";
import { printable } from "../../src/text.ts";
import { formatTable, type Records, summarize } from "./report.ts";
import type { Size } from "./sizes.ts";

/** What bench.json says besides the measurements. */
export interface BenchFacts {
  /** Of everything that is measured, and of the settings: numbers of different builds do not go into one file. */
  readonly build_sha256: string;
  readonly [key: string]: unknown;
}

/** What an earlier call has left in a folder; nothing where there was none. @throws InputError where it is of another build */
export function readRecords(folder: string, build: string): { records: Records; sizes: readonly Size[] } {
  const file = path.join(folder, "bench.json");
  if (!existsSync(file)) return { records: {}, sizes: [] };
  let found: { build_sha256?: unknown; stages?: unknown; sizes?: unknown };
  try {
    found = JSON.parse(readFileSync(file, "utf8")) as typeof found;
  } catch {
    throw new InputError(`${printable(file)} is not JSON; choose another --out`);
  }
  if (found.build_sha256 !== build || typeof found.stages !== "object" || !Array.isArray(found.sizes)) {
    throw new InputError(
      `${printable(file)} holds the measurements of another build, or with other settings; choose another --out`,
    );
  }
  return { records: found.stages as Records, sizes: found.sizes as Size[] };
}

/** Writes bench.json and table.md, each whole or not at all. Returns the table. */
export function writeResults(folder: string, records: Records, sizes: readonly Size[], facts: BenchFacts): string {
  mkdirSync(folder, { recursive: true });
  const summary = summarize(records, sizes);
  const table = formatTable(summary);
  replaceFile(path.join(folder, "table.md"), table);
  replaceFile(
    path.join(folder, "bench.json"),
    `${JSON.stringify({ ...summary, sizes, ...facts, stages: records }, null, 1)}\n`,
  );
  return table;
}

/** SHA-256 of a text and of the files in these folders and below, by name and content. */
export function hashFolders(folders: readonly string[], text: string): string {
  const hash = createHash("sha256").update(text);
  for (const folder of folders) {
    const names = readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)))
      .sort();
    for (const name of names)
      hash
        .update(`${name}\0`)
        .update(readFileSync(path.join(folder, name)))
        .update("\0");
  }
  return hash.digest("hex");
}

function replaceFile(file: string, text: string): void {
  writeFileSync(`${file}.new`, text);
  renameSync(`${file}.new`, file);
}
