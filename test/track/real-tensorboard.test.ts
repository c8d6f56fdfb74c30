import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, it } from "vitest";
import { findTrackers } from "../../src/track/environment.ts";
import { startTracking } from "../../src/track/tracking.ts";
import { rootPath } from "../model/golden-model.ts";
import { beginRun } from "./run-folder.ts";

/** A Python that has TensorBoard: named in TENSORBOARD_PYTHON, else the one on the path, where it has. */
function findPython(): string | null {
  const python = process.env.TENSORBOARD_PYTHON ?? "python3";
  try {
    execFileSync(python, ["-c", "import tensorboard"], { stdio: "ignore" });
    return python;
  } catch {
    return null;
  }
}

const PYTHON = findPython();
if (!PYTHON) {
  console.warn(
    "no Python with TensorBoard is installed: its reading of our event files is left out (pip install tensorboard, or name such a Python in TENSORBOARD_PYTHON)",
  );
}

it.skipIf(!PYTHON)("TensorBoard itself reads every value, the hyperparameters, the samples and the end", async () => {
  const run = await beginRun();
  const tracking = startTracking(run.folder, [findTrackers(["tensorboard"], {})[0]!(run.folder)], () => {});
  await run.train(110);
  await run.end("done");
  await tracking.end();
  const program = rootPath("test/track/read-event-files.py");
  const output = execFileSync(PYTHON!, [program, join(run.folder, "tensorboard")], { encoding: "utf8" });
  const read = JSON.parse(output) as {
    scalars: Record<string, [step: number, value: number][]>;
    texts: Record<string, string>;
    hparams: Record<string, unknown>;
    status: number;
  };
  const scalars = Object.entries(read.scalars).flatMap(([tag, points]) =>
    points.map(([step, value]) => [tag, step, value]),
  );
  const expected = run.points(true).map(([tag, step, value]) => [tag, step, Math.fround(value)]);
  const inOrder = (points: unknown[][]) => points.map((point) => JSON.stringify(point)).sort();
  expect(inOrder(scalars)).toEqual(inOrder(expected));
  expect(read.hparams).toMatchObject({ beta: 0.1, "lora.r": 8, sample_prompt: "Who?" });
  expect(read.texts).toMatchObject({ "sample/after": "    I, *dpo-train* 🙂", "sample/prompt": "    Who?" });
  expect(read.status, "STATUS_SUCCESS").toBe(1);
});
