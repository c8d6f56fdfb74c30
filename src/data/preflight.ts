import { createHash } from "node:crypto";
import { printable } from "../text.ts";
import { type Finding, findIn, type LengthStatistics, lengthStatistics } from "./findings.ts";
import { placeOf } from "./problems.ts";
import type { TokenizedPair, TokenizedRows } from "./tokenize.ts";
import type { PairTokenizer } from "./tokenizer.ts";

const MAX_SHOWN_TEXT = 600;

/** What is known about a data set before training, as run.json keeps it. Places are `file:line`. */
export interface Preflight {
  rows: { read: number; kept: number; dropped: number; firstDropped: { place: string; promptTokens: number } | null };
  maxLength: number;
  /** Rows whose answer lost its end to maxLength. */
  cut: { chosen: number; rejected: number };
  /** In tokens. A pair is prompt, chosen and rejected together, as it is trained on. */
  lengths: Record<"prompt" | "chosen" | "rejected" | "pair", LengthStatistics>;
  mergesAcrossBoundary: Finding;
  /** null when the tokenizer has no BOS. */
  bos: TokenCheck | null;
  eos: TokenCheck;
  /** Pairs that an earlier pair equals, token by token. */
  duplicatePairs: Finding;
  equalAnswers: Finding;
  /** Rows with an answer that is nothing but the EOS. */
  emptyAnswers: Finding;
  chosenLongerShare: number;
  /** Special tokens shown, made printable and cut. */
  firstPair: { place: string; prompt: string; chosen: string; rejected: string };
}

export interface TokenCheck {
  missing: Finding;
  repeated: Finding;
}

/**
 * Looks at every tokenized row of a data set.
 *
 * @param rows at least one pair
 * @param maxLength what the rows were cut to
 */
export function preflight({ pairs, dropped }: TokenizedRows, tokenizer: PairTokenizer, maxLength: number): Preflight {
  const first = pairs[0];
  if (!first) throw new RangeError("internal: a preflight needs at least one pair");
  const [firstDropped] = dropped;
  const show = (ids: Uint32Array): string => printable(tokenizer.decode([...ids]), MAX_SHOWN_TEXT);
  return {
    rows: {
      read: pairs.length + dropped.length,
      kept: pairs.length,
      dropped: dropped.length,
      firstDropped: firstDropped
        ? { place: placeOf(firstDropped.source), promptTokens: firstDropped.promptTokens }
        : null,
    },
    maxLength,
    cut: {
      chosen: pairs.filter(({ chosenCut }) => chosenCut > 0).length,
      rejected: pairs.filter(({ rejectedCut }) => rejectedCut > 0).length,
    },
    lengths: {
      prompt: lengthStatistics(pairs.map(({ promptIds }) => promptIds.length)),
      chosen: lengthStatistics(pairs.map(({ chosenIds }) => chosenIds.length)),
      rejected: lengthStatistics(pairs.map(({ rejectedIds }) => rejectedIds.length)),
      pair: lengthStatistics(
        pairs.map((pair) => pair.promptIds.length + pair.chosenIds.length + pair.rejectedIds.length),
      ),
    },
    mergesAcrossBoundary: findIn(pairs, ({ mergesAcrossBoundary }) => mergesAcrossBoundary),
    bos: checkBos(pairs, tokenizer),
    eos: checkEos(pairs, tokenizer),
    duplicatePairs: findDuplicates(pairs),
    equalAnswers: findIn(pairs, ({ chosenIds, rejectedIds }) => areEqual(chosenIds, rejectedIds)),
    emptyAnswers: findIn(pairs, ({ chosenIds, rejectedIds }) =>
      [chosenIds, rejectedIds].some((ids) => ids.length === 1 && ids[0] === tokenizer.eos.id),
    ),
    chosenLongerShare: pairs.filter((pair) => pair.chosenIds.length > pair.rejectedIds.length).length / pairs.length,
    firstPair: {
      place: placeOf(first.source),
      prompt: show(first.promptIds),
      chosen: show(first.chosenIds),
      rejected: show(first.rejectedIds),
    },
  };
}

/** Each sequence, the prompt with one answer, is to hold the BOS once. */
function checkBos(pairs: readonly TokenizedPair[], { bos, eos }: PairTokenizer): TokenCheck | null {
  if (!bos) return null;
  const counts = (pair: TokenizedPair): number[] => {
    const inPrompt = count(pair.promptIds, bos.id);
    // Where one token is both, its place at the end of an answer is the EOS's.
    return bos.id === eos.id
      ? [inPrompt]
      : [pair.chosenIds, pair.rejectedIds].map((ids) => inPrompt + count(ids, bos.id));
  };
  return {
    missing: findIn(pairs, (pair) => counts(pair).some((found) => found === 0)),
    repeated: findIn(pairs, (pair) => counts(pair).some((found) => found > 1)),
  };
}

/**
 * Each answer is to hold the EOS once, or not at all when its end was cut; the prompt not at all, except in
 * conversations, where the EOS may end every message.
 */
function checkEos(pairs: readonly TokenizedPair[], { bos, eos }: PairTokenizer): TokenCheck {
  const sides = (pair: TokenizedPair): { found: number; expected: number }[] => {
    const inPrompt = pair.isConversation || bos?.id === eos.id ? 0 : count(pair.promptIds, eos.id);
    return [
      { found: inPrompt + count(pair.chosenIds, eos.id), expected: pair.chosenCut > 0 ? 0 : 1 },
      { found: inPrompt + count(pair.rejectedIds, eos.id), expected: pair.rejectedCut > 0 ? 0 : 1 },
    ];
  };
  return {
    missing: findIn(pairs, (pair) => sides(pair).some(({ found, expected }) => found < expected)),
    repeated: findIn(pairs, (pair) => sides(pair).some(({ found, expected }) => found > expected)),
  };
}

function findDuplicates(pairs: readonly TokenizedPair[]): Finding {
  const seen = new Set<string>();
  return findIn(pairs, ({ promptIds, chosenIds, rejectedIds }) => {
    const hash = createHash("sha256");
    for (const ids of [promptIds, chosenIds, rejectedIds]) {
      hash.update(Uint32Array.of(ids.length)).update(ids);
    }
    const key = hash.digest("base64");
    if (seen.has(key)) return true;
    seen.add(key);
    return false;
  });
}

function count(ids: Uint32Array, id: number): number {
  return ids.reduce((found, other) => found + (other === id ? 1 : 0), 0);
}

function areEqual(a: Uint32Array, b: Uint32Array): boolean {
  return a.length === b.length && a.every((id, i) => id === b[i]);
}
