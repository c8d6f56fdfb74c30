/** Where a command tells its user what it does. */
export interface Terminal {
  /** A line that stays. */
  readonly line: (text: string) => void;
  /** What is going on: one line that is rewritten in place on a terminal, and printed seldom where output is a file. */
  readonly status: (text: string) => void;
  /** A step of long work: rewritten in place on a terminal, a line of its own elsewhere. */
  readonly progress: (text: string) => void;
}

/** Elsewhere than on a terminal a status is printed at most this often. */
const PLAIN_STATUS_INTERVAL_MS = 10_000;
const ERASE_LINE = "\r\u001b[K";

export function createTerminal(stream: NodeJS.WriteStream = process.stdout): Terminal {
  if (!stream.isTTY) {
    let lastStatusMs = Date.now();
    const line = (text: string) => void stream.write(`${text}\n`);
    return {
      line,
      progress: line,
      status: (text) => {
        const now = Date.now();
        if (now - lastStatusMs < PLAIN_STATUS_INTERVAL_MS) return;
        lastStatusMs = now;
        line(text);
      },
    };
  }
  let shown = "";
  const show = (text: string) => {
    shown = text.slice(0, Math.max(1, (stream.columns || 80) - 1));
    stream.write(`${ERASE_LINE}${shown}`);
  };
  return {
    status: show,
    progress: show,
    line: (text) => {
      stream.write(`${shown === "" ? "" : ERASE_LINE}${text}\n`);
      shown = "";
    },
  };
}
