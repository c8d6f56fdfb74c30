import { describe, expect, it } from "vitest";
import { printable, printableLines } from "../src/text.ts";

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
