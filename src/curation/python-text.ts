/**
 * What Python's `re` and `str` understand by their classes of characters, where JavaScript's differ: `\w` holds no
 * combining marks and no ASCII limit, `\s` holds U+001C to U+001F and U+0085 but not U+FEFF, and lengths count code points.
 * For use inside `[…]` of a regular expression with the `u` flag.
 */
export const PYTHON_WORD = "\\p{L}\\p{N}_";
export const PYTHON_SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";

const OUTER_SPACE = new RegExp(`^[${PYTHON_SPACE}]+|[${PYTHON_SPACE}]+$`, "gu");

/** `text.strip()` */
export function strip(text: string): string {
  return text.replace(OUTER_SPACE, "");
}

/** `len(text)` */
export function codePointLength(text: string): number {
  let length = 0;
  for (const _ of text) length++;
  return length;
}

/** `text[0].isupper()`, false for no text. */
export function startsUpper(text: string): boolean {
  return /^\p{Uppercase}/u.test(text);
}
