import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { type Bench, endReason, type Outcome, readJson, runInBench, script, skipped, withoutResult } from "./bench.ts";
import { prepareModel } from "./models.ts";
import { watchCards } from "./nvidia.ts";
import { lacking, PYTHON_ENVIRONMENT } from "./python.ts";
import type { CublasResult, PeerResult } from "./report.ts";
import { MODEL_SIZES, productsOf, type Size } from "./sizes.ts";
import type { Stage } from "./stages.ts";
import {
  ratesOf,
  recipeSettings,
  type StepRates,
  stepClock,
  stepSeconds,
  type TrainResult,
  timedSteps,
} from "./train.ts";

// Each stage as a process of its own, one at a time.

/** Steps that `dpo-train --profile` times kernel by kernel. */
const PROFILED = [2, 4] as const;

/** So long at most, that a process which hangs does not take the time of all others. */
const LIMIT_SECONDS = { device: 30, matmul: 150, ceiling: 60, cublas: 90, kernels: 60 } as const;
/** Drivers for the CPU are slow, and there is little else to measure. */
const SOFTWARE_LIMIT_FACTOR = 2;

export async function runStage(bench: Bench, { kind, size }: Stage): Promise<Outcome> {
  switch (kind) {
    case "device":
    case "matmul":
    case "ceiling":
    case "kernels":
      return runKernels(bench, kind, size);
    case "cublas":
      return runCublas(bench, size);
    case "train":
      return runTrain(bench, size);
    case "trl":
    case "trl-tuned":
      return runPeer(bench, size, kind === "trl-tuned");
    default:
      return kind satisfies never;
  }
}

type Measured = "device" | "matmul" | "ceiling" | "kernels";

async function runKernels(bench: Bench, what: Measured, size: Size): Promise<Outcome> {
  if (what === "ceiling" && !bench.facts?.fragments) {
    return skipped("the device has no subgroup matrices with f16 factors and f32 sums");
  }
  if (what !== "device" && !bench.facts?.features.includes("timestamp-query")) {
    return skipped("the device has no timestamp queries");
  }
  const program = path.join(bench.root, "dist/gpu-bench/kernels.js");
  return runMeasuring(bench, what, process.execPath, (out) => {
    return [program, what, "--device", bench.device, "--size", size, "--out", out];
  });
}

async function runCublas(bench: Bench, size: Size): Promise<Outcome> {
  if (bench.facts?.software) return skipped("the device is a CPU, where there is no cuBLAS");
  const missing = lacking(bench.python, ["torch"]);
  if (missing) return skipped(missing);
  const products = path.join(bench.scratch, "products.json");
  writeFileSync(products, JSON.stringify(productsOf(MODEL_SIZES[size])));
  return runMeasuring(bench, "cublas", bench.python.command, (out) => {
    return [script(bench, "cublas.py"), products, out];
  });
}

/** A process that writes `{complete, measured}` again and again, so that what it has is there whenever it ends. */
async function runMeasuring(
  bench: Bench,
  name: keyof typeof LIMIT_SECONDS,
  command: string,
  argsFor: (out: string) => readonly string[],
): Promise<Outcome> {
  const out = path.join(bench.scratch, `${name}.json`);
  const limitMs = LIMIT_SECONDS[name] * 1000 * (bench.facts?.software ? SOFTWARE_LIMIT_FACTOR : 1);
  const deadlineMs = Math.min(bench.deadlineMs, performance.now() + limitMs);
  const end = await runInBench({ ...bench, deadlineMs }, command, argsFor(out));
  const found = readJson<{ complete: boolean; measured: unknown } & Record<string, unknown>>(out);
  if (!found) return withoutResult(end);
  const { complete, ...rest } = found;
  const result = name === "cublas" ? (rest as unknown as CublasResult) : found.measured;
  return complete ? { status: "done", reason: null, result } : { status: "partial", reason: endReason(end), result };
}

async function runTrain(bench: Bench, size: Size): Promise<Outcome> {
  const { facts, steps, scratch } = bench;
  const prepared = await prepareModel(bench, size);
  if ("status" in prepared) return prepared;
  const output = path.join(scratch, `run-${size}`);
  const profiled = facts?.features.includes("timestamp-query") ? PROFILED : null;
  const precision = facts?.fragments ? "f16" : "f32";
  const clock = stepClock();
  const cards = watchCards();
  const end = await runInBench(
    bench,
    process.execPath,
    [
      path.join(bench.root, "dist/cli/main.js"),
      ...["--config", path.join(bench.root, "configs/twin.yaml"), "--device", bench.device, "--precision", precision],
      ...(profiled ? ["--profile"] : []),
      ...recipeSettings(prepared.model, prepared.pairsFile, output, steps),
      ...bench.settings.flatMap((setting) => ["--set", setting]),
    ],
    {},
    clock.onLine,
  );
  const card = cards.stop();
  const seconds = stepSeconds(clock.ends());
  const rates = ratesOf(timedSteps(seconds, profiled), prepared.pairs);
  if (!rates) return withoutResult(end);
  const record = readJson<RunRecord>(path.join(output, "run.json"));
  const profile = readJson<object>(path.join(output, "profile.json"));
  const trace = path.join(output, "trace.json");
  if (existsSync(trace)) writeFileSync(path.join(bench.out, `trace-${size}.json.gz`), gzipSync(readFileSync(trace)));
  const result: TrainResult = {
    ...rates,
    precision,
    all_step_seconds: seconds,
    profiled_steps: profiled,
    reference_seconds: record?.timings.reference_s ?? null,
    load_seconds: record?.timings.load_s ?? null,
    compile_seconds: record?.timings.compile_s ?? null,
    peak_bytes: record?.memory.peak_bytes ?? null,
    max_tokens_per_batch: record?.schedule.max_tokens_per_batch ?? null,
    card,
    losses: readLosses(path.join(output, "metrics.jsonl")),
    profile,
  };
  return end.exitCode === 0
    ? { status: "done", reason: null, result }
    : { status: "partial", reason: endReason(end), result };
}

/** What is taken from dpo-train's run.json. */
interface RunRecord {
  readonly timings: Readonly<Record<string, number>>;
  readonly memory: { readonly peak_bytes: number };
  readonly schedule: { readonly max_tokens_per_batch: number };
}

async function runPeer(bench: Bench, size: Size, isTuned: boolean): Promise<Outcome> {
  const missing = lacking(bench.python, ["torch", "transformers", "peft", "datasets", "trl"]);
  if (missing) return skipped(missing);
  const prepared = await prepareModel(bench, size);
  if ("status" in prepared) return prepared;
  const out = path.join(bench.scratch, isTuned ? `trl-tuned-${size}.json` : `trl-${size}.json`);
  const cards = watchCards();
  const end = await runInBench(
    bench,
    bench.python.command,
    [
      script(bench, "peer_trl.py"),
      ...[prepared.model, prepared.pairsFile, out, "--steps", String(bench.peerSteps)],
      ...(isTuned ? ["--tuned"] : []),
    ],
    PYTHON_ENVIRONMENT,
  );
  const card = cards.stop();
  const found = readJson<WrittenByPeer>(out);
  const rates = found && ratesOf(timedSteps(found.step_seconds, null), prepared.pairs);
  if (!rates) return withoutResult(end);
  const { complete, step_seconds, ...rest } = found;
  const result: PeerResult = { ...rest, ...rates, all_step_seconds: step_seconds, card };
  return complete ? { status: "done", reason: null, result } : { status: "partial", reason: endReason(end), result };
}

/** What peer_trl.py writes. */
type WrittenByPeer = Omit<PeerResult, keyof StepRates | "all_step_seconds" | "card"> & {
  readonly complete: boolean;
  readonly step_seconds: readonly number[];
};

function readLosses(file: string): number[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line.endsWith("}"));
  return lines.map((line) => (JSON.parse(line) as { loss: number }).loss);
}
