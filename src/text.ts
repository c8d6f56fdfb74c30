/** Control, C1, bidirectional and line-separator characters: what a terminal could obey or a reader could be misled by. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this removes.
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/**
 * Untrusted text made safe to show in a terminal or a message: every control, C1 and bidirectional character is written
 * as its escape (`\u001b`), and text over `maxLength` characters is cut with an ellipsis.
 */
export function printable(text: string, maxLength = 200): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
  return cut.replace(UNPRINTABLE, (character) => {
    if (character === "\n") return "\\n";
    if (character === "\t") return "\\t";
    if (character === "\r") return "\\r";
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

/** Line feeds, tabs, and the joiners that emoji and several scripts are written with. */
const KEPT_IN_LINES = new Set(["\n", "\t", "\u200c", "\u200d"]);

/** What a model has written, of any length, made safe to show in a terminal: as `printable`, but the lines stay lines. */
export function printableLines(text: string): string {
  return text.replace(UNPRINTABLE, (character) => (KEPT_IN_LINES.has(character) ? character : printable(character)));
}

/** A number of bytes for people: `7.9 MB`, `16.06 GB`. */
export function formatSize(sizeBytes: number): string {
  return sizeBytes < 1e9 ? `${(sizeBytes / 1e6).toFixed(1)} MB` : `${(sizeBytes / 1e9).toFixed(2)} GB`;
}

/** A large number in words that follow it: `8.03 billion`. */
export function formatCount(count: number): string {
  const scales = [
    [1e18, "quintillion"],
    [1e15, "quadrillion"],
    [1e12, "trillion"],
    [1e9, "billion"],
    [1e6, "million"],
  ] as const;
  for (const [size, word] of scales) if (count >= size) return `${(count / size).toPrecision(3)} ${word}`;
  return String(Math.round(count));
}
