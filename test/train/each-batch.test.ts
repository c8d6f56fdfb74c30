import { expect, it } from "vitest";
import type { PairTokens } from "../../src/data/pack.ts";
import { eachBatch } from "../../src/train/each-batch.ts";

const pair = (length: number): PairTokens => ({ promptIds: [1], chosenIds: Array(length).fill(2), rejectedIds: [3] });

/** Batches of at most 8 rows: pairs of 3, 3, 5, 8 and 2 rows make four of them. */
const PAIRS = [3, 3, 5, 8, 2].map(pair);

it("starts a batch before the one before it is waited for, and yields all in order", async () => {
  const events: string[] = [];
  const start = async ({ pairs }: { pairs: readonly { pair: number }[] }) => {
    const numbers = pairs.map((packed) => packed.pair).join();
    events.push(`start ${numbers}`);
    await new Promise((resolve) => setTimeout(resolve, 0));
    events.push(`end ${numbers}`);
    return numbers;
  };
  for await (const { batch, results } of eachBatch(PAIRS, 8, start)) {
    expect(batch.pairs.map((packed) => packed.pair).join()).toBe(results);
    events.push(`got ${results}`);
  }
  expect(events.filter((event) => event.startsWith("got"))).toEqual(["got 0,1", "got 2", "got 3", "got 4"]);
  for (const [earlier, later] of [
    ["0,1", "2"],
    ["2", "3"],
    ["3", "4"],
  ]) {
    expect(events.indexOf(`start ${later}`)).toBeLessThan(events.indexOf(`got ${earlier}`));
  }
  expect(events.indexOf("start 3")).toBeGreaterThan(events.indexOf("got 0,1"));
});

it("yields nothing for no pairs, and a single batch", async () => {
  const found: unknown[] = [];
  for await (const { results } of eachBatch([], 8, async () => 1)) found.push(results);
  for await (const { results } of eachBatch([pair(2)], 8, async () => 2)) found.push(results);
  expect(found).toEqual([2]);
});

it("throws the first failure, also where a later batch fails as well", async () => {
  let started = 0;
  const start = async () => {
    throw new Error(`failure ${++started}`);
  };
  const all = async () => {
    for await (const { results } of eachBatch(PAIRS, 8, start)) expect(results).toBeUndefined();
  };
  await expect(all()).rejects.toThrow("failure 1");
  expect(started).toBe(2);
});
