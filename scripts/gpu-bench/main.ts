import { mkdirSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { availableParallelism, cpus, tmpdir, totalmem, userInfo } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { ExpectedError, InputError } from "../../src/errors.ts";
import { printable } from "../../src/text.ts";
import { hashFolders, readRecords } from "./bench-folder.ts";
import { BenchRun } from "./bench-run.ts";
import { removeModels } from "./models.ts";
import { findPython } from "./python.ts";
import { SIZES, type Size } from "./sizes.ts";
import { type Stage, stagesOf } from "./stages.ts";

// scripts/gpu-bench.sh says what this does. Nothing is measured in this process.

/** Kept back at the end to stop what runs, which may finish a step first, and to write the results: of the time at most a fifth. */
const RESERVE_SECONDS = 12;
const NO_DEVICE = 3;

function readOptions() {
  const { values } = parseArgs({
    options: {
      out: { type: "string", default: "runs/gpu-bench" },
      seconds: { type: "string", default: "520" },
      elapsed: { type: "string", default: "0" },
      device: { type: "string", default: "auto" },
      sizes: { type: "string" },
      only: { type: "string" },
      models: { type: "string" },
      set: { type: "string", multiple: true, default: [] },
      steps: { type: "string", default: "8" },
      "trl-steps": { type: "string", default: "6" },
    },
  });
  const sizes = values.sizes?.split(",").map((size) => {
    if (!(SIZES as readonly string[]).includes(size)) {
      throw new InputError(`--sizes must list ${SIZES.join(", ")}, got ${printable(size)}`);
    }
    return size as Size;
  });
  return {
    ...values,
    sizes,
    only: values.only?.split(",") ?? null,
    seconds: wholeNumber("--seconds", values.seconds, 1),
    elapsed: wholeNumber("--elapsed", values.elapsed, 0),
    // Below these no step is left to time: the first ones warm up, or are profiled.
    steps: wholeNumber("--steps", values.steps, 5),
    trlSteps: wholeNumber("--trl-steps", values["trl-steps"], 3),
  };
}

function wholeNumber(option: string, text: string, least: number): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < least) {
    throw new InputError(`${option} must be a whole number of at least ${least}, got ${printable(text)}`);
  }
  return value;
}

async function main(signal: AbortSignal): Promise<number> {
  const options = readOptions();
  const root = fileURLToPath(new URL("../../", import.meta.url));
  const settings = { set: options.set, steps: options.steps, trl_steps: options.trlSteps };
  const measured = ["dist", "kernels", "configs", "scripts/gpu-bench"].map((name) => path.join(root, name));
  const build = hashFolders(measured, JSON.stringify(settings));
  const out = path.resolve(options.out);
  const earlier = readRecords(out, build);
  const work = path.resolve(options.models ?? path.join(tmpdir(), `dpo-train-gpu-bench-${userInfo().uid}`));
  const scratch = path.join(work, "scratch");
  rmSync(scratch, { recursive: true, force: true });
  for (const folder of [out, scratch]) mkdirSync(folder, { recursive: true });
  const python = findPython(process.env.PYTHON || "python3");
  const host = {
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    processor: cpus()[0]?.model ?? null,
    processors: availableParallelism(),
    memory_bytes: totalmem(),
  };
  const reserveSeconds = Math.min(RESERVE_SECONDS, options.seconds / 5);
  const run = new BenchRun(
    {
      ...{ root, out, work, scratch, python, signal },
      logFile: path.join(out, "log.txt"),
      device: options.device,
      steps: options.steps,
      peerSteps: options.trlSteps,
      settings: options.set,
      deadlineMs: performance.now() + (options.seconds - options.elapsed - reserveSeconds) * 1000,
      graceMs: 0.7 * reserveSeconds * 1000,
    },
    { records: earlier.records, sizes: options.sizes ?? earlier.sizes },
    { build_sha256: build, settings, host, python },
  );
  try {
    const { status, result } = await run.findDevice();
    if (result === null) return status === "skipped" ? 0 : NO_DEVICE;
    const isWanted = ({ name, kind }: Stage) => options.only?.includes(name) || options.only?.includes(kind);
    const stages = stagesOf(run.sizes).filter((stage) => stage.kind !== "device" && (!options.only || isWanted(stage)));
    const failures = await run.stages(stages);
    // A model that a further call will want is left where it is.
    if (!options.models)
      removeModels(
        work,
        run.sizes.filter((size) => !run.missesTimeFor(stages, size)),
      );
    process.stdout.write(`\n${run.save()}\n${path.join(options.out, "bench.json")}\n`);
    return failures > 0 ? 1 : 0;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
    if (!options.models && readdirSync(work).length === 0) rmdirSync(work);
  }
}

const interrupted = new AbortController();
for (const [name, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const) {
  process.once(name, () => interrupted.abort(new ExpectedError("interrupted; what was measured is kept", code)));
}
try {
  process.exitCode = await main(interrupted.signal);
} catch (error) {
  const isUsage = error instanceof TypeError && "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS");
  process.exitCode = error instanceof ExpectedError ? error.exitCode : isUsage ? 2 : 1;
  const isExpected = error instanceof ExpectedError || isUsage;
  process.stderr.write(`gpu-bench: ${isExpected ? (error as Error).message : (error as Error).stack}\n`);
}
