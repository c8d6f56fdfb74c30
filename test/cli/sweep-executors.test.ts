import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { TEST_DEVICE } from "../device.ts";
import { startSlurm, whyNoSlurm } from "../sweep/executors/slurm-cluster.ts";
import { dpoTrain, type ProcessOptions } from "./process.ts";
import { prepareTraining, type Training } from "./training.ts";

const SWEEP = "save_steps: 1\nsweep: {grid: {learning_rate: [1.0e-3, 1.0e-2]}}\n";
const NAMES = ["learning_rate=0.001", "learning_rate=0.01"];

function sweep({ config }: Training, args: readonly string[] = [], options?: ProcessOptions) {
  return dpoTrain(["sweep", "--device", TEST_DEVICE, "--config", config, ...args], options);
}

async function resultsOf({ output }: Training) {
  const { runs } = JSON.parse(await readFile(join(output, "sweep.json"), "utf8"));
  return runs.map(({ name, status, final }: { name: string; status: string; final: { eval_loss: number } }) => [
    name,
    status,
    typeof final.eval_loss,
  ]);
}
const ALL_DONE = NAMES.map((name) => [name, "done", "number"]);

describe("dpo-train sweep --executor", { timeout: 300_000 }, () => {
  it("local trains the runs in processes of their own, to the bits of a single one, and merges the best", async () => {
    const training = await prepareTraining(SWEEP);
    const ended = await sweep(training, ["--executor", "local", "--gpus", "2"]);
    expect(ended).toMatchObject({ code: 0, stderr: "" });
    expect(await resultsOf(training)).toEqual(ALL_DONE);
    expect((await readdir(join(training.output, "local"))).sort()).toEqual(NAMES.map((name) => `${name}.log`));
    expect(await readdir(join(training.output, NAMES[1]!))).toContain("merged");

    const together = await prepareTraining(SWEEP);
    await sweep(together);
    for (const name of NAMES) {
      const [apart, alone] = await Promise.all(
        [training, together].map(({ output }) => readFile(join(output, name, "metrics.jsonl"), "utf8")),
      );
      expect(apart).toBe(alone);
    }
  });

  it.skipIf(whyNoSlurm() !== null)(
    `slurm trains them as tasks of a job array${whyNoSlurm() === null ? "" : `: skipped, ${whyNoSlurm()}`}`,
    async () => {
      const cluster = await startSlurm();
      try {
        const training = await prepareTraining(SWEEP);
        const environment = { SLURM_CONF: cluster.configFile };
        const ended = await sweep(training, ["--executor", "slurm", "--throttle", "1"], { environment });
        expect(ended).toMatchObject({ code: 0, stderr: "" });
        expect(await resultsOf(training)).toEqual(ALL_DONE);
        expect((await readdir(join(training.output, "slurm"))).sort()).toEqual([
          "0.log",
          "1.log",
          "jobs.json",
          "task.sh",
        ]);
        expect(ended.stdout).toContain("to merge the best run: dpo-train merge --model ");
        const again = await sweep(training, ["--executor", "slurm"], { environment });
        expect(again.code).toBe(0);
        expect(again.stdout).toContain("of which 0 are left to do");
      } finally {
        await cluster.stop();
      }
    },
  );

  it("kubernetes writes a Job whose pods train one run each", async () => {
    const training = await prepareTraining(SWEEP);
    const options = ["--executor", "kubernetes", "--image", "registry/dpo-train:1", "--claim", "work"];
    // The sweep's folder must be in the folder that is mounted, which is the one that the command is started from.
    const inside = ["--set", "output_dir=runs/kubernetes-test"];
    const ended = await sweep(training, [...options, ...inside]);
    try {
      expect(ended).toMatchObject({ code: 0, stderr: "" });
      const job = parse(await readFile("runs/kubernetes-test/kubernetes.yaml", "utf8"));
      expect(job.spec).toMatchObject({ completionMode: "Indexed", completions: 2 });
      const { command } = job.spec.template.spec.containers[0];
      expect(command.slice(0, 3)).toEqual(["dpo-train", "sweep", "--config"]);
      expect(command.slice(-2)).toEqual(["--only", "$(JOB_COMPLETION_INDEX)"]);
    } finally {
      await rm("runs/kubernetes-test", { recursive: true, force: true });
    }
    const outside = await sweep(training, options);
    expect(outside.code).toBe(2);
    expect(outside.stderr).toContain("the sweep's output folder must be in the mounted folder");
  });

  it.each([
    [["--gpus", "2"], "--gpus has no effect without --executor local"],
    [["--throttle", "2"], "--throttle has no effect without --executor slurm or kubernetes"],
    [["--executor", "local", "--throttle", "2"], "--throttle has no effect without --executor slurm or kubernetes"],
    [["--executor", "local"], "--executor local needs --gpus N: how many GPUs of this machine to train on"],
    [["--executor", "local", "--gpus", "0"], '--gpus must be a whole number of at least 1, got "0"'],
    [
      ["--executor", "kubernetes", "--claim", "c"],
      "--executor kubernetes needs --image, an image with dpo-train in it",
    ],
    [["--executor", "pbs"], "Allowed choices are local, slurm, kubernetes"],
  ])("%j is refused", async (args, message) => {
    const ended = await sweep(await prepareTraining(SWEEP), args);
    expect(ended.code).toBe(2);
    expect(ended.stderr).toContain(message);
  });
});
