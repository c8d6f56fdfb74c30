import { describe, expect, it } from "vitest";
import { sideBySide } from "../../src/cli/columns.ts";

describe("sideBySide", () => {
  it("breaks both texts at words, and fills up the shorter one", () => {
    expect(sideBySide(["left", "one two three four"], ["right", "five\nsix"], 23)).toEqual([
      "left       │ right",
      "────────── │ ──────────",
      "one two    │ five",
      "three four │ six",
    ]);
  });

  it("breaks a word that is longer than a column, and counts characters, not their halves", () => {
    const rows = sideBySide(["a", "x".repeat(12)], ["b", "😀".repeat(11)], 23);
    expect(rows.slice(2)).toEqual([`${"x".repeat(10)} │ ${"😀".repeat(10)}`, "xx         │ 😀"]);
  });

  it("keeps empty lines, and takes empty texts", () => {
    expect(sideBySide(["a", "x\n\ny"], ["b", ""], 9).slice(2)).toEqual(["x   │", "    │", "y   │"]);
  });
});
