import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { quote } from "../../../src/sweep/executors/shell.ts";
import { arraySpec, batchScript, openRecord, slurmFiles } from "../../../src/sweep/executors/slurm-job.ts";

describe("the indices of a job array", () => {
  it.each([
    [[0], "0"],
    [[0, 1], "0-1"],
    [[7, 0, 3, 6, 5], "0,3,5-7"],
    [[10, 2, 1], "1-2,10"],
    [Array.from({ length: 1000 }, (_, index) => index), "0-999"],
  ])("%j are written as %j", (indices, spec) => {
    expect(arraySpec(indices)).toBe(spec);
  });
});

describe("the batch script", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "slurm job "));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it("runs the command with every word as it is, and the task's index", () => {
    const words = ["it's", 'a "b"', "$HOME", "`id`", "", "new\nline", "-x", "β", "*"];
    const print = [process.execPath, "-e", "console.log(JSON.stringify(process.argv.slice(1)))", "--"];
    const script = join(folder, "task.sh");
    writeFileSync(
      script,
      batchScript((index) => [...print, ...words, String(index)]),
    );
    chmodSync(script, 0o755);
    const output = execFileSync(script, { env: { ...process.env, SLURM_ARRAY_TASK_ID: "17" }, encoding: "utf8" });
    expect(JSON.parse(output)).toEqual([...words, "17"]);
  });

  it("leaves plain words as they are to read", () => {
    expect(["--config=/a/b_c.yaml", "", "a b"].map(quote)).toEqual(["--config=/a/b_c.yaml", "''", "'a b'"]);
  });

  it("belongs to a name that the sweep keeps, and that no other has", async () => {
    const files = slurmFiles(folder);
    const record = await openRecord(files, folder, "a");
    expect(record.jobName).toMatch(/^dpo-train-slurm_job_\w+-[0-9a-f]{12}$/);
    expect(await openRecord(files, folder, "a")).toEqual(record);
    rmSync(files.record);
    expect((await openRecord(files, folder, "a")).jobName).not.toBe(record.jobName);
  });

  it.each([
    "",
    "{",
    "[]",
    "null",
    '{"jobName": "x", "jobs": []}',
    '{"jobName": "dpo-train-a b", "jobs": []}',
    '{"jobName": "dpo-train-a"}',
    '{"jobName": "dpo-train-a", "jobs": []}',
  ])("has a record that must be one, not %j", async (text) => {
    const files = slurmFiles(folder);
    await openRecord(files, folder, "a");
    writeFileSync(files.record, text);
    await expect(openRecord(files, folder, "a")).rejects.toThrow(
      /jobs\.json: (cannot read as JSON|must hold jobName, sweepId and jobs)/,
    );
    expect(readFileSync(files.record, "utf8")).toBe(text);
  });
});
