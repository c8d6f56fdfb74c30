import { describe, expect, test } from "vitest";
import { kaimingUniform } from "../../src/random/kaiming.ts";
import { createMt19937 } from "../../src/random/mt19937.ts";
import { createPcg64 } from "../../src/random/pcg64.ts";
import { initialLoraA } from "../../src/random/peft-init.ts";
import { digest, goldenDraws } from "./golden.ts";

describe("MT19937", () => {
  test.each(goldenDraws("mt19937"))("draws what torch draws from seed $seed", ({ seed, first, sha256 }) => {
    const generator = createMt19937(seed);
    const draws = Uint32Array.from({ length: 2000 }, () => generator.nextUint32() % 2 ** 27);
    expect([...draws.subarray(0, first.length)]).toEqual(first);
    expect(digest(draws)).toBe(sha256);
  });

  test.each([0, 1, 623, 624, 625, 1247, 1248, 1249, 5000])("skip(%i) is that many draws", (count) => {
    const skipped = createMt19937(7);
    skipped.nextUint32();
    skipped.skip(count);
    const drawn = createMt19937(7);
    for (let i = 0; i <= count; i++) drawn.nextUint32();
    expect(skipped.nextUint32()).toBe(drawn.nextUint32());
  });

  test.each([-1, 0.5, Number.NaN, 2 ** 53])("refuses the seed %d", (seed) => {
    expect(() => createMt19937(seed)).toThrow("internal: a seed must be an integer");
    expect(() => createPcg64(seed)).toThrow("internal: a seed must be an integer");
  });
});

test("nextInterval stays in its closed interval and reaches both ends", () => {
  const generator = createPcg64(5);
  for (const limit of [0, 1, 2, 3, 4, 7, 8]) {
    const seen = new Set(Array.from({ length: 400 }, () => generator.nextInterval(limit)));
    expect([...seen].sort((a, b) => a - b)).toEqual(Array.from({ length: limit + 1 }, (_, i) => i));
  }
  for (let i = 0; i < 100; i++) expect(generator.nextInterval(2 ** 32 - 1)).toBeGreaterThanOrEqual(0);
});

test.each(goldenDraws("kaiming"))("kaiming_uniform_ of ($rows, $fan_in), seed $seed, bit for bit", (golden) => {
  const values = kaimingUniform(createMt19937(golden.seed), golden.rows, golden.fan_in);
  expect(digest(values)).toBe(golden.sha256);
});

test.each(goldenDraws("peft_init"))(
  "PEFT's initial A of every module, seed $seed, rank $rank, bit for bit",
  (golden) => {
    const modules = golden.modules.map((module) => ({
      name: module.name,
      inFeatures: module.in,
      outFeatures: module.out,
    }));
    const initial = [...initialLoraA(modules, golden.rank, golden.seed)];
    expect(initial.map(({ name, values }) => ({ name, sha256: digest(values) }))).toEqual(
      golden.modules.map(({ name, sha256 }) => ({ name, sha256 })),
    );
  },
);
