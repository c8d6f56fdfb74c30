import { describe, expect, it } from "vitest";
import { formatSize, printable, printableLines } from "../src/text.ts";

/** What a terminal obeys: a colour, a title by OSC, the C1 form of CSI, a carriage return, a bell, a bidi override. */
const HOSTILE = "\u001b[31m \u001b]0;title\u0007 \u009b2J \r \b \u202e \u2066 \ufeff \u2028";

describe("printableLines", () => {
  it("escapes what a terminal obeys", () => {
    const shown = printableLines(HOSTILE);
    expect(shown).toBe(printable(HOSTILE));
    expect(shown).toMatch(/^[\u0020-\u007e]+$/);
    expect(shown).toContain("\\u001b[31m");
  });

  it("keeps lines, tabs, joiners and all letters, whatever the length", () => {
    const text = `Größe\tä\n\n👩\u200d👧 می\u200cخواهم ${"x".repeat(5000)}`;
    expect(printableLines(text)).toBe(text);
  });
});

it("formatSize gives megabytes, and gigabytes from one on", () => {
  expect([0, 262_144, 999_000_000, 1e9, 16_060_522_496].map(formatSize)).toEqual([
    "0.0 MB",
    "0.3 MB",
    "999.0 MB",
    "1.00 GB",
    "16.06 GB",
  ]);
});
