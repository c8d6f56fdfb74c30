import { describe, expect, it } from "vitest";
import { extractSubstrings } from "../../src/curation/extracts.ts";
import { findVerbatim } from "../../src/curation/verbatim.ts";

const EXTRACT =
  "Fine tune a model , they said. It s the author 's own voice! Start with 3.1 percent, e.g. a third. The end isn't near.";

describe("an extracted answer stands in its extract", () => {
  it.each([
    ["to the character", "It s the author 's own voice!", "It s the author 's own voice!"],
    ["with an apostrophe of its own", "'s own voice!", "'s own voice!"],
    ["with other spaces", "  It s\tthe author\n's  own voice!  ", "It s the author 's own voice!"],
    [
      "with hyphens, quotes and apostrophes restored",
      "“Fine-tune a model, they said. It’s the author’s own voice!”",
      "Fine tune a model , they said. It s the author 's own voice!",
    ],
    ["with brackets and a bold mark", "**The end** (isn't) near.", "The end isn't near."],
    [
      "joined from two places",
      "Fine tune a model, they said. The end isn't near.",
      "Fine tune a model , they said. The end isn't near.",
    ],
    [
      "joined in the other order",
      "The end isn't near. It's the author's own voice!",
      "The end isn't near. It s the author 's own voice!",
    ],
  ])("%s", (_, answer, expected) => {
    expect(findVerbatim(EXTRACT, answer)).toBe(expected);
  });

  it.each([
    ["nothing", ""],
    ["spaces", "  \n"],
    ["punctuation alone", "..."],
    ["another word", "It is the author's own voice!"],
    ["another case", "it s the author 's own voice!"],
    ["another order", "the author It s own voice!"],
    ["a part of a word", "art with 3.1 percent"],
    ["a word that goes on", "the auth"],
    ["a sentence more", "It s the author 's own voice! And more."],
    ["an ellipsis", "Fine tune a model ... It s the author 's own voice!"],
    ["other punctuation", "It s the author 's own voice."],
    ["another number", "Start with 31 percent"],
  ])("but not %s", (_, answer) => {
    expect(findVerbatim(EXTRACT, answer)).toBeNull();
  });

  it("whatever emphasis cleaning left in it", () => {
    expect(
      findVerbatim(
        "Use _Fine Tuning SFT _ and __bold__ of author_id .",
        "Use Fine Tuning (SFT) and **bold** of `author_id`.",
      ),
    ).toBe("Use _Fine Tuning SFT _ and __bold__ of author_id .");
  });

  it("in any script, beyond the basic plane too", () => {
    const extract = "𝔄𝔅 ℭ. Ünïcödé and 日本語 end. Nai ve cafe .";
    expect(findVerbatim(extract, "𝔄𝔅-ℭ.")).toBe("𝔄𝔅 ℭ.");
    expect(findVerbatim(extract, "𝔅 ℭ.")).toBeNull();
    expect(findVerbatim(extract, "Ünïcödé – and “日本語” end.")).toBe("Ünïcödé and 日本語 end.");
    expect(findVerbatim(extract, "Nai\u0308ve cafe\u0301.")).toBe("Nai ve cafe .");
  });

  it("whatever cleaning took away from it", () => {
    let seed = 7;
    const random = (below: number) => {
      seed = (seed * 48271) % 2147483647;
      return seed % below;
    };
    const marks = ["-", "’", "“", "”", " — ", "*", "(", ")", "\n", "  ", "`", "/"];
    for (let round = 0; round < 200; round++) {
      const words = Array.from({ length: 60 }, (_, i) => `${"wxyz"[random(4)]}${i}`);
      const original = words.map((word) => word + (random(3) === 0 ? marks[random(marks.length)]! : " ")).join(" ");
      const [extract] = extractSubstrings(`${original}.`, 1, 100_000);
      const from = random(50);
      const answer = original.slice(original.indexOf(words[from]!), original.indexOf(words[from + 8]!));
      const found = findVerbatim(extract!, answer);
      expect(found).not.toBeNull();
      expect(extract).toContain(found);
      expect(found!.split(/ +/)).toEqual(words.slice(from, from + 8));
    }
  });
});
