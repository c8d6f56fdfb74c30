import { readFileSync } from "node:fs";

interface GoldenIds {
  prompt_ids: number[];
  chosen_ids: number[];
  rejected_ids: number[];
}

/** A record of test/data/golden/tokens.jsonl, which scripts/golden/tokens.py wrote from TRL and transformers. */
type Golden =
  | { kind: "versions" }
  | { kind: "chat_template"; name: string; text: string }
  | {
      kind: "pairs";
      template: "none" | "alpaca" | "llama3" | "llama3.1";
      max_length: number;
      rows: unknown[];
      expected: ((GoldenIds & { mismatch: boolean }) | null)[];
    }
  | {
      kind: "extract_prompt";
      chosen: string | object[];
      rejected: string | object[];
      expected: { prompt: string | object[]; chosen: string | object[]; rejected: string | object[] };
    }
  | { kind: "decode"; ids: number[]; text: string; without_special: string }
  | { kind: "sentencepiece_tokenizer"; file: object }
  | { kind: "sentencepiece"; config: object; cases: { text: string; ids: number[]; decoded: string }[] };

const records = readFileSync(new URL("golden/tokens.jsonl", import.meta.url), "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as Golden);

/** All golden records of one kind; never none. */
export function goldenTokens<K extends Golden["kind"]>(kind: K): Extract<Golden, { kind: K }>[] {
  const found = records.filter((record): record is Extract<Golden, { kind: K }> => record.kind === kind);
  if (found.length === 0) throw new Error(`no golden record of kind ${kind}`);
  return found;
}

/** The Jinja text of a chat template in the golden file. */
export function goldenChatTemplate(name: string): string {
  const template = goldenTokens("chat_template").find((record) => record.name === name);
  if (!template) throw new Error(`no golden chat template ${name}`);
  return template.text;
}
