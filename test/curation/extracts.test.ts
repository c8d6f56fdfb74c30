import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { cleanText, extractSubstrings } from "../../src/curation/extracts.ts";
import { isLongEnough, isWellFormed } from "../../src/curation/filters.ts";
import { codePointLength, PYTHON_SPACE, PYTHON_WORD, startsUpper } from "../../src/curation/python-text.ts";
import { rootPath } from "../model/golden-model.ts";

function golden<T>(name: string): T {
  return JSON.parse(readFileSync(rootPath(`test/golden/extracts/${name}`), "utf8")) as T;
}

type Ranges = readonly (readonly [number, number])[];

describe("extracts are those of the chapter's Python code, to the character", () => {
  const articles: string[] = JSON.parse(
    gunzipSync(readFileSync(rootPath("test/golden/extracts/articles.json.gz"))).toString("utf8"),
  );

  it("of the handbook's articles", () => {
    const { extracts } = golden<{ extracts: [number, string, string][] }>("extracts.json");
    const found = articles.flatMap((article) => extractSubstrings(article));
    expect(articles).toHaveLength(76);
    expect(
      found.map((text) => [
        codePointLength(text),
        createHash("sha256").update(text).digest("hex"),
        Array.from(text).slice(0, 40).join(""),
      ]),
    ).toEqual(extracts);
    expect(found).toHaveLength(500);
  });

  it("of texts that are easy to get wrong", () => {
    interface Odd {
      readonly text: string;
      readonly cleaned: string;
      readonly extracts: readonly (readonly [number, number, readonly string[]])[];
    }
    const { texts } = golden<{ texts: Odd[] }>("odd.json");
    expect(texts.length).toBeGreaterThan(70);
    for (const { text, cleaned, extracts } of texts) {
      expect(cleanText(text)).toBe(cleaned);
      for (const [low, high, expected] of extracts) expect(extractSubstrings(text, low, high)).toEqual(expected);
    }
  });
});

it("the filters keep what the chapter's keep", () => {
  const { answers, long_enough, well_formed } = golden<{
    answers: string[];
    long_enough: boolean[];
    well_formed: boolean[];
  }>("filters.json");
  expect(answers.map(isLongEnough)).toEqual(long_enough);
  expect(answers.map(isWellFormed)).toEqual(well_formed);
});

it("the classes of characters are Python's, for every character that its Unicode has", () => {
  const classes = golden<Record<"word" | "space" | "upper" | "assigned", Ranges>>("classes.json");
  const members = (ranges: Ranges) => {
    const flags = new Uint8Array(0x110000);
    for (const [first, last] of ranges) flags.fill(1, first, last + 1);
    return flags;
  };
  const [word, space, upper, assigned] = [classes.word, classes.space, classes.upper, classes.assigned].map(members);
  const isWord = new RegExp(`[${PYTHON_WORD}]`, "u");
  const isSpace = new RegExp(`[${PYTHON_SPACE}]`, "u");
  const wrong: string[] = [];
  for (let code = 0; code < 0x110000; code++) {
    if (!assigned![code]) continue;
    const character = String.fromCodePoint(code);
    if (isWord.test(character) !== Boolean(word![code])) wrong.push(`word ${code.toString(16)}`);
    if (isSpace.test(character) !== Boolean(space![code])) wrong.push(`space ${code.toString(16)}`);
    if (startsUpper(character) !== Boolean(upper![code])) wrong.push(`upper ${code.toString(16)}`);
  }
  expect(wrong).toEqual([]);
});
