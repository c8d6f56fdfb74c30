import { readdir, readFile, truncate } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { rootPath } from "../model/golden-model.ts";
import type { ProcessOptions } from "./process.ts";
import { prepareTraining, set, train } from "./training.ts";

it("--weights-cache: kept by one run, used by the next, made anew when it is damaged, done without on a full disk", async () => {
  const training = await prepareTraining("export: {merged_16bit: false}\n");
  const cache = join(training.folder, "dpo-train", "weights");
  const runTo = async (name: string, options: ProcessOptions = {}) => {
    const output = join(training.folder, name);
    const { code, stdout, stderr } = await train(training, ["--weights-cache", ...set({ output_dir: output })], {
      ...options,
      environment: { XDG_CACHE_HOME: training.folder, ...options.environment },
    });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const run = JSON.parse(await readFile(join(output, "run.json"), "utf8"));
    return { stdout, run, metrics: await readFile(join(output, "metrics.jsonl"), "utf8") };
  };

  const first = await runTo("first");
  expect(first.stdout).toMatch(/^kept the converted weights for the next run: 0\.\d MB in /m);
  expect(first.stdout).toMatch(/^loaded 0\.1 MB in \d+\.\d s \(\d+\.\d MB\/s\)$/m);
  expect(first.run.model.loaded_from).toBe("files");
  expect(first.run.timings.load_bytes_per_s).toBeGreaterThan(0);
  expect(first.run.timings.keep_weights_s).toBeGreaterThan(0);

  const second = await runTo("second");
  expect(second.stdout).toMatch(/^loaded .* from the converted weights that an earlier run kept$/m);
  expect(second.run.model).toEqual({ ...first.run.model, loaded_from: "cache" });
  expect(second.run.sha256).toEqual(first.run.sha256);
  expect(second.run.timings.keep_weights_s).toBeUndefined();
  const losses = (metrics: string) => metrics.match(/"(loss|grad_norm|logps\/\w+)":[^,]+/g);
  expect(losses(second.metrics)).toEqual(losses(first.metrics));

  const [file] = await readdir(cache);
  await truncate(join(cache, file!), 5000);
  const third = await runTo("third", {
    node: ["--import", rootPath("test/cli/full-disk.mjs")],
    environment: { FULL_DISK: join("dpo-train", "weights") },
  });
  expect(third.stdout).toMatch(/^note: the kept weights cannot be used, so the model's files are read: .*5000/m);
  expect(third.stdout).toMatch(/^note: the converted weights could not be kept: .*no space left on device$/m);
  expect(third.run.model.loaded_from).toBe("files");
  expect(await readdir(cache)).toEqual([file]);
});
