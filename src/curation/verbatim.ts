import { splitSentences } from "./extracts.ts";
import { strip } from "./python-text.ts";

/** What counts as the same text, as the report says it. */
export const VERBATIM_RULE =
  "words, their order and case, and . , ! ? must be the extract's; spaces, hyphens, quotes, apostrophes and underscores, " +
  "which cleaning changes or leaves over, need not; sentences from different places may be joined; the extract's own text is what is written";

const KEPT = /[\p{L}\p{N}.,!?]/u;
const WORD_CHARACTER = /[\p{L}\p{N}]/u;
const PUNCTUATION = /[.,!?]/;

/** A text reduced to what must agree: words and . , ! ?, with one space where anything else stood between two words. */
interface Reduced {
  readonly text: string;
  /** For each UTF-16 unit of `text` where in the original it comes from. */
  readonly origins: readonly number[];
}

/**
 * Looks an answer up in the extract that it was to be copied from, by VERBATIM_RULE.
 *
 * @returns the extract's own text, or that of the answer's sentences joined by spaces; null where it is not there
 */
export function findVerbatim(extract: string, answer: string): string | null {
  const exact = strip(answer);
  const at = WORD_CHARACTER.test(exact) ? extract.indexOf(exact) : -1;
  if (at >= 0 && standsAtWords(extract, at, exact.length)) return exact;
  const reduced = reduce(extract);
  const whole = findReduced(extract, reduced, answer);
  if (whole !== null) return whole;
  const sentences = splitSentences(answer).map((sentence) => findReduced(extract, reduced, sentence));
  return sentences.length > 1 && sentences.every((text) => text !== null) ? sentences.join(" ") : null;
}

function reduce(original: string): Reduced {
  let text = "";
  const origins: number[] = [];
  let hasGap = false;
  let end = 0;
  for (let at = 0; at < original.length; ) {
    const character = String.fromCodePoint(original.codePointAt(at)!);
    if (KEPT.test(character)) {
      if (hasGap && text !== "" && !PUNCTUATION.test(character)) {
        text += " ";
        origins.push(end);
      }
      text += character;
      for (let unit = 0; unit < character.length; unit++) origins.push(at + unit);
      hasGap = false;
      end = at + character.length;
    } else {
      hasGap = true;
    }
    at += character.length;
  }
  return { text, origins };
}

function findReduced(extract: string, { text, origins }: Reduced, answer: string): string | null {
  const wanted = reduce(answer).text;
  if (!WORD_CHARACTER.test(wanted)) return null;
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + 1)) {
    if (!standsAtWords(text, at, wanted.length)) continue;
    const last = origins[at + wanted.length - 1]!;
    return extract.slice(origins[at]!, last + 1);
  }
  return null;
}

/** Whether a part of a text begins and ends where its words do: "art" does not stand in "start". */
function standsAtWords(text: string, at: number, length: number): boolean {
  const cutsWord = (position: number) =>
    isWordBefore(text, position) && WORD_CHARACTER.test(String.fromCodePoint(text.codePointAt(position) ?? 0x20));
  return !cutsWord(at) && !cutsWord(at + length);
}

function isWordBefore(text: string, position: number): boolean {
  return WORD_CHARACTER.test(Array.from(text.slice(Math.max(0, position - 2), position)).at(-1) ?? " ");
}
