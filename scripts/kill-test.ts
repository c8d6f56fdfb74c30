import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

// Kills a training with SIGKILL at random moments, also while it saves, continues it with --resume, and compares what it
// ends with, byte for byte, with a run that nobody disturbed: npx tsx scripts/kill-test.ts [--kills 100] [--seed 1]
// [--device software]. It needs `npm run build`.

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const SAVE_STEPS = 3;
const TOTAL_STEPS = 30;

/** Uneven micro-batches, averaged records and evaluations, so that there is much to get wrong. */
const CONFIG = `model: test/golden/models/f16-one-kv
dataset: test/golden/data/plain-train.jsonl
eval_dataset: test/golden/data/plain-eval.jsonl
prompt_template: alpaca
lora: {r: 2, lora_alpha: 4, target_modules: [q_proj, down_proj]}
learning_rate: 1.0e-2
per_device_train_batch_size: 2
gradient_accumulation_steps: 2
max_steps: ${TOTAL_STEPS}
eval_strategy: steps
eval_steps: 7
logging_steps: 2
save_steps: ${SAVE_STEPS}
reference_cache: false
`;

/** What must be the same to the last byte. */
const RESULTS = [
  "metrics.jsonl",
  "adapter/adapter_model.safetensors",
  "merged/model.safetensors",
  `checkpoints/step-${String(TOTAL_STEPS).padStart(6, "0")}/optimizer.safetensors`,
];

export interface KillTestOptions {
  readonly kills: number;
  readonly seed: number;
  readonly device: string;
  readonly onLine?: (line: string) => void;
}

export interface KillTestResult {
  /** By the moment they were sent at. */
  readonly kills: Readonly<Record<Moment["kind"], number>>;
  /** Runs that came to their end after kills, each equal to the undisturbed one. */
  readonly runsDone: number;
  /** Most steps that one kill has cost. */
  readonly mostStepsLost: number;
}

/** When to kill: so long after the start, so long after so many steps, or so long after a file of a checkpoint appeared. */
type Moment =
  | { readonly kind: "by the clock"; readonly delayMs: number }
  | { readonly kind: "between steps"; readonly steps: number; readonly delayMs: number }
  | { readonly kind: "while saving"; readonly saves: number; readonly delayMs: number };

/** @throws Error where a run does not continue, has lost more than save_steps, or ends otherwise than undisturbed */
export async function killTest({ kills, seed, device, onLine = () => {} }: KillTestOptions): Promise<KillTestResult> {
  const random = randomNumbers(seed);
  const folder = await mkdtemp(join(tmpdir(), "dpo-train-kill-"));
  try {
    const config = join(folder, "train.yaml");
    await writeFile(config, CONFIG);
    const start = (output: string, ...more: string[]) =>
      startTraining(["--config", config, "--device", device, "--set", `output_dir=${output}`, ...more]);
    const undisturbed = join(folder, "undisturbed");
    const startMs = performance.now();
    await requireDone(start(undisturbed));
    const runMs = performance.now() - startMs;

    const counts = { "by the clock": 0, "between steps": 0, "while saving": 0 };
    let [sent, runsDone, mostStepsLost, isFresh] = [0, 0, 0, true];
    for (let run = 0; sent < kills || !isFresh; ) {
      const output = join(folder, `run-${run}`);
      const training = start(output, "--resume");
      const moment = sent < kills ? randomMoment(random, runMs) : null;
      const stepBefore = await newestCheckpoint(output);
      const { isKilled, lastStep } = await killAt(training, moment, join(output, "checkpoints"));
      isFresh = false;
      if (isKilled) {
        sent++;
        counts[moment!.kind]++;
        const newest = await newestCheckpoint(output);
        const lost = Math.max(0, lastStep - newest);
        mostStepsLost = Math.max(mostStepsLost, lost);
        onLine(`kill ${sent}: ${describe(moment!)}: after step ${lastStep}, the newest checkpoint is ${newest}`);
        if (lost > SAVE_STEPS) throw new Error(`kill ${sent} has lost ${lost} steps, more than ${SAVE_STEPS}`);
        if (newest < stepBefore) throw new Error(`kill ${sent} has lost the checkpoint of step ${stepBefore}`);
        continue;
      }
      await requireDone(training);
      for (const name of RESULTS) await requireEqual(join(undisturbed, name), join(output, name));
      onLine(`run ${run + 1} is done, and equal to the undisturbed one`);
      await rm(output, { recursive: true });
      [run, runsDone, isFresh] = [run + 1, runsDone + 1, true];
    }
    return { kills: counts, runsDone, mostStepsLost };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface Training {
  readonly child: ChildProcess;
  readonly ended: Promise<{ readonly code: number | null; readonly output: string }>;
  readonly onStep: (listener: (step: number) => void) => void;
}

function startTraining(args: readonly string[]): Training {
  const child = spawn(process.execPath, [join(ROOT, "dist/cli/main.js"), ...args], { cwd: ROOT });
  const listeners: ((step: number) => void)[] = [];
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      for (const [, step] of text.matchAll(/^step +(\d+)\//gm))
        for (const listener of listeners) listener(Number(step));
    });
  }
  const ended = new Promise<{ code: number | null; output: string }>((resolve) => {
    child.on("close", (code) => resolve({ code, output }));
  });
  return { child, ended, onStep: (listener) => void listeners.push(listener) };
}

async function requireDone({ ended }: Training): Promise<void> {
  const { code, output } = await ended;
  if (code !== 0) throw new Error(`the training ended with exit code ${code}:\n${output}`);
}

/** Kills a training at a moment, unless it ends before. */
async function killAt(
  { child, ended, onStep }: Training,
  moment: Moment | null,
  checkpoints: string,
): Promise<{ isKilled: boolean; lastStep: number }> {
  let lastStep = 0;
  let steps = 0;
  let isOver = false;
  const kill = (delayMs: number) => void setTimeout(() => child.kill("SIGKILL"), delayMs);
  onStep((step) => {
    lastStep = step;
    if (moment?.kind === "between steps" && ++steps === moment.steps) kill(moment.delayMs);
  });
  if (moment?.kind === "by the clock") kill(moment.delayMs);
  const watching = moment?.kind === "while saving" ? killWhileSaving(child, moment, checkpoints, () => isOver) : null;
  const { code, output } = await ended;
  isOver = true;
  await watching;
  if (code !== null && code !== 0) throw new Error(`the training ended with exit code ${code}:\n${output}`);
  return { isKilled: code === null, lastStep };
}

async function killWhileSaving(
  child: ChildProcess,
  { saves, delayMs }: Extract<Moment, { kind: "while saving" }>,
  checkpoints: string,
  isOver: () => boolean,
): Promise<void> {
  const old = new Set(await readdir(checkpoints).catch(() => [] as string[]));
  let seen = 0;
  while (!isOver()) {
    for (const name of await readdir(checkpoints).catch(() => [] as string[])) {
      if (!/^\.step-.*\.partial$/.test(name) || old.has(name)) continue;
      old.add(name);
      if (++seen < saves) continue;
      await sleep(delayMs);
      child.kill("SIGKILL");
      return;
    }
    await sleep(1);
  }
}

function randomMoment(random: () => number, runMs: number): Moment {
  const kind = random();
  if (kind < 0.2) return { kind: "by the clock", delayMs: random() * runMs };
  if (kind < 0.5) return { kind: "between steps", steps: 1 + Math.floor(random() * 8), delayMs: random() * 100 };
  return { kind: "while saving", saves: 1 + Math.floor(random() * 3), delayMs: random() * 15 };
}

function describe(moment: Moment): string {
  const delay = `${moment.delayMs.toFixed(1)} ms`;
  if (moment.kind === "by the clock") return `${delay} after the start`;
  if (moment.kind === "between steps") return `${delay} after ${moment.steps} steps`;
  return `${delay} into save ${moment.saves}`;
}

async function newestCheckpoint(output: string): Promise<number> {
  const names = await readdir(join(output, "checkpoints")).catch(() => [] as string[]);
  return Math.max(0, ...names.flatMap((name) => (/^step-\d+$/.test(name) ? [Number(name.slice(5))] : [])));
}

async function requireEqual(expected: string, found: string): Promise<void> {
  if (!(await readFile(expected)).equals(await readFile(found))) throw new Error(`${found} differs from ${expected}`);
}

/** Mulberry32: the same moments for the same seed, as far as a machine can be the same. */
function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const { values } = parseArgs({
    options: {
      kills: { type: "string", default: "100" },
      seed: { type: "string", default: "1" },
      device: { type: "string", default: "software" },
    },
  });
  const { kills, runsDone, mostStepsLost } = await killTest({
    kills: Number(values.kills),
    seed: Number(values.seed),
    device: values.device,
    onLine: (line) => console.log(line),
  });
  const moments = Object.entries(kills).map(([kind, count]) => `${count} ${kind}`);
  console.log(`${values.kills} kills: ${moments.join(", ")}; at most ${mostStepsLost} steps were lost at once`);
  console.log(`${runsDone} runs came to their end, each equal to the undisturbed one`);
}
