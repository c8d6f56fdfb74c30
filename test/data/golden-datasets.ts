import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

interface GoldenMessage {
  role: string;
  content: string;
}

/** A record of test/data/golden/datasets.jsonl, which scripts/golden/datasets_files.py wrote from `datasets`. */
type Golden =
  | { kind: "versions" }
  | {
      kind: "splits";
      paths: string[];
      readme: string | null;
      config: string | null;
      expected: Record<string, string[]>;
    }
  | { kind: "rows"; file: string; expected: Record<string, unknown>[] }
  | {
      kind: "dialogue";
      chosen: string;
      rejected: string;
      expected: Record<"prompt" | "chosen" | "rejected", GoldenMessage[]>;
    }
  | { kind: "permutation"; rows: number; test_size: number; seed: number; train: string; test: string };

const records = readFileSync(new URL("golden/datasets.jsonl", import.meta.url), "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as Golden);

/** All golden records of one kind; never none. */
export function goldenDatasets<K extends Golden["kind"]>(kind: K): Extract<Golden, { kind: K }>[] {
  const found = records.filter((record): record is Extract<Golden, { kind: K }> => record.kind === kind);
  if (found.length === 0) throw new Error(`no golden record of kind ${kind}`);
  return found;
}

export function goldenFile(name: string): string {
  return fileURLToPath(new URL(`golden/files/${name}`, import.meta.url));
}
