import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { Command } from "commander";
import { afterEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { addReportCommand } from "../../src/cli/report.ts";
import { readRunFiles } from "../../src/report/run-files.ts";
import { requireOwnPage, writeReport, writeReports } from "../../src/report/write-report.ts";
import { inputErrorOf, temporaryFolder } from "../weights/fixtures.ts";
import { CONFIG, metricsText, RUN, runFolder } from "./run-folders.ts";

const textOf = (file: string) => readFile(file, "utf8");

/** What a page shows, without what runs in it. */
async function shownBy(file: string): Promise<string> {
  return /<main>.*<\/main>/s.exec(await textOf(file))![0];
}

describe("readRunFiles", () => {
  it("reads config, run and records of a run that is done", async () => {
    const run = await readRunFiles(await runFolder());
    expect(run).toMatchObject({
      name: "one",
      configText: CONFIG,
      config: { beta: 0.5, lora: { r: 16 } },
      problems: [],
    });
    expect(run.run).toEqual(RUN);
    expect(run.train).toHaveLength(40);
    expect(run.evaluation.map(({ step }) => step)).toEqual([10, 20, 30, 40]);
  });

  it("leaves out a last record that is half written, and nothing else", async () => {
    const text = metricsText();
    for (const cut of [1, 2, 50]) {
      const run = await readRunFiles(await runFolder({ "metrics.jsonl": text.slice(0, -cut) }));
      expect(run.train).toHaveLength(40);
      // Without its line feed alone a record is whole.
      expect(run.evaluation).toHaveLength(cut === 1 ? 4 : 3);
      expect(run.problems).toEqual([]);
    }
  });

  it("tells of other lines that are no records", async () => {
    const lines = [
      "{",
      "[1]",
      '"text"',
      '{"loss":1}',
      '{"step":"1"}',
      '{"step":1.5}',
      "",
      '{"step":3,"loss":0.5}',
      "nul",
      "",
    ];
    const run = await readRunFiles(await runFolder({ "metrics.jsonl": lines.join("\n") }));
    expect(run.train).toEqual([{ step: 3, loss: 0.5 }]);
    expect(run.problems).toEqual(["metrics.jsonl: no record of a step in lines 1, 2, 3, 4, 5 and 2 more: left out"]);
  });

  it.each([
    ["run.json", "{", "run.json cannot be read: what it would tell is left out"],
    ["run.json", "[1]", "run.json cannot be read: what it would tell is left out"],
    ["config.yaml", "a: [", "config.yaml cannot be read: what it would tell is left out"],
    ["config.yaml", null, "config.yaml is missing: what it would tell is left out"],
    ["metrics.jsonl", null, "metrics.jsonl is missing: there is nothing to draw"],
  ])("goes on where %s is %j, and tells so", async (name, text, problem) => {
    expect((await readRunFiles(await runFolder({ [name]: text }))).problems).toEqual([problem]);
  });

  it("refuses a folder that is none of a run", async () => {
    const folder = await temporaryFolder();
    expect(await inputErrorOf(() => readRunFiles(folder))).toBe(
      `${folder} must be the output folder of a run, with config.yaml, run.json, metrics.jsonl in it; found none of them`,
    );
    await inputErrorOf(() => readRunFiles(join(folder, "missing")));
  });
});

describe("writeReport", () => {
  it("writes report.html into the folder, and again over it", async () => {
    const folder = await runFolder();
    expect(await writeReport(folder)).toEqual({ path: join(folder, "report.html"), problems: [] });
    await writeFile(join(folder, "metrics.jsonl"), metricsText(3, 20));
    await writeReport(folder);
    expect(await shownBy(join(folder, "report.html"))).toContain("<h3>Loss</h3>");
  });

  it.each([
    ["running", { "run.json": JSON.stringify({ ...RUN, status: "running", samples: undefined, merge: undefined }) }],
    [
      "interrupted",
      { "run.json": JSON.stringify({ ...RUN, status: "interrupted", error: "interrupted after step 3" }) },
    ],
    ["failed", { "run.json": JSON.stringify({ status: "failed", error: "the device was lost" }), "metrics.jsonl": "" }],
    ["interrupted", { "run.json": null, "metrics.jsonl": "" }],
    [
      "interrupted",
      {
        "run.json":
          '{"status":[],"timings":{"load_s":"1"},"data":{"train":{"lengths":{"prompt":1}}},"merge":{"fidelity":{"projections":{"q_proj":null}}}}',
      },
    ],
  ])("makes a page of a run that is %s", async (status, files) => {
    const folder = await runFolder(files);
    const { path } = await writeReport(folder);
    const page = await shownBy(path);
    expect(page).toContain(`<span class="status ${status}">${status}</span>`);
    expect(page).not.toContain("undefined");
    expect(page).not.toContain("NaN");
  });
});

describe("writeReports", () => {
  it("compares runs by the settings that they differ in, and writes the report of each", async () => {
    const folders = [
      await runFolder({}, "one"),
      await runFolder(
        { "config.yaml": CONFIG.replace("beta: 0.5", "beta: 0.1").replace("runs/one", "runs/two") },
        "two",
      ),
    ];
    const out = join(await temporaryFolder(), "all.html");
    const written = await writeReports(folders, out);
    expect(written.map(({ path }) => path)).toEqual([...folders.map((folder) => join(folder, "report.html")), out]);
    const page = await shownBy(out);
    expect(page).toContain("They differ in beta.");
    expect(page).toContain(`href="./../${basename(dirname(folders[1]!))}/two/report.html"`);
    expect(page).toContain("A better answer.");
  });

  it("tells folders of one name apart", async () => {
    const folders = [await runFolder(), await runFolder()];
    const out = join(await temporaryFolder(), "all.html");
    await writeReports(folders, out);
    const page = await shownBy(out);
    for (const folder of folders) expect(page.replaceAll("<wbr>", "")).toContain(`>${folder}</a>`);
    expect(page).toContain("Their settings are the same.");
  });

  it("refuses a folder that comes twice, and writes nothing", async () => {
    const folder = await runFolder();
    const out = join(await temporaryFolder(), "all.html");
    expect(await inputErrorOf(() => writeReports([folder, `${folder}/`], out))).toContain("is named twice");
    await expect(textOf(join(folder, "report.html"))).rejects.toThrow("ENOENT");
  });
});

describe("dpo-train report", () => {
  afterEach(() => {
    process.exitCode = 0;
    vi.restoreAllMocks();
  });

  async function report(...args: string[]): Promise<{ code: unknown; output: string }> {
    const texts: string[] = [];
    for (const stream of [process.stdout, process.stderr]) {
      vi.spyOn(stream, "write").mockImplementation((text) => texts.push(String(text)) > 0);
    }
    const program = new Command();
    addReportCommand(program);
    await program.parseAsync(["node", "dpo-train", "report", ...args]);
    vi.restoreAllMocks();
    return { code: process.exitCode, output: texts.join("") };
  }

  it("writes the page of one run, into its folder or where --out says", async () => {
    const folder = await runFolder({ "metrics.jsonl": "{\n" });
    const page = join(folder, "report.html");
    expect(await report(folder)).toEqual({
      code: 0,
      output: `metrics.jsonl: no record of a step in line 1: left out\nwrote ${page}\n`,
    });
    await rm(page);
    const out = join(await temporaryFolder(), "page.html");
    expect((await report(folder, "--out", out)).code).toBe(0);
    expect((await report(folder, "--out", out)).code, "over a page of its own").toBe(0);
    expect(await shownBy(out)).toContain("no record of a step in line 1");
    await expect(textOf(page)).rejects.toThrow("ENOENT");
  });

  it("compares several in comparison.html of the working directory", async () => {
    const [one, two, here] = [await runFolder({}, "a"), await runFolder({}, "b"), await temporaryFolder()];
    const before = process.cwd();
    process.chdir(here);
    onTestFinished(() => process.chdir(before));
    expect((await report(one, two)).output).toContain("wrote comparison.html\n");
    expect(await shownBy(join(here, "comparison.html"))).toContain("2 runs compared");
    await writeFile(join(here, "comparison.html"), "<p>My own.</p>");
    const { code, output } = await report(one, two);
    expect([code, output]).toEqual([
      2,
      expect.stringContaining("comparison.html is there and is no page of dpo-train"),
    ]);
    expect(await textOf(join(here, "comparison.html"))).toBe("<p>My own.</p>");
  });

  it("never writes over a file that is none of its pages", async () => {
    const folder = await runFolder();
    const out = join(folder, "metrics.jsonl");
    const { code, output } = await report(folder, "--out", out);
    expect([code, output]).toEqual([
      2,
      `dpo-train: --out ${out} is there and is no page of dpo-train: choose another file, or remove it\n`,
    ]);
    await mkdir(join(folder, "sub"));
    expect(await inputErrorOf(() => requireOwnPage("--out", join(folder, "sub")))).toContain("must be a file");
  });

  it("ends with 2 where a folder is none of a run", async () => {
    expect((await report(await temporaryFolder())).code).toBe(2);
  });
});
