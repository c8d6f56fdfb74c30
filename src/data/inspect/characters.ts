import { printable } from "../../text.ts";
import { placeOf } from "../problems.ts";
import type { PreferenceRow } from "../rows.ts";
import { SIDES, systemOf, textOf } from "./row-texts.ts";

/** Characters that seldom belong into training data: a model learns to write them. */
export interface CharacterFinding {
  kind: string;
  rows: number;
  occurrences: number;
  /** Where it is found first, and the text around it, printable. */
  first: string;
  example: string;
}

// biome-ignore-start lint/suspicious/noControlCharactersInRegex: control characters are what this looks for.
// biome-ignore-start lint/suspicious/noMisleadingCharacterClass: each is looked for by itself.
const KINDS: readonly (readonly [kind: string, expression: RegExp])[] = [
  ["control characters", /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g],
  ["C1 control characters", /[\u0080-\u009f]/g],
  ["terminal escape sequences", /(?:\u001b[[\]()#P^_X]|\u009b)/g],
  ["carriage returns without a line feed", /\r(?!\n)/g],
  ["bidirectional controls", /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g],
  ["invisible characters", /[\u00ad\u180e\u200b\u2060-\u2064\ufeff]|\udb40[\udc00-\udc7f]/g],
  ["replacement characters (U+FFFD: bytes were lost)", /\ufffd/g],
  ["private-use characters and noncharacters", /[\p{Co}\p{Noncharacter_Code_Point}]/gu],
  // UTF-8 that was read as Latin-1 or Windows-1252: é became Ã©, ’ became â€™, Russian letters became pairs with Ð or Ñ.
  [
    "mojibake (UTF-8 read as Latin-1 or Windows-1252)",
    /[\u00c2\u00c3][\u0080-\u00bf]|\u00e2\u20ac[\u0080-\u00bf\u0152-\u0178\u02c6\u02dc\u2010-\u203a\u20ac\u2122]|(?:[\u00d0\u00d1][\u0080-\u00bf\u0152-\u0192\u2010-\u203a\u20ac\u2122]){2}|\u00f0\u0178/g,
  ],
];
// biome-ignore-end lint/suspicious/noMisleadingCharacterClass: each is looked for by itself.

/** What most texts are made of alone. */
const PLAIN = /^[\t\n\u0020-\u007e]*$/;
// biome-ignore-end lint/suspicious/noControlCharactersInRegex: control characters are what this looks for.

const AROUND = 20;

/** Looks at every character of the rows. Only what is found is listed. */
export function findCharacters(rows: readonly PreferenceRow[]): CharacterFinding[] {
  const found = new Map<string, CharacterFinding>();
  for (const row of rows) {
    const texts = [systemOf(row), ...SIDES.map((side) => textOf(row, side))].filter((text) => !PLAIN.test(text));
    if (texts.length === 0) continue;
    for (const [kind, expression] of KINDS) {
      const occurrences = texts.reduce((sum, text) => sum + (text.match(expression)?.length ?? 0), 0);
      if (occurrences === 0) continue;
      const finding = found.get(kind) ?? { kind, rows: 0, occurrences: 0, ...firstOf(row, texts, expression) };
      finding.rows++;
      finding.occurrences += occurrences;
      found.set(kind, finding);
    }
  }
  return KINDS.flatMap(([kind]) => found.get(kind) ?? []);
}

function firstOf(row: PreferenceRow, texts: readonly string[], expression: RegExp) {
  const text = texts.find((candidate) => candidate.search(expression) >= 0)!;
  const at = text.search(expression);
  const start = Math.max(0, at - AROUND);
  return { first: placeOf(row.source), example: printable(text.slice(start, at + AROUND)) };
}
