import { basename } from "node:path";
import { trainTestSplit } from "../data/split.ts";
import { writeFileAtomically } from "../weights/atomic-file.ts";
import type { CurationFiles } from "./files.ts";

export interface OutputRow {
  readonly prompt: string;
  readonly chosen: string;
  readonly rejected: string;
}

export interface RowParts {
  readonly all: readonly OutputRow[];
  /** Null where no split is wanted. */
  readonly split: { readonly train: readonly OutputRow[]; readonly test: readonly OutputRow[] } | null;
}

export interface WrittenFile {
  readonly name: string;
  readonly rows: number;
  readonly sha256: string;
}

/** The split that `test_size` of a config makes of the same rows. @throws InputError where a part would be empty */
export function splitRows(
  all: readonly OutputRow[],
  { testSize, seed }: { readonly testSize: number | null; readonly seed: number },
): RowParts {
  if (testSize === null) return { all, split: null };
  const { train, test } = trainTestSplit(all.length, testSize, seed);
  const pick = (indices: Uint32Array) => Array.from(indices, (i) => all[i]!);
  return { all, split: { train: pick(train), test: pick(test) } };
}

/** Writes rows as `dataset:` takes them, each file whole or not at all. */
export async function writeRows({ all, split }: RowParts, files: CurationFiles): Promise<WrittenFile[]> {
  const parts: [string, readonly OutputRow[]][] = [[files.out, all]];
  if (split !== null) parts.push([files.train, split.train], [files.test, split.test]);
  const written: WrittenFile[] = [];
  for (const [path, rows] of parts) {
    const lines = rows.map(({ prompt, chosen, rejected }) => `${JSON.stringify({ prompt, chosen, rejected })}\n`);
    written.push({ name: basename(path), rows: rows.length, sha256: await writeFileAtomically(path, lines.join("")) });
  }
  return written;
}
