import { existsSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import path from "node:path";
import { type Bench, endReason, type Outcome, runInBench, script, skipped, withoutResult } from "./bench.ts";
import { type BenchPairs, makePairs } from "./pairs.ts";
import { lacking, PYTHON_ENVIRONMENT } from "./python.ts";
import { MODEL_SIZES, type Size } from "./sizes.ts";

const MODEL_BYTES: Readonly<Record<Size, number>> = { "8b": 16.1e9, "1b": 2.5e9, tiny: 1e7 };

export interface Prepared {
  readonly model: string;
  readonly pairsFile: string;
  readonly pairs: BenchPairs;
}

/** The model and the pairs, made where an earlier stage or call has not. */
export async function prepareModel(bench: Bench, size: Size): Promise<Prepared | Outcome> {
  const model = path.join(bench.work, size);
  const done = path.join(bench.work, `${size}.complete`);
  const example = path.join(bench.root, "examples/twin-tiny");
  if (!existsSync(done)) {
    const missing = lacking(bench.python, ["torch", "transformers"]);
    if (missing) return skipped(`to make the model, ${missing}`);
    rmSync(model, { recursive: true, force: true });
    const { bavail, bsize } = statfsSync(bench.work);
    if (bavail * bsize < 1.05 * MODEL_BYTES[size]) {
      return skipped(`the model needs ${MODEL_BYTES[size] / 1e9} GB in ${bench.work} (--models DIR chooses another)`);
    }
    const args = [script(bench, "make_model.py"), model, "--size", size, "--tokenizer", path.join(example, "model")];
    const end = await runInBench(bench, bench.python.command, args, PYTHON_ENVIRONMENT);
    if (end.exitCode !== 0) return { ...withoutResult(end), reason: `the model was not made: ${endReason(end)}` };
    writeFileSync(done, "");
  }
  const pairs = await makePairs(example, MODEL_SIZES[size].pairScale);
  const pairsFile = path.join(bench.scratch, `pairs-${size}.jsonl`);
  writeFileSync(pairsFile, pairs.rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  return { model, pairsFile, pairs };
}

/** Removes the models of these sizes. */
export function removeModels(work: string, sizes: readonly Size[]): void {
  for (const size of sizes) {
    for (const name of [size, `${size}.complete`]) rmSync(path.join(work, name), { recursive: true, force: true });
  }
}
