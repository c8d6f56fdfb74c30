import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { InputError } from "../../../src/errors.ts";
import { runOnSlurm, type SlurmOptions } from "../../../src/sweep/executors/slurm.ts";
import { openRecord, slurmFiles } from "../../../src/sweep/executors/slurm-job.ts";
import { type FakeSweep, fakeSweep } from "./fake-sweep.ts";

/** What Slurm's own commands say, in the versions whose words were seen. */
const CONTROLLER_AWAY = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)";

describe("what Slurm's commands say", () => {
  const { PATH: path } = process.env;
  let programs: string;
  let sweep: FakeSweep;

  beforeEach(() => {
    programs = mkdtempSync(join(tmpdir(), "programs-"));
    process.env.PATH = programs;
    sweep = fakeSweep([{}, {}]);
  });
  afterEach(() => {
    process.env.PATH = path;
    rmSync(programs, { recursive: true });
    sweep.remove();
  });

  /** Puts a shell script in place of a command. It may use `$calls`, how often it was called before. */
  function put(name: string, script: string): void {
    const count = join(programs, `${name}.calls`);
    const counting = `calls=0; [ -e ${count} ] && read calls <${count}; echo $((calls + 1)) >${count}`;
    writeFileSync(join(programs, name), `#!/bin/sh\n${counting}\n${script}\n`);
    chmodSync(join(programs, name), 0o755);
  }
  function follow(options: Partial<SlurmOptions> = {}) {
    const defaults = { ...sweep.options, sweepId: "a", throttle: null, sbatchOptions: [], pollIntervalMs: 5 };
    return runOnSlurm({ ...defaults, ...options });
  }
  /** A job that has been submitted is done at once. */
  const finishOnSubmission = () => {
    for (const { folder } of sweep.tasks) rmSync(join(folder, "plan"), { force: true });
    return sweep.tasks.map(({ folder }) => `echo done >"${folder}/status"`).join("\n");
  };

  it.each([
    ["squeue", () => {}],
    ["sbatch", () => put("squeue", "")],
  ])("is missed where there is no %s", async (name, prepare) => {
    prepare();
    await expect(follow()).rejects.toThrow(
      new InputError(
        `${name} was not found: --executor slurm must be started on a login node of a Slurm cluster; ` +
          "--executor local --gpus N trains on this machine's GPUs",
      ),
    );
  });

  it("refuses tasks whose numbers would mean other runs, until those in the queue are gone", async () => {
    const other = { sweepId: "b" };
    await openRecord(slurmFiles(sweep.folder), sweep.folder, "a");
    put("squeue", "echo '7|1|RUNNING|node|None'");
    put("sbatch", `${finishOnSubmission()}; echo 8`);
    await expect(follow(other)).rejects.toThrow(
      /^the sweep has other runs now than when its jobs were submitted, and 1 of their tasks may still be in the queue: let them end, or end them with scancel --name=dpo-train-/,
    );
    put("squeue", "echo '7|1|COMPLETED|node|None'");
    expect(await follow(other)).toEqual([]);
  });

  it("is passed on when sbatch refuses", async () => {
    put("squeue", "");
    put("sbatch", "echo 'sbatch: error: Batch job submission failed: Invalid account' >&2; exit 1");
    await expect(follow()).rejects.toThrow("sbatch says: sbatch: error: Batch job submission failed: Invalid account");
  });

  it("is passed on when squeue refuses at first", async () => {
    put("squeue", "echo 'squeue: fatal: Could not establish a configuration source' >&2; exit 1");
    await expect(follow()).rejects.toThrow("squeue says: squeue: fatal: Could not establish a configuration source");
  });

  it("is printed without what a terminal obeys", async () => {
    put("squeue", "");
    put("sbatch", "printf '\\033[2Jgone\\n' >&2; exit 1");
    await expect(follow()).rejects.toThrow("sbatch says: \\u001b[2Jgone");
  });

  it("may be nothing", async () => {
    put("squeue", "exit 3");
    await expect(follow()).rejects.toThrow("squeue failed and says nothing");
  });

  it.each(["", "Submitted batch job 12", "12 x", "-1"])("must be a job's id from sbatch, not %j", async (output) => {
    put("squeue", "");
    put("sbatch", `echo '${output}'`);
    await expect(follow()).rejects.toThrow(`sbatch must print the job's id with --parsable, but printed "${output}"`);
  });

  it.each(["12", "12;cluster", "Welcome to 3 clusters!\n\n12"])("may be a job's id as in %j", async (output) => {
    put("squeue", "echo 'CLUSTER: one'; echo; echo 'a|b'");
    put("sbatch", `${finishOnSubmission()}\necho '${output}'`);
    expect(await follow()).toEqual([]);
    expect(sweep.lines[0]).toContain("submitted job array 12 (0-1)");
  });

  it("is waited out when the controller is away: from the start, between, and at a submission", async () => {
    put("squeue", `case $calls in 0 | 1 | 5) echo '${CONTROLLER_AWAY}' >&2; exit 1 ;; esac`);
    put(
      "sbatch",
      `[ $calls = 0 ] && { echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1; }
${finishOnSubmission()}\necho 7`,
    );
    expect(await follow()).toEqual([]);
    expect(sweep.lines.filter((line) => line.includes("waiting, jobs that are in the queue go on"))).toHaveLength(3);
    expect(sweep.lines.filter((line) => line === "Slurm answers again")).toHaveLength(3);
    expect(sweep.statuses()).toEqual(["done", "done"]);
  });

  it("is looked at before another submission where it is not known whether the first was taken", async () => {
    // The first call is taken and not answered.
    put("sbatch", `echo taken >${programs}/taken; echo 'sbatch: error: timed out' >&2; exit 1`);
    const finished = sweep.tasks.map(({ folder }) => `echo done >"${folder}/status"`).join("; ");
    put(
      "squeue",
      `if [ $calls -ge 6 ]; then ${finished}; exit; fi
      [ -e ${programs}/taken ] && echo '7|0|RUNNING|n1|None' && echo '7|1|RUNNING|n1|None'; true`,
    );
    expect(await follow()).toEqual([]);
    expect(sweep.lines.filter((line) => line.includes("running on n1"))).toHaveLength(2);
    expect(sweep.lines.filter((line) => line.includes("sbatch says"))).toHaveLength(1);
  });

  it.each([
    ["--array=0-3", "--array"],
    ["-J name", "-J"],
    ["-oname", "-o"],
    ["--output /dev/null", "--output"],
  ])("is not asked with %s, which the sweep sets", async (option, name) => {
    await expect(follow({ sbatchOptions: [option] })).rejects.toThrow(
      `the sbatch option "${option}" cannot be given: the sweep sets ${name} itself`,
    );
  });

  it("is not asked with what is no option", async () => {
    await expect(follow({ sbatchOptions: ["partition=gpu"] })).rejects.toThrow(
      'an sbatch option must begin with - as in --partition=gpu, got "partition=gpu"',
    );
  });

  it("is asked with one GPU for each task, unless the user says otherwise, with the user's last", async () => {
    put("squeue", "");
    put("sbatch", `for word; do echo "$word" >>${programs}/words; done\n${finishOnSubmission()}\necho 7`);
    await follow({ sbatchOptions: ["--gpus-per-task=h100:1", "-t 1:00:00", "--no-requeue"], throttle: 1 });
    const words = readFileSync(join(programs, "words"), "utf8").trim().split("\n");
    expect(words).not.toContain("--gres=gpu:1");
    expect(words.slice(0, 6)).toEqual([
      "--signal=B:TERM@60",
      "--requeue",
      "--gpus-per-task=h100:1",
      "-t",
      "1:00:00",
      "--no-requeue",
    ]);
    expect(words).toContain("--array=0-1%1");
    expect(words).toContain(`--output=${sweep.folder.replaceAll("%", "%%")}/slurm/%a.log`);
  });
});
