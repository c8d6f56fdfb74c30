import { codePointLength, startsUpper } from "./python-text.ts";

/** Characters (code points) that a chosen answer has at least. */
export const ANSWER_MIN_LENGTH = 100;

/** LLM Engineer's Handbook, chapter 6, filter_short_answers. */
export function isLongEnough(answer: string): boolean {
  return codePointLength(answer) >= ANSWER_MIN_LENGTH;
}

/** Starts with a capital and ends with `.`, `!` or `?`. LLM Engineer's Handbook, chapter 6, filter_answer_format. */
export function isWellFormed(answer: string): boolean {
  return startsUpper(answer) && /[.!?]$/.test(answer);
}

/** Texts that differ only in case, spaces or how their characters are composed have the same key. */
export function duplicateKey(...texts: readonly string[]): string {
  return JSON.stringify(texts.map((text) => text.normalize("NFKC").toLowerCase().replace(/\s+/gu, " ").trim()));
}
