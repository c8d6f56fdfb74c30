import { createHash } from "node:crypto";
import { type Finding, findIn } from "../findings.ts";
import type { PreferenceRow } from "../rows.ts";
import { exactKey, SIDES } from "./row-texts.ts";

/** Rows that repeat an earlier row, in whole or in part. The earlier row itself is not counted. */
export interface Duplicates {
  rows: Finding;
  samePromptAndChosen: Finding;
  samePrompt: Finding;
  /** An earlier row prefers the same two answers to the same prompt the other way round. */
  contradictions: Finding;
}

export function findDuplicates(rows: readonly PreferenceRow[]): Duplicates {
  const seen = { rows: new Set<string>(), samePromptAndChosen: new Set<string>(), samePrompt: new Set<string>() };
  const repeats = (known: Set<string>, key: string): boolean => known.size === known.add(key).size;
  const keys = rows.map((row) => {
    const [prompt, chosen, rejected] = SIDES.map((side) => exactKey(row, side)) as [string, string, string];
    return {
      samePrompt: hashOf(prompt),
      samePromptAndChosen: hashOf(prompt, chosen),
      rows: hashOf(prompt, chosen, rejected),
      swapped: chosen === rejected ? undefined : hashOf(prompt, rejected, chosen),
    };
  });
  const earlier = new Set<string>();
  return {
    rows: findIn(rows, (_, i) => repeats(seen.rows, keys[i]!.rows)),
    samePromptAndChosen: findIn(rows, (_, i) => repeats(seen.samePromptAndChosen, keys[i]!.samePromptAndChosen)),
    samePrompt: findIn(rows, (_, i) => repeats(seen.samePrompt, keys[i]!.samePrompt)),
    contradictions: findIn(rows, (_, i) => {
      const { rows: key, swapped } = keys[i]!;
      earlier.add(key);
      return swapped !== undefined && earlier.has(swapped);
    }),
  };
}

/** Texts of any length as a short key, which is all that is kept of them. */
export function hashOf(...texts: readonly string[]): string {
  const hash = createHash("sha256");
  for (const text of texts) hash.update(`${text.length}:`).update(text);
  return hash.digest("base64").slice(0, 24);
}
