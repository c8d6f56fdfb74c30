import type { PairTokens } from "../../src/data/pack.ts";
import type { Sees } from "./attention.ts";
import type { Target } from "./head.ts";

/** Tokens for a model, who sees whom, and what is to be predicted. */
export interface Sequence {
  readonly tokens: readonly number[];
  readonly positions: readonly number[];
  readonly sees: Sees;
  readonly targets: readonly Target[];
}

/** Prompt and answer as any trainer without packing runs them: one causal sequence, whose answer is scored. */
export function causalSequence(promptIds: Iterable<number>, answerIds: Iterable<number>): Sequence {
  const prompt = [...promptIds];
  const answer = [...answerIds];
  const tokens = [...prompt, ...answer];
  return {
    tokens,
    positions: tokens.map((_, i) => i),
    sees: (t, j) => j <= t,
    targets: answer.map((token, i) => ({ row: prompt.length + i - 1, token })),
  };
}

/** A row of packed pairs: the `index`-th token of a part of a pair. */
export interface PackedRow {
  readonly pair: number;
  readonly part: "prompt" | "chosen" | "rejected";
  readonly index: number;
  readonly token: number;
  readonly position: number;
}

/**
 * The rows of packed pairs: of each pair the prompt, then the chosen answer without its last token, then the rejected
 * answer likewise, whose positions begin again where the prompt ends.
 */
export function packedRows(pairs: readonly PairTokens[]): PackedRow[] {
  return pairs.flatMap(({ promptIds, chosenIds, rejectedIds }, pair) => {
    const rowsOf = (part: PackedRow["part"], ids: number[], firstPosition: number) =>
      ids.map((token, index): PackedRow => ({ pair, part, index, token, position: firstPosition + index }));
    const prompt = Array.from(promptIds);
    return [
      ...rowsOf("prompt", prompt, 0),
      ...rowsOf("chosen", Array.from(chosenIds).slice(0, -1), prompt.length),
      ...rowsOf("rejected", Array.from(rejectedIds).slice(0, -1), prompt.length),
    ];
  });
}

/** Within a pair a token sees itself and what comes before it, where an answer comes after the prompt and not after the other. */
export function packedSees(query: PackedRow, key: PackedRow): boolean {
  if (query.pair !== key.pair) return false;
  if (query.part === key.part) return key.index <= query.index;
  return key.part === "prompt";
}

/** Packed pairs, whose targets are every pair's chosen tokens and then its rejected ones, in order. */
export function packedSequence(pairs: readonly PairTokens[]): Sequence {
  const rows = packedRows(pairs);
  const targets = pairs.flatMap(({ promptIds, chosenIds, rejectedIds }, pair) =>
    [["chosen", chosenIds] as const, ["rejected", rejectedIds] as const].flatMap(([side, ids]) =>
      Array.from(ids, (token, i): Target => {
        const predictor = i === 0 ? { part: "prompt", index: promptIds.length - 1 } : { part: side, index: i - 1 };
        const row = rows.findIndex(
          (candidate) =>
            candidate.pair === pair && candidate.part === predictor.part && candidate.index === predictor.index,
        );
        return { row, token };
      }),
    ),
  );
  return {
    tokens: rows.map((row) => row.token),
    positions: rows.map((row) => row.position),
    sees: (t, j) => packedSees(rows[t]!, rows[j]!),
    targets,
  };
}
