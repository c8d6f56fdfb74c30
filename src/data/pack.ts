/** A pair as the packer needs it: token ids of the prompt and of the two answers. */
export interface PairTokens {
  readonly promptIds: ArrayLike<number>;
  readonly chosenIds: ArrayLike<number>;
  readonly rejectedIds: ArrayLike<number>;
}

/** In `targets`: the row predicts no token of this side. */
export const NO_TARGET = 0xffffffff;

/** Where a pair lies in a packed batch. */
export interface PackedPair {
  /** The caller's number for the pair. */
  readonly pair: number;
  /** The head row of the last prompt token, which predicts the first token of both answers. */
  readonly firstHeadRow: number;
  /** Completion tokens. Head rows firstHeadRow + 1 … predict the chosen answer's others, then the rejected answer's. */
  readonly chosenLength: number;
  readonly rejectedLength: number;
}

/**
 * Pairs in one sequence without padding, each as `[prompt | chosen | rejected]`, the prompt once.
 *
 * Positions of the rejected answer restart at the prompt's length. Chosen sees the prompt and itself, rejected the prompt
 * and itself. The last token of an answer predicts nothing and nothing sees it, so it is a target but never an input.
 */
export interface PackedBatch {
  /** (T) token ids. */
  readonly tokens: Uint32Array<ArrayBuffer>;
  /** (T) positions within the pair's own sequence. */
  readonly positions: Uint32Array<ArrayBuffer>;
  /** (T, 4): row t sees the rows [prefix start, prefix end) and [own start, own end). */
  readonly visible: Uint32Array<ArrayBuffer>;
  /** (T): row j is seen by the rows from j up to, not including, queryEnd[j]. */
  readonly queryEnd: Uint32Array<ArrayBuffer>;
  /** (R) rows that predict a token of an answer, ascending. */
  readonly headRows: Uint32Array<ArrayBuffer>;
  /** (R, 2) the chosen and the rejected token that the row predicts, or NO_TARGET. */
  readonly targets: Uint32Array<ArrayBuffer>;
  readonly pairs: readonly PackedPair[];
}

/** Rows that a pair takes in a packed batch. */
export function packedTokens(pair: PairTokens): number {
  return pair.promptIds.length + pair.chosenIds.length + pair.rejectedIds.length - 2;
}

/** Rows of a pair that predict a token of an answer. */
export function packedHeadRows(pair: PairTokens): number {
  return pair.chosenIds.length + pair.rejectedIds.length - 1;
}

/** Scores that a query head computes for a batch: pairs of a row and a row that it sees. */
export function visibleScores({ visible }: Pick<PackedBatch, "visible">): number {
  let scores = 0;
  for (let at = 0; at < visible.length; at += 4) {
    scores += visible[at + 1]! - visible[at]! + visible[at + 3]! - visible[at + 2]!;
  }
  return scores;
}

/** Packs pairs into one batch. `numbers[i]` is the caller's number for `pairs[i]`. */
export function pack(pairs: readonly PairTokens[], numbers: readonly number[]): PackedBatch {
  const tokenCount = pairs.reduce((sum, pair) => sum + packedTokens(pair), 0);
  const headCount = pairs.reduce((sum, pair) => sum + packedHeadRows(pair), 0);
  const batch = {
    tokens: new Uint32Array(tokenCount),
    positions: new Uint32Array(tokenCount),
    visible: new Uint32Array(4 * tokenCount),
    queryEnd: new Uint32Array(tokenCount),
    headRows: new Uint32Array(headCount),
    targets: new Uint32Array(2 * headCount).fill(NO_TARGET),
    pairs: [] as PackedPair[],
  };
  let row = 0;
  let headRow = 0;
  for (const [i, { promptIds, chosenIds, rejectedIds }] of pairs.entries()) {
    if (promptIds.length === 0 || chosenIds.length === 0 || rejectedIds.length === 0) {
      throw new Error(`internal: pair ${numbers[i]} has an empty prompt or answer`);
    }
    const promptLength = promptIds.length;
    const prefixStart = row;
    const prefixEnd = row + promptLength;
    const chosenEnd = prefixEnd + chosenIds.length - 1;
    const rejectedEnd = chosenEnd + rejectedIds.length - 1;
    batch.pairs.push({
      pair: numbers[i] ?? i,
      firstHeadRow: headRow,
      chosenLength: chosenIds.length,
      rejectedLength: rejectedIds.length,
    });

    for (let j = 0; j < promptLength; j++, row++) {
      batch.tokens[row] = promptIds[j]!;
      batch.positions[row] = j;
      batch.visible.set([prefixStart, prefixStart, prefixStart, row + 1], 4 * row);
      batch.queryEnd[row] = rejectedEnd;
    }
    batch.headRows[headRow] = row - 1;
    batch.targets[2 * headRow] = chosenIds[0]!;
    batch.targets[2 * headRow + 1] = rejectedIds[0]!;
    headRow++;

    for (const [side, ids, ownStart, ownEnd] of [
      [0, chosenIds, prefixEnd, chosenEnd],
      [1, rejectedIds, chosenEnd, rejectedEnd],
    ] as const) {
      for (let j = 0; j < ids.length - 1; j++, row++, headRow++) {
        batch.tokens[row] = ids[j]!;
        batch.positions[row] = promptLength + j;
        batch.visible.set([prefixStart, prefixEnd, ownStart, row + 1], 4 * row);
        batch.queryEnd[row] = ownEnd;
        batch.headRows[headRow] = row;
        batch.targets[2 * headRow + side] = ids[j + 1]!;
      }
    }
  }
  return batch;
}

/** The first row of each pair, and the number of rows. */
export function pairStarts({ visible, tokens }: Pick<PackedBatch, "visible" | "tokens">): number[] {
  const starts: number[] = [];
  for (let row = 0; row < tokens.length; row++) {
    const at = 4 * row;
    const hasPrefix = visible[at] !== visible[at + 1];
    const seesItselfAlone = !hasPrefix && visible[at + 2] === row && visible[at + 3] === row + 1;
    if (seesItselfAlone) starts.push(row);
  }
  return [...starts, tokens.length];
}

/** The head row and target slot of each completion token of a side, in order: indexes into (R, 2) arrays. */
export function targetSlots(pair: PackedPair, side: "chosen" | "rejected"): Uint32Array {
  const isChosen = side === "chosen";
  const length = isChosen ? pair.chosenLength : pair.rejectedLength;
  const offset = pair.firstHeadRow + (isChosen ? 0 : pair.chosenLength - 1);
  const slots = new Uint32Array(length);
  for (let j = 0; j < length; j++) {
    const row = j === 0 ? pair.firstHeadRow : offset + j;
    slots[j] = 2 * row + (isChosen ? 0 : 1);
  }
  return slots;
}

/**
 * Splits groups of pairs into batches of at most `maxTokens` packed rows, in order. A group (a micro-batch whose loss
 * couples its pairs, or a single pair) is never split; one that alone exceeds the budget makes a batch of its own only
 * if the caller allowed for it, so it is an error here.
 */
export function planBatches(groupTokens: readonly number[], maxTokens: number): number[][] {
  const batches: number[][] = [];
  let current: number[] = [];
  let used = 0;
  for (const [group, tokens] of groupTokens.entries()) {
    if (tokens > maxTokens) throw new Error(`internal: a group of ${tokens} tokens exceeds the budget of ${maxTokens}`);
    if (used + tokens > maxTokens && current.length > 0) {
      batches.push(current);
      current = [];
      used = 0;
    }
    current.push(group);
    used += tokens;
  }
  if (current.length > 0) batches.push(current);
  return batches;
}
