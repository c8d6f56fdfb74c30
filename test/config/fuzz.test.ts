import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { dumpConfig } from "../../src/config/dump.ts";
import { parsed, problems } from "./problems.ts";

const RECIPE = readFileSync(new URL("../../configs/twin.yaml", import.meta.url), "utf8").replace(/^ *#.*\n/gm, "");
const PIECES = [
  ..."-?:[]{}&*!|>'\"#%,@`\\~0\n\r\t\0\u2028\ufeff",
  "- ",
  ": ",
  "&a ",
  "*a",
  "!!str ",
  "<<: ",
  "---\n",
  "null",
];

/** A linear congruential generator: the same edits in every run. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test("a config with random edits either loads, and back from its dump, or ends with an InputError", () => {
  const random = generator(1);
  let loaded = 0;
  for (let run = 0; run < 1500; run++) {
    let text = RECIPE;
    for (let edits = 1 + random(4); edits > 0; edits--) {
      const at = random(text.length);
      const piece = random(3) === 0 ? "" : PIECES[random(PIECES.length)];
      text = text.slice(0, at) + piece + text.slice(at + random(3));
    }
    if (problems(text).length > 0) continue;
    loaded++;
    const config = parsed(text);
    expect(parsed(dumpConfig(config))).toEqual(config);
  }
  expect(loaded).toBeGreaterThan(20);
  expect(loaded).toBeLessThan(500);
});
