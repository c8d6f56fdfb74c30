import { printable, printableLines } from "../text.ts";

/**
 * Text of others inside a line or a cell, as code: nothing in it is Markdown, HTML or a link. A bar, which ends a cell also
 * in code, becomes a broken one.
 */
export function code(text: string): string {
  const safe = printable(text, 500).replaceAll("|", "¦");
  const fence = "`".repeat(longestRun(safe) + 1);
  const padding = safe.includes("`") ? " " : "";
  return safe.trim() === "" ? "" : `${fence}${padding}${safe}${padding}${fence}`;
}

/** Text of others as a block of code, whatever it holds. */
export function codeBlock(text: string, language = ""): string {
  const safe = printableLines(text.replaceAll("\r\n", "\n"));
  const fence = "`".repeat(Math.max(2, longestRun(safe)) + 1);
  return `${fence}${language}\n${safe}\n${fence}`;
}

/** Cells are Markdown. */
export function table(header: readonly string[], rows: readonly (readonly string[])[], numeric = false): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const rule = header.map((_, i) => (numeric && i > 0 ? "---:" : "---"));
  return [line(header), line(rule), ...rows.map(line)].join("\n");
}

/** The most backticks in a row. */
function longestRun(text: string): number {
  return Math.max(0, ...Array.from(text.matchAll(/`+/g), ([run]) => run.length));
}
