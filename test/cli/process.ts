import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { onTestFinished } from "vitest";
import { rootPath } from "../model/golden-model.ts";

// dpo-train as a process of its own: what `npm run build` has built, as npm installs it.

const MAIN = rootPath("dist/cli/main.js");

type OutputName = "stdout" | "stderr";

/** An argument of Node.js that makes an output take itself for a terminal of 80 columns. */
export function pretendTerminal(name: OutputName): string {
  return preloaded(`Object.assign(process.${name}, { isTTY: true, columns: 80 });`);
}

/** An argument of Node.js: the process sends itself a signal when it first writes a text, and so on for further texts. */
export function signalAt(name: OutputName, texts: readonly string[], signal: NodeJS.Signals): string {
  return preloaded(`
    const texts = ${JSON.stringify(texts)};
    const write = process.${name}.write.bind(process.${name});
    process.${name}.write = (written, ...rest) => {
      const isAccepted = write(written, ...rest);
      if (texts.length > 0 && written.includes(texts[0])) {
        texts.shift();
        process.kill(process.pid, "${signal}");
      }
      return isAccepted;
    };`);
}

function preloaded(code: string): string {
  return `--import=data:text/javascript,${encodeURIComponent(code)}`;
}

export interface Ended {
  /** Null where a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ProcessOptions {
  /** Standard input; without it it ends at once. */
  readonly input?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Arguments of Node.js itself. */
  readonly node?: readonly string[];
  /** An open file that standard output goes to; without it it goes into the result. */
  readonly stdout?: number;
}

/** Starts `dpo-train ARGS` in the repository's root. */
export function start(args: readonly string[], options: ProcessOptions = {}): ChildProcess {
  requireFreshBuild();
  const child = spawn(process.execPath, [...(options.node ?? []), MAIN, ...args], {
    cwd: rootPath("."),
    env: { ...process.env, ...options.environment },
    stdio: ["pipe", options.stdout ?? "pipe", "pipe"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  child.stdin!.on("error", () => {}); // A command that is refused does not read it.
  child.stdin!.end(options.input ?? "");
  return child;
}

/** Waits for the end. */
export async function ended(child: ChildProcess): Promise<Ended> {
  const texts = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]?.setEncoding("utf8").on("data", (text: string) => {
      texts[name] += text;
    });
  }
  return new Promise((resolve) => {
    child.on("close", (code, signal) => resolve({ code, signal, ...texts }));
  });
}

/** `dpo-train ARGS` from its start to its end. */
export function dpoTrain(args: readonly string[], options: ProcessOptions = {}): Promise<Ended> {
  return ended(start(args, options));
}

/** Tests of a build that is older than the source would say nothing. */
function requireFreshBuild(): void {
  const source = rootPath("src");
  const files = readdirSync(source, { recursive: true, encoding: "utf8" });
  const newestMs = Math.max(...files.map((file) => statSync(`${source}/${file}`).mtimeMs));
  const builtMs = statSync(MAIN, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (builtMs < newestMs) throw new Error("dist is older than src: npm run build");
}
