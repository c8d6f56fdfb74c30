import { expect, it } from "vitest";
import { Decisions } from "../../src/gpu/decisions.ts";

it("takes the guess until it is decided, and lists what was asked for", () => {
  const decisions = new Decisions();
  expect([decisions.open, [...decisions.used], [...decisions.made]]).toEqual([[], [], []]);
  expect(decisions.variantOf("b", 3)).toBe(3);
  expect(decisions.variantOf("a", 1)).toBe(1);
  expect(decisions.variantOf("b", 2)).toBe(2);
  expect(decisions.open).toEqual(["b", "a"]);

  decisions.decide("a", 0);
  decisions.decide("never asked for", 7);
  expect(decisions.variantOf("a", 1)).toBe(0);
  expect(decisions.open).toEqual(["b"]);
  expect([...decisions.used]).toEqual([["a", 0]]);
  expect([...decisions.made]).toEqual([
    ["a", 0],
    ["never asked for", 7],
  ]);
});
