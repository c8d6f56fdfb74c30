import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createBudget } from "../../src/curation/ask/budget.ts";
import { createServer } from "../../src/curation/ask/server.ts";
import { type BuildOptions, buildPairs } from "../../src/curation/build.ts";
import type { BuildResult } from "../../src/curation/build-report.ts";
import { curationFiles } from "../../src/curation/files.ts";
import { temporaryFolder } from "../weights/fixtures.ts";

/** Never spent. */
export const UNLIMITED = {
  calls: Number.POSITIVE_INFINITY,
  tokens: Number.POSITIVE_INFINITY,
  usd: Number.POSITIVE_INFINITY,
};

export const unlimitedBudget = () => createBudget(UNLIMITED, null);

/** An article of sentences that are all different, of which each has 60 to 70 characters: `extracts` extracts. */
export function article(name: string, extracts: number): string {
  const sentences: string[] = [];
  for (let i = 0; sentences.join(" ").length < extracts * 1960; i++) {
    sentences.push(`In ${name} the sentence with number ${String(i).padStart(5, "0")} says a thing of its own.`);
  }
  return sentences.join(" ");
}

export interface Building {
  readonly options: BuildOptions;
  readonly lines: string[];
  /** Runs to the end. */
  readonly run: (signal?: AbortSignal) => Promise<BuildResult>;
  readonly rows: () => { prompt: string; chosen: string; rejected: string }[];
  readonly report: () => Record<string, unknown>;
}

export async function building(baseUrl: string, more: Partial<BuildOptions> = {}): Promise<Building> {
  const files = curationFiles(join(await temporaryFolder(), "pairs.jsonl"));
  const lines: string[] = [];
  const options: BuildOptions = {
    articles: [article("Alpha", 3), article("Beta", 3)],
    files,
    server: createServer({ baseUrl, model: "test-model", apiKey: null, timeoutMs: 2000 }),
    temperature: 0.7,
    ask: { concurrency: 4, attempts: 4, askAgain: 1, backoffMs: 2 },
    limits: UNLIMITED,
    prices: null,
    ownModel: null,
    testSize: null,
    seed: 42,
    terminal: { line: (text) => void lines.push(text), status: () => {}, progress: () => {} },
    ...more,
  };
  return {
    options,
    lines,
    run: (signal = new AbortController().signal) => buildPairs(options, signal),
    rows: () => readLines(options.files.out) as { prompt: string; chosen: string; rejected: string }[],
    report: () => JSON.parse(readFileSync(options.files.report, "utf8")) as Record<string, unknown>,
  };
}

export function readLines(path: string): unknown[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}
