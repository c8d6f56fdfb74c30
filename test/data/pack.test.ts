import { describe, expect, it } from "vitest";
import {
  NO_TARGET,
  type PackedBatch,
  type PairTokens,
  pack,
  packedHeadRows,
  packedTokens,
  planBatches,
  targetSlots,
  visibleScores,
} from "../../src/data/pack.ts";
import { packedRows, packedSees, packedSequence } from "../reference/sequences.ts";

/** A pair of these lengths whose tokens all differ, and differ from those of pairs with another `first`. */
function pairOf([prompt, chosen, rejected]: readonly [number, number, number], first: number): PairTokens {
  const tokens = (length: number, offset: number) => Array.from({ length }, (_, i) => first + offset + i);
  return {
    promptIds: tokens(prompt, 0),
    chosenIds: Uint32Array.from(tokens(chosen, 100)),
    rejectedIds: tokens(rejected, 200),
  };
}

function packAll(lengths: readonly (readonly [number, number, number])[]) {
  const pairs = lengths.map((own, i) => pairOf(own, 1000 * i));
  return { pairs, batch: pack(pairs, [...pairs.keys()]) };
}

/** Everything about a batch, against the definition of packed pairs applied to every two rows. */
function expectDefinition(pairs: readonly PairTokens[], batch: PackedBatch): void {
  const rows = packedRows(pairs);
  expect([...batch.tokens]).toEqual(rows.map(({ token }) => token));
  expect([...batch.positions]).toEqual(rows.map(({ position }) => position));
  const numbers = [...rows.keys()];
  for (const t of numbers) {
    const [prefixStart, prefixEnd, ownStart, ownEnd] = batch.visible.subarray(4 * t, 4 * t + 4);
    const seen = numbers.filter((j) => packedSees(rows[t]!, rows[j]!));
    const inRanges = [...numbers.slice(prefixStart, prefixEnd), ...numbers.slice(ownStart, ownEnd)];
    expect(inRanges, `what row ${t} sees`).toEqual(seen); // In order, and none twice.
    const seers = numbers.filter((query) => packedSees(rows[query]!, rows[t]!));
    expect(numbers.slice(t, batch.queryEnd[t]), `who sees row ${t}`).toEqual(seers);
  }

  const { targets } = packedSequence(pairs);
  expect([...batch.headRows]).toEqual([...new Set(targets.map(({ row }) => row))].sort((a, b) => a - b));
  const slots = batch.pairs.flatMap((pair) => [...targetSlots(pair, "chosen"), ...targetSlots(pair, "rejected")]);
  expect(slots.map((slot) => ({ row: batch.headRows[slot >> 1], token: batch.targets[slot] }))).toEqual(targets);
  expect(new Set(slots).size).toBe(slots.length);
  expect([...batch.targets].filter((_, slot) => !slots.includes(slot)).every((token) => token === NO_TARGET)).toBe(
    true,
  );
  for (const [i, pair] of batch.pairs.entries()) {
    expect(targetSlots(pair, "chosen").every((slot) => slot % 2 === 0)).toBe(true);
    expect(targetSlots(pair, "rejected").every((slot) => slot % 2 === 1)).toBe(true);
    expect([pair.chosenLength, pair.rejectedLength]).toEqual([
      pairs[i]!.chosenIds.length,
      pairs[i]!.rejectedIds.length,
    ]);
  }

  const sum = (count: (pair: PairTokens) => number) => pairs.reduce((total, pair) => total + count(pair), 0);
  expect(batch.tokens.length).toBe(sum(packedTokens));
  expect(batch.headRows.length).toBe(sum(packedHeadRows));
}

const LENGTHS = [1, 2, 3].flatMap((prompt) =>
  [1, 2, 3].flatMap((chosen) => [1, 2, 3].map((rejected) => [prompt, chosen, rejected] as const)),
);

describe("pack", () => {
  it.each(LENGTHS)("a pair of %i + %i | %i tokens", (...lengths) => {
    const { pairs, batch } = packAll([lengths, [2, 5, 4]]);
    expectDefinition(pairs.slice(0, 1), pack(pairs.slice(0, 1), [0]));
    expectDefinition(pairs, batch);
  });

  it("every two small pairs side by side", () => {
    for (const first of LENGTHS) {
      for (const second of LENGTHS.slice(0, 12)) {
        const { pairs, batch } = packAll([first, second]);
        expectDefinition(pairs, batch);
      }
    }
  });

  it("many pairs, and long ones", () => {
    const { pairs, batch } = packAll([...LENGTHS, [40, 1, 1], [1, 30, 1], [1, 1, 30], [25, 17, 19]]);
    expectDefinition(pairs, batch);
  });

  it("no pairs", () => {
    const batch = pack([], []);
    expect(batch.tokens.length).toBe(0);
    expect(batch.pairs).toEqual([]);
  });

  it("scores that a query head computes", () => {
    expect(visibleScores(pack([], []))).toBe(0);
    // 1 + 2 + 3 in the prompt; 4 + 5 in the chosen answer, whose third token is no input; 4 in the rejected one.
    expect(visibleScores(packAll([[3, 3, 2]]).batch)).toBe(6 + 9 + 4);
    expect(
      visibleScores(
        packAll([
          [3, 3, 2],
          [2, 1, 1],
        ]).batch,
      ),
    ).toBe(19 + 3);
  });

  it("keeps the caller's numbers", () => {
    const pairs = [pairOf([1, 1, 1], 0), pairOf([2, 2, 2], 10)];
    expect(pack(pairs, [41, 7]).pairs.map(({ pair }) => pair)).toEqual([41, 7]);
  });

  it.each(["promptIds", "chosenIds", "rejectedIds"])("refuses empty %s", (name) => {
    const pairs = [pairOf([1, 1, 1], 0), { ...pairOf([2, 2, 2], 10), [name]: [] }];
    expect(() => pack(pairs, [3, 8])).toThrow("internal: pair 8 has an empty prompt or answer");
  });
});

describe("planBatches", () => {
  it("fills batches in order up to the budget, for every small case", () => {
    const BUDGET = 4;
    for (let code = 0; code < 4 ** 6; code++) {
      const sizes = Array.from({ length: 6 }, (_, i) => 1 + (Math.floor(code / 4 ** i) % 4));
      const batches = planBatches(sizes, BUDGET);
      expect(batches.flat()).toEqual([...sizes.keys()]);
      const sums = batches.map((batch) => batch.reduce((sum, group) => sum + sizes[group]!, 0));
      expect(sums.every((sum) => sum <= BUDGET)).toBe(true);
      // No batch could have taken the first group of the next one.
      expect(batches.slice(1).every((batch, i) => sums[i]! + sizes[batch[0]!]! > BUDGET)).toBe(true);
    }
  });

  it("makes no batch of nothing, and refuses a group above the budget", () => {
    expect(planBatches([], 10)).toEqual([]);
    expect(planBatches([10, 10], 10)).toEqual([[0], [1]]);
    expect(() => planBatches([3, 11], 10)).toThrow("internal: a group of 11 tokens exceeds the budget of 10");
  });
});
