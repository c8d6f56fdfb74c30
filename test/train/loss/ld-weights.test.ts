import { expect, it } from "vitest";
import { ldWeights } from "../../../src/train/loss/ld-weights.ts";

it("weights the tokens past the shorter answer's length by ld_alpha", () => {
  expect([...ldWeights(5, 2, 0.3)]).toEqual([1, 1, 0.3, 0.3, 0.3]);
  expect([...ldWeights(2, 5, 0.3)]).toEqual([1, 1]);
  expect([...ldWeights(3, 3, 0)]).toEqual([1, 1, 1]);
  expect([...ldWeights(3, 1, 0)]).toEqual([1, 0, 0]);
  expect([...ldWeights(3, 1, 1)]).toEqual([1, 1, 1]);
});

it.each([-0.1, 1.1, Number.NaN])("refuses an ld_alpha of %d", (ldAlpha) => {
  expect(() => ldWeights(3, 2, ldAlpha)).toThrow("internal: ld_alpha must be from 0 to 1");
});
