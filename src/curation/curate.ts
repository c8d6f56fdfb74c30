import { printable } from "../text.ts";
import { duplicateKey, isLongEnough, isWellFormed } from "./filters.ts";
import { strip } from "./python-text.ts";
import type { Triple } from "./triples.ts";
import { findVerbatim } from "./verbatim.ts";

/** A row to be, with the extract that it comes from. */
export interface Candidate {
  readonly prompt: string;
  readonly chosen: string;
  readonly rejected: string;
  /** Index of its extract. */
  readonly extract: number;
}

/** What a stage left of the rows before it. */
export interface Stage {
  readonly name: string;
  readonly kept: number;
  readonly dropped: number;
}

export interface Dropped {
  readonly stage: string;
  readonly extract: number;
  readonly prompt: string;
  readonly chosen: string;
}

/** Rows on their way through stages, each of which is counted. */
export interface Sieve {
  readonly rows: readonly Candidate[];
  readonly stages: readonly Stage[];
  readonly dropped: readonly Dropped[];
  /** Lets through the rows, perhaps changed, for which `pass` is not null. */
  readonly stage: (name: string, pass: (row: Candidate) => Candidate | null) => Sieve;
}

/** Of texts that the report shows. */
const SHOWN_LENGTH = 300;

export function createSieve(
  rows: readonly Candidate[],
  stages: readonly Stage[],
  dropped: readonly Dropped[] = [],
): Sieve {
  return {
    rows,
    stages,
    dropped,
    stage: (name, pass) => {
      const kept: Candidate[] = [];
      const lost: Dropped[] = [];
      for (const row of rows) {
        const passed = pass(row);
        if (passed !== null) kept.push(passed);
        else lost.push(describeDropped(name, row));
      }
      const stage = { name, kept: kept.length, dropped: lost.length };
      return createSieve(kept, [...stages, stage], [...dropped, ...lost]);
    },
  };
}

function describeDropped(stage: string, { extract, prompt, chosen }: Candidate): Dropped {
  return { stage, extract, prompt: printable(prompt, SHOWN_LENGTH), chosen: printable(chosen, SHOWN_LENGTH) };
}

/** How the answers stood in their extracts. */
export interface VerbatimCounts {
  /** To the character. */
  exact: number;
  /** But for spaces, hyphens, quotes or apostrophes, or joined from several places. */
  restored: number;
}

export interface ExtractTriples {
  readonly extract: string;
  readonly triples: readonly Triple[];
}

/** From triples to rows without their final rejected answers: what is whole, verbatim, long enough, well formed and new. */
export function curateTriples(sets: readonly ExtractTriples[]): { sieve: Sieve; verbatim: VerbatimCounts } {
  const verbatim: VerbatimCounts = { exact: 0, restored: 0 };
  const rows = sets.flatMap(({ triples }, extract) =>
    triples.map(({ instruction, generated, extracted }) => ({
      prompt: strip(instruction),
      chosen: strip(extracted),
      rejected: strip(generated),
      extract,
    })),
  );
  const seen = new Set<string>();
  const only = (holds: (row: Candidate) => boolean) => (row: Candidate) => (holds(row) ? row : null);
  const sieve = createSieve(rows, [{ name: "triples", kept: rows.length, dropped: 0 }])
    .stage(
      "text in all three parts",
      only(({ prompt, chosen, rejected }) => prompt !== "" && chosen !== "" && rejected !== ""),
    )
    .stage("the extracted answer stands in its extract", (row) => {
      const chosen = findVerbatim(sets[row.extract]!.extract, row.chosen);
      if (chosen === null) return null;
      verbatim[chosen === row.chosen ? "exact" : "restored"]++;
      return { ...row, chosen };
    })
    .stage(
      "chosen has at least 100 characters",
      only(({ chosen }) => isLongEnough(chosen)),
    )
    .stage(
      "chosen begins with a capital, ends with . ! or ?",
      only(({ chosen }) => isWellFormed(chosen)),
    )
    .stage(
      "not the same prompt and chosen as before",
      only(({ prompt, chosen }) => isNew(seen, duplicateKey(prompt, chosen))),
    );
  return { sieve, verbatim };
}

/** The last stage, once the rejected answers are those that will be written. */
export function dropEqualAnswers(sieve: Sieve): Sieve {
  return sieve.stage("chosen and rejected differ", (row) =>
    row.rejected === "" || duplicateKey(row.chosen) === duplicateKey(row.rejected) ? null : row,
  );
}

function isNew(seen: Set<string>, key: string): boolean {
  if (seen.has(key)) return false;
  seen.add(key);
  return true;
}
