import { afterEach, describe, expect, it, vi } from "vitest";
import { createTerminal } from "../src/terminal.ts";

/** A stream that keeps what is written. */
function recordingStream(isTTY: boolean, columns = 0) {
  const stream = {
    isTTY,
    columns,
    text: "",
    write(text: string) {
      stream.text += text;
    },
  };
  return stream;
}

/** What a terminal shows after it has got a text: the few sequences that ours uses, and no others. */
function screenOf(text: string, columns: number): string[] {
  const screen: string[] = [""];
  let [row, column] = [0, 0];
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the sequences that a terminal obeys.
  for (const [token] of text.matchAll(/\u001b\[\d*[A-Z]|./gsu)) {
    if (token === "\n") [row, column] = [row + 1, 0];
    else if (token === "\r") column = 0;
    else if (token === "\u001b[J") {
      screen[row] = screen[row]!.slice(0, column);
      screen.length = row + 1;
    } else if (/^.\[\d+A$/.test(token)) row -= Number(token.slice(2, -1));
    else if (token.startsWith("\u001b")) throw new Error(`an unknown sequence ${JSON.stringify(token)}`);
    else {
      if (column === columns) [row, column] = [row + 1, 0];
      screen[row] = `${(screen[row] ?? "").padEnd(column).slice(0, column)}${token}`;
      column++;
    }
    screen[row] ??= "";
  }
  return screen;
}

const STEP =
  "step 1/3  loss 0.6931  margin 0.0000  accuracy 0.00  kl 0.0000  grad 0.48  lr 1.0e-2  9.00 pairs/s  3670 tokens/s  0:01 left";

describe("on a terminal", () => {
  it.each([20, 40, 80, 200])("of %i columns status and progress are rewritten in place, lines stay", (columns) => {
    const stream = recordingStream(true, columns);
    const terminal = createTerminal(stream);
    terminal.line("first");
    terminal.status("loading: 10%");
    terminal.status("loading: 100%");
    expect(screenOf(stream.text, columns)).toEqual(["first", "loading: 100%"]);
    terminal.line("loaded");
    expect(screenOf(stream.text, columns)).toEqual(["first", "loaded", ""]);
    terminal.progress(STEP);
    const shown = screenOf(stream.text, columns).slice(2);
    expect(shown.join("  ")).toBe(STEP);
    for (const line of shown) expect(line.length).toBeLessThan(columns);
    terminal.progress(STEP.replace("1/3", "2/3"));
    expect(screenOf(stream.text, columns).slice(2).join("  ")).toBe(STEP.replace("1/3", "2/3"));
    terminal.line("done");
    expect(screenOf(stream.text, columns)).toEqual(["first", "loaded", "done", ""]);
  });

  it("clear leaves an empty line for what comes next, and does nothing where nothing stands", () => {
    const stream = recordingStream(true, 80);
    const terminal = createTerminal(stream);
    terminal.clear();
    terminal.line("first");
    terminal.clear();
    expect(stream.text).toBe("first\n");
    terminal.progress(STEP);
    terminal.clear();
    terminal.clear();
    stream.write("dpo-train: an error\n");
    expect(screenOf(stream.text, 80)).toEqual(["first", "dpo-train: an error", ""]);
  });

  it("a part that is longer than the terminal is cut", () => {
    for (const [columns, width] of [
      [10, 9],
      [1, 1],
      [0, 79],
    ] as const) {
      const stream = recordingStream(true, columns);
      createTerminal(stream).status("x".repeat(300));
      expect(screenOf(stream.text, columns || 80)).toEqual(["x".repeat(width)]);
    }
  });
});

describe("elsewhere", () => {
  afterEach(() => void vi.useRealTimers());

  it("lines and progress are lines, and a status is one every ten seconds", () => {
    vi.useFakeTimers();
    const stream = recordingStream(false);
    const terminal = createTerminal(stream);
    terminal.line("first");
    terminal.status("0%");
    terminal.progress("step 1");
    vi.advanceTimersByTime(9_999);
    terminal.status("9%");
    vi.advanceTimersByTime(1);
    terminal.status("10%");
    terminal.status("11%");
    vi.advanceTimersByTime(10_000);
    terminal.status("20%");
    terminal.clear();
    expect(stream.text).toBe("first\nstep 1\n10%\n20%\n");
  });
});

it.each([true, false])("nothing that a terminal obeys goes through (terminal: %s)", (isTTY) => {
  const evil = "\u001b[2J\u009b1A\r\u0007\u202e\u2028";
  const stream = recordingStream(isTTY, 500);
  const terminal = createTerminal(stream);
  terminal.line(`a${evil}\n\tb`);
  terminal.progress(`${evil}\n`);
  expect(screenOf(stream.text, 500)).toEqual([
    "a\\u001b[2J\\u009b1A\\r\\u0007\\u202e\\u2028",
    "\tb",
    isTTY ? "\\u001b[2J\\u009b1A\\r\\u0007\\u202e\\u2028\\n" : "\\u001b[2J\\u009b1A\\r\\u0007\\u202e\\u2028",
    ...(isTTY ? [] : ["", ""]),
  ]);
});
