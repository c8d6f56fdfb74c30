import { printable, printableLines } from "./text.ts";

/**
 * Where a command tells its user what it does. Whatever a text holds, nothing that a terminal obeys reaches it but what
 * is written here.
 */
export interface Terminal {
  /** A line that stays, or several. */
  readonly line: (text: string) => void;
  /** What is going on: rewritten in place on a terminal, and printed seldom where output is a file. */
  readonly status: (text: string) => void;
  /** A step of long work: rewritten in place on a terminal, a line of its own elsewhere. */
  readonly progress: (text: string) => void;
}

export interface CommandTerminal extends Terminal {
  /** Takes away what would be rewritten in place, before something else writes to the same terminal. */
  readonly clear: () => void;
}

/** Elsewhere than on a terminal a status is printed at most this often. */
const PLAIN_STATUS_INTERVAL_MS = 10_000;
/** To the start of the line, and away with it and what stands below. */
const ERASE_FROM_LINE = "\r\u001b[J";
const PART_GAP = "  ";
/** Of a terminal that does not say. */
const DEFAULT_COLUMNS = 80;

export type OutputStream = Pick<NodeJS.WriteStream, "isTTY" | "columns"> & { write: (text: string) => unknown };

export function createTerminal(stream: OutputStream = process.stdout): CommandTerminal {
  return stream.isTTY ? rewritingTerminal(stream) : plainTerminal(stream);
}

function plainTerminal(stream: OutputStream): CommandTerminal {
  let lastStatusMs = Date.now();
  const line = (text: string) => void stream.write(`${printableLines(text)}\n`);
  return {
    line,
    progress: line,
    status: (text) => {
      const now = Date.now();
      if (now - lastStatusMs < PLAIN_STATUS_INTERVAL_MS) return;
      lastStatusMs = now;
      line(text);
    },
    clear: () => {},
  };
}

function rewritingTerminal(stream: OutputStream): CommandTerminal {
  let shownLines = 0;
  const clear = () => {
    if (shownLines > 0) stream.write(`${shownLines > 1 ? cursorUp(shownLines - 1) : ""}${ERASE_FROM_LINE}`);
    shownLines = 0;
  };
  const show = (text: string) => {
    clear();
    // The last column stays free: some terminals wrap after filling it, and a line that wrapped could not be erased.
    const width = Math.max(1, (stream.columns || DEFAULT_COLUMNS) - 1);
    const lines = fold(printable(text, Number.POSITIVE_INFINITY), width);
    stream.write(lines.join("\n"));
    shownLines = lines.length;
  };
  return {
    status: show,
    progress: show,
    line: (text) => {
      clear();
      stream.write(`${printableLines(text)}\n`);
    },
    clear,
  };
}

function cursorUp(lines: number): string {
  return `\u001b[${lines}A`;
}

/** Breaks text between its parts, which two spaces set apart, into lines of `width`; a part that is longer is cut. */
function fold(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const part of text.split(PART_GAP)) {
    const line = `${lines.at(-1)}${PART_GAP}${part}`;
    if (lines.length > 0 && line.length <= width) lines[lines.length - 1] = line;
    else lines.push(part.slice(0, width));
  }
  return lines;
}
