import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import type { InspectionReport } from "../../src/data/inspect/inspect.ts";
import { goldenFile } from "../data/golden-datasets.ts";
import { dpoTrain } from "./process.ts";

const TWIN_TINY = "configs/twin-tiny.yaml";
const MODEL = "examples/twin-tiny/model";
const ROWS = "examples/twin-tiny/data/llmtwin-train.jsonl";

async function dataFile(name: string, content: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "dpo-train-inspect-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, name), content);
  return join(folder, name);
}

const inspect = (...args: string[]) => dpoTrain(["data", "inspect", ...args], { environment: { HF_HUB_OFFLINE: "1" } });

describe("dpo-train data inspect", () => {
  it("shows a config's training and test data, and what they share", async () => {
    const { code, stdout, stderr } = await inspect("--config", TWIN_TINY);
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.any(String) as string });
    expect(stdout).toMatch(/^examples\/twin-tiny\/data\/llmtwin-train\.jsonl\n {2}rows +256 of text\n/);
    expect(stdout).toContain("\nevaluation data\n  rows                    21 of text\n");
    expect(stdout).toContain("\nevaluation data that is in the training data\n  whole rows              none\n");
    expect(stdout).toMatch(/\nworth a look\n {2}32 pairs have two equal answers and teach nothing: remove them\n/);
    expect(Math.max(...stdout.split("\n").map((line) => line.length))).toBeLessThanOrEqual(140);
  });

  it("--json gives the same to programs", async () => {
    const { code, stdout } = await inspect(ROWS, "--model", MODEL, "--max-length", "90", "--json");
    expect(code).toBe(0);
    const report = JSON.parse(stdout) as InspectionReport;
    expect(report).toMatchObject({
      dataset: ROWS,
      evaluation: null,
      contamination: null,
      train: { rows: 381, kind: "text" },
    });
    expect(report.train.tokens).toMatchObject({ maxLength: 90, rows: { read: 381 } });
    expect(report.train.lengthBias.unit).toBe("tokens");
  });

  it("reads Parquet, other columns and a test set, in characters where no tokenizer is named", async () => {
    const test = await dataFile("test.csv", "q,good,bad\nplain,yes,no\nnew,yes,no\n");
    const train = await dataFile("train.jsonl", '{"q": "Plain!", "good": "a", "bad": "b"}\n');
    const columns = ["--column", "prompt=q", "--column", "chosen=good", "--column", "rejected=bad"];
    const { code, stdout } = await inspect(train, "--eval-dataset", test, ...columns, "--json");
    expect(code).toBe(0);
    const { train: found, contamination } = JSON.parse(stdout) as InspectionReport;
    expect(found).toMatchObject({ rows: 1, tokens: null, lengthBias: { unit: "characters" } });
    expect(contamination).toMatchObject({ testRows: 2, prompts: { rows: 0 }, normalizedPrompts: { rows: 1 } });
    expect((await inspect(goldenFile("orca.parquet"))).stdout).toMatch(
      /rows +12 of text\n {4}system messages? +8 rows/,
    );
  });

  it("--html writes a page besides, and over none but its own", async () => {
    const page = await dataFile("page.html", "");
    await rm(page);
    for (const _ of ["first", "again"]) {
      const { code, stdout, stderr } = await inspect(ROWS, "--html", page);
      expect({ code, stderr }).toEqual({ code: 0, stderr: `wrote ${page}\n` });
      expect(stdout).toContain("chosen = rejected");
    }
    expect(await readFile(page, "utf8")).toContain(`<h1>Preference data: ${ROWS}</h1>`);
    const other = await dataFile("mine.html", "<p>mine</p>");
    const { code, stderr } = await inspect(ROWS, "--html", other);
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: `dpo-train: --html ${other} is there and is no page of dpo-train: choose another file, or remove it\n`,
    });
    expect(await readFile(other, "utf8")).toBe("<p>mine</p>");
  });

  it("takes options in place of the config's, whose test set does not belong to other data", async () => {
    const { stdout } = await inspect(ROWS, "--config", TWIN_TINY, "--set", "max_length=60", "--json");
    const report = JSON.parse(stdout) as InspectionReport;
    expect(report.evaluation).toBeNull();
    expect(report.train.tokens?.maxLength).toBe(60);
  });

  it("says so where a config's model is not here", async () => {
    const { code, stdout, stderr } = await inspect("--config", TWIN_TINY, "--set", "model=no/such-model");
    expect(code).toBe(0);
    expect(stderr).toContain(
      "note: the tokenizer of no/such-model is neither in a local folder nor in the Hub's cache, so lengths are in characters",
    );
    expect(stdout).toContain("  characters ");
  });

  it("never lets the data reach the terminal", async () => {
    const rows = await dataFile(
      "rows.jsonl",
      `${JSON.stringify({ prompt: "p\u001b[2J", chosen: "\u202ec\u0007", rejected: "\u009b" })}\n`,
    );
    for (const options of [[], ["--json"], ["--column", "chosen=x\u001b]0;"]]) {
      const { stdout, stderr } = await inspect(rows, ...options);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: none is to come through.
      expect(stdout + stderr).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/);
    }
  });

  it.each([
    [[], "data is needed: dpo-train data inspect FILE, or --config FILE"],
    [["nowhere.jsonl"], 'dataset "nowhere.jsonl" does not exist: give an existing file or folder'],
    [["ada/pairs"], "dataset ada/pairs is no local file or folder, HF_HUB_OFFLINE forbids the network"],
    [
      [ROWS, "--model", "no/such-model"],
      "--model: the tokenizer of no/such-model is neither in a local folder nor in the Hub's cache",
    ],
    [[ROWS, "--max-length", "1"], '--max-length must be a whole number of at least 2, got "1"'],
    [[ROWS, "--prompt-template", "x"], '--prompt-template must be one of none, alpaca, chat, got "x"'],
    [
      [ROWS, "--column", "answer=x"],
      '--column must be one of prompt, chosen, rejected, system, = and the column\'s name in the data, got "answer=x"',
    ],
    [
      [ROWS, "--column", "chosen=x"],
      `${ROWS}:1: x must be text or a list of messages, found nothing; the first row has the columns `,
    ],
    [[ROWS, "--set", "beta=1"], "--set needs --config: it changes the config's settings"],
    [[ROWS, "--split", "test"], `dataset "${ROWS}" is one file, which dataset_train_split cannot choose from`],
  ])("%j is refused", async (args, message) => {
    const { code, stdout, stderr } = await inspect(...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain(`dpo-train: ${message}`);
  });
});
