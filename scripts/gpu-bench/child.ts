import { spawn } from "node:child_process";
import { appendFileSync } from "node:fs";

export interface ChildOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd: string;
  /** It is asked to stop after this, and killed when it is still there after the grace. */
  readonly limitMs: number;
  readonly graceMs: number;
  /** Everything it prints is appended here. */
  readonly logFile: string;
  /** Called with each line as it arrives. */
  readonly onLine?: (line: string, nowMs: number) => void;
  readonly signal: AbortSignal;
}

export interface ChildEnd {
  /** Null where it was stopped by a signal. */
  readonly exitCode: number | null;
  readonly timedOut: boolean;
  readonly lastLine: string;
}

/** Runs a process to its end. Rejects only with the signal's reason, when the process is gone. */
export async function runChild(options: ChildOptions): Promise<ChildEnd> {
  const { command, args, env, cwd, limitMs, graceMs, logFile, onLine, signal } = options;
  signal.throwIfAborted();
  appendFileSync(logFile, `\n$ ${[command, ...args].join(" ")}\n`);
  const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  let lastLine = "";
  for (const stream of [child.stdout, child.stderr]) {
    let rest = "";
    stream.setEncoding("utf8").on("data", (text: string) => {
      appendFileSync(logFile, text);
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        if (line.trim() !== "") lastLine = line.trim();
        onLine?.(line, performance.now());
      }
    });
  }
  let timedOut = false;
  let kill: NodeJS.Timeout | undefined;
  const stop = () => {
    child.kill("SIGTERM");
    kill ??= setTimeout(() => child.kill("SIGKILL"), graceMs);
  };
  const limit = setTimeout(() => {
    timedOut = true;
    stop();
  }, limitMs);
  signal.addEventListener("abort", stop, { once: true });
  try {
    const exitCode = await new Promise<number | null>((resolve) => {
      child.once("error", (error) => {
        lastLine = error.message;
        resolve(127);
      });
      child.once("close", resolve);
    });
    signal.throwIfAborted();
    return { exitCode, timedOut, lastLine };
  } finally {
    clearTimeout(limit);
    clearTimeout(kill);
    signal.removeEventListener("abort", stop);
  }
}
