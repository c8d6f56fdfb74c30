import { existsSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { startApi } from "../curation/api-server.ts";
import { TEST_DEVICE } from "../device.ts";
import { greedyAnswers } from "../golden/greedy.ts";
import { readOracle } from "../golden/read.ts";
import { temporaryFolder } from "../weights/fixtures.ts";
import { dpoTrain, ended, start } from "./process.ts";
import { prepareTraining, set } from "./training.ts";

const RUN = "test/golden/runs/f16-one-kv-gate";
const CONFIG = `${RUN}/config.yaml`;
const ADAPTER = `${RUN}/final_adapter`;
const ON_DEVICE = ["eval", "--device", TEST_DEVICE];
const SHORT = ["--max-new-tokens", "4"];

interface Row {
  readonly question: string;
  readonly base: string;
  readonly trained: string;
  readonly chosen?: string;
}

async function evaluation(args: readonly string[] = []) {
  const out = join(await temporaryFolder(), "evaluation");
  const linesOf = (name: string) =>
    readFileSync(join(out, name), "utf8")
      .split("\n")
      .filter((line) => line !== "");
  return {
    out,
    args: [...ON_DEVICE, "--config", CONFIG, "--adapter", ADAPTER, "--out", out, ...args],
    report: () => JSON.parse(readFileSync(join(out, "eval.json"), "utf8")),
    rows: () => linesOf("answers.jsonl").map((line) => JSON.parse(line) as Row),
    page: () => readFileSync(join(out, "eval.html"), "utf8"),
    /** Requests of the answers that the journal holds. */
    journal: () =>
      existsSync(join(out, "eval.journal"))
        ? linesOf("eval.journal").flatMap((line) => /"kind":"generation","request":"(\w+)"/.exec(line)?.[1] ?? [])
        : [],
  };
}

async function questionsFile(questions: readonly string[]): Promise<string> {
  const path = join(await temporaryFolder(), "questions.json");
  await writeFile(path, JSON.stringify(questions));
  return path;
}

describe("eval", () => {
  it("finds of held-out pairs what TRL found, and the same again without answering again", async () => {
    const { args, report, rows, page, journal } = await evaluation(SHORT);
    const { code, stdout, stderr } = await dpoTrain(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const oracle = readOracle(RUN.slice("test/golden/".length)).log.findLast((record) => "eval_loss" in record)!;
    const { preference } = report();
    expect(preference.pairs).toBe(4);
    for (const name of ["eval_loss", "eval_rewards/chosen", "eval_rewards/margins"]) {
      expect(preference[name], name).toBeCloseTo(oracle[name]!, 4);
    }
    expect(preference["eval_rewards/accuracies"]).toBe(oracle["eval_rewards/accuracies"]);
    expect(rows()).toHaveLength(4);
    expect(rows().every(({ chosen }) => chosen !== undefined)).toBe(true);
    expect(report().chosen_answers).toBe("the pairs asked");
    expect(report().style.distances).toHaveLength(3);
    expect(page()).toContain("Held-out pairs");
    expect(stdout).toMatch(/^held-out pairs: 4, accuracy 25\.0 % \(95%: \d+ to \d+\), margin -0\.0085, loss 0\.6975$/m);

    const [before, made] = [report(), journal().length];
    const again = await dpoTrain(args);
    expect(again.stdout).toContain("8 of 8 answers are there already");
    expect(report()).toEqual(before);
    expect(journal()).toHaveLength(made);
  });

  it("asks the questions of a file, and both models answer as transformers does", async () => {
    const { cases, max_new_tokens: maxNewTokens } = greedyAnswers();
    const golden = cases.filter(({ name, prompt_template: template }) => name === "f16-one-kv" && template === "none");
    const prompts = [...new Set(golden.map(({ prompt }) => prompt))];
    const greedy = ["--max-new-tokens", String(maxNewTokens), ...set({ prompt_template: "none" })];
    const { args, report, rows } = await evaluation([...greedy, "--questions", await questionsFile(prompts)]);
    expect((await dpoTrain(args)).code).toBe(0);
    const textOf = (prompt: string, isBase: boolean) =>
      golden.find((found) => found.prompt === prompt && (found.adapter === null) === isBase)!.text;
    expect(rows()).toMatchObject(
      prompts.map((prompt) => ({ question: prompt, base: textOf(prompt, true), trained: textOf(prompt, false) })),
    );
    expect(report()).toMatchObject({ chosen_answers: "all held-out pairs", questions: { count: prompts.length } });
  });

  it("takes a merged model, and finds what its adapter does", async () => {
    const merged = join(await temporaryFolder(), "merged");
    const model = "test/golden/models/f16-one-kv";
    const merging = ["merge", "--device", TEST_DEVICE, "--model", model, "--adapter", ADAPTER, "--output", merged];
    expect((await dpoTrain(merging)).code).toBe(0);
    const { out, report, rows } = await evaluation();
    const args = [...ON_DEVICE, "--config", CONFIG, "--merged", merged, "--out", out, ...SHORT, "--limit", "2"];
    const { code, stderr } = await dpoTrain(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(rows()).toHaveLength(2);
    // All pairs are scored, however few questions are asked. Merging rounds.
    expect(report().preference.pairs).toBe(4);
    expect(report().preference["eval_rewards/margins"]).toBeCloseTo(-0.0085, 2);
    expect(Object.keys(report().sha256.trained)).toEqual(["model.safetensors"]);
  });

  it("killed, it continues where it was; interrupted, it says so", async () => {
    const questions = Array.from({ length: 8 }, (_, i) => `Question ${i}?`);
    const file = await questionsFile(questions);
    const { args, rows, journal } = await evaluation(["--questions", file, "--max-new-tokens", "60"]);
    for (const signal of ["SIGKILL", "SIGINT"] as const) {
      const [child, before] = [start(args), journal().length];
      const end = ended(child);
      while (child.exitCode === null && journal().length < before + 3) await pause(5);
      child.kill(signal);
      const { code, stderr } = await end;
      if (signal === "SIGINT") {
        expect(code).toBe(130);
        expect(stderr).toContain("interrupted; the same command goes on");
      }
    }
    const kept = journal().length;
    expect(kept).toBeGreaterThanOrEqual(6);
    expect(kept).toBeLessThan(16);
    const { code, stdout } = await dpoTrain(args);
    expect(code).toBe(0);
    expect(stdout).toContain(`${kept} of 16 answers are there already`);
    expect(new Set(journal()).size).toBe(journal().length);
    expect(rows().map(({ question }) => question)).toEqual(questions);

    const whole = await evaluation(["--questions", file, "--max-new-tokens", "60"]);
    expect((await dpoTrain(whole.args)).code).toBe(0);
    expect(rows()).toEqual(whole.rows());
  });

  it("makes anew only what other settings change", async () => {
    const drawn = ["--questions", await questionsFile(["a"]), ...SHORT, "--temperature", "2"];
    const { args, journal } = await evaluation(drawn);
    const run = async (more: readonly string[]) => {
      const before = journal().length;
      expect((await dpoTrain([...args, ...more])).code).toBe(0);
      return journal().length - before;
    };
    expect(await run(["--seed", "1"])).toBe(2);
    expect(await run(["--seed", "2"])).toBe(2);
    // The base's answers do not depend on the adapter.
    expect(await run(["--seed", "1", "--adapter", `${RUN}/initial_adapter`])).toBe(1);
  });

  it("lets judges score the answers, and shows nothing that acts, in a terminal or a page", async () => {
    const hostile = '</script><img src=x onerror="alert(1)">\u001b[2J\u202e🦙';
    const score = (value: number) => ({ analysis: "…", score: value });
    const api = await startApi(() => ({ accuracy: score(3), style: score(1) }));
    const questions = await questionsFile([hostile, "b"]);
    const { args, report, rows, page } = await evaluation([...SHORT, "--questions", questions]);
    const judging = [...args, "--judge", "a-judge", "--base-url", api.baseUrl];
    const { code, stdout, stderr } = await dpoTrain(judging);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain("a-judge: accuracy 3.00 → 3.00, style 1.00 → 1.00 of 3");
    expect(report().judge.verdicts[0]).toMatchObject({ judge: "a-judge", accuracy: { base: { mean: 3, count: 2 } } });
    expect(rows()[0]).toMatchObject({ scores: [{ judge: "a-judge", base: { accuracy: 3, style: 1 } }] });
    expect(page()).toContain("Scores by a-judge");
    for (const text of [stdout, page()]) {
      for (const acting of ["\u001b", "\u202e", "<img"]) expect(text).not.toContain(acting);
    }
    expect(rows()[0]!.question).toBe(hostile);
    const asked = api.seen.length;
    expect((await dpoTrain(judging)).code).toBe(0);
    expect(api.seen).toHaveLength(asked);
  });

  it("keeps what was found where the judge cannot be asked", async () => {
    const { args, report } = await evaluation([...SHORT, "--limit", "1", "--judge", "x"]);
    const { code, stderr } = await dpoTrain([...args, "--base-url", "http://127.0.0.1:1/v1", "--attempts", "1"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(report().judge.verdicts[0]).toMatchObject({ unscored: 2, accuracy: { base: null } });
  });
});

describe("a mistake ends with exit code 2 and one sentence, and writes nothing", () => {
  it.each<[string, string[], string]>([
    ["no config", ["--out", "x"], "required option '--config <file>' not specified"],
    ["adapter and merged", ["--config", CONFIG, "--out", "x", "--adapter", ADAPTER, "--merged", "y"], "must not both"],
    ["no such adapter", ["--config", CONFIG, "--out", "x", "--adapter", "no/such"], "cannot open a PEFT adapter"],
    ["no such merged model", ["--config", CONFIG, "--out", "x", "--merged", "no/such"], "no/such"],
    [
      "another model",
      ["--config", CONFIG, "--out", "x", "--merged", "test/golden/models/mha-tied"],
      "whose vocab_size is 333, found 401",
    ],
    ["no output folder", ["--config", CONFIG, ...set({ output_dir: "no/such" })], "output_dir no/such does not exist"],
    ["no questions", ["--config", CONFIG, "--adapter", ADAPTER, "--out", "x", "--questions", "no/such"], "no/such"],
    ["a limit", ["--config", CONFIG, "--adapter", ADAPTER, "--out", "x", "--limit", "0"], "--limit must be a whole"],
    ["a seed", ["--config", CONFIG, "--adapter", ADAPTER, "--out", "x", "--seed", "-1"], "--seed must be a whole"],
    [
      "a judge without a key",
      ["--config", CONFIG, "--adapter", ADAPTER, "--out", "x", "--judge", "gpt-4o-mini"],
      "OPENAI_API_KEY must hold the key",
    ],
  ])("%s", async (_, args, message) => {
    const folder = await temporaryFolder();
    const out = join(folder, "x");
    const placed = args.map((arg) => (arg === "x" ? out : arg));
    const { code, stderr } = await dpoTrain([...ON_DEVICE, ...placed], {
      environment: { OPENAI_API_KEY: "", OPENAI_BASE_URL: "" },
    });
    expect(code).toBe(2);
    expect(stderr).toContain(message);
    expect(stderr).not.toContain("    at ");
    expect(existsSync(out)).toBe(false);
  });

  it("training that has not ended, and nothing to ask", async () => {
    const { config, output } = await prepareTraining();
    await mkdir(output);
    const unfinished = await dpoTrain([...ON_DEVICE, "--config", config]);
    expect(unfinished.code).toBe(2);
    expect(unfinished.stderr).toContain("run/adapter does not exist: the training that the config describes has not");
    const noneHeldOut = ["--config", config, ...set({ eval_dataset: "null" }), "--adapter", ADAPTER, "--out", output];
    const nothing = await dpoTrain([...ON_DEVICE, ...noneHeldOut]);
    expect(nothing.code).toBe(2);
    expect(nothing.stderr).toContain("there is nothing to ask");
  });

  it("files of others in the output folder are left as they are", async () => {
    const { args, out } = await evaluation(SHORT);
    await mkdir(out);
    await writeFile(join(out, "answers.jsonl"), "mine");
    const { code, stderr } = await dpoTrain(args);
    expect(code).toBe(2);
    expect(stderr).toContain("answers.jsonl: is there already");
    expect(readFileSync(join(out, "answers.jsonl"), "utf8")).toBe("mine");
  });
});
