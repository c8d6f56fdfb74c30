import { codePointLength, PYTHON_SPACE, PYTHON_WORD, strip } from "./python-text.ts";

/** Lengths in characters (code points) between which extracts lie. */
export const EXTRACT_MIN_LENGTH = 1000;
export const EXTRACT_MAX_LENGTH = 2000;

const UNWANTED = new RegExp(`[^${PYTHON_WORD}${PYTHON_SPACE}.,!?']`, "gu");
const SPACES = new RegExp(`[${PYTHON_SPACE}]+`, "gu");
/** A space behind the end of a sentence, but not behind abbreviations such as "e.g." and "Mr.". */
const SENTENCE_GAP = new RegExp(
  `(?<![${PYTHON_WORD}]\\.[${PYTHON_WORD}].)(?<![A-Z][a-z]\\.)(?<=[.?!])[${PYTHON_SPACE}]`,
  "u",
);

/**
 * Leaves letters, digits, `_`, spaces and `. , ! ? '`; anything else becomes a space, and spaces in a row become one.
 * LLM Engineer's Handbook, chapter 6, clean_text.
 */
export function cleanText(text: string): string {
  return strip(text.replace(UNWANTED, " ").replace(SPACES, " "));
}

/** The sentences of a cleaned text. */
export function splitSentences(text: string): string[] {
  return text
    .split(SENTENCE_GAP)
    .map(strip)
    .filter((sentence) => sentence !== "");
}

/**
 * Cuts an article, cleaned first, into extracts of whole sentences, each as long as fits into `maxLength` characters. What
 * is left over below `minLength` is dropped; a single sentence longer than `maxLength` stays whole.
 * LLM Engineer's Handbook, chapter 6, extract_substrings, of one article.
 */
export function extractSubstrings(
  article: string,
  minLength: number = EXTRACT_MIN_LENGTH,
  maxLength: number = EXTRACT_MAX_LENGTH,
): string[] {
  const extracts: string[] = [];
  let chunk = "";
  let chunkLength = 0;
  // The space behind the last sentence counts, as in the original.
  const finish = () => void (chunkLength >= minLength && extracts.push(strip(chunk)));
  for (const sentence of splitSentences(cleanText(article))) {
    const length = codePointLength(sentence);
    if (chunkLength + length > maxLength) {
      finish();
      chunk = "";
      chunkLength = 0;
    }
    chunk += `${sentence} `;
    chunkLength += length + 1;
  }
  finish();
  return extracts;
}
