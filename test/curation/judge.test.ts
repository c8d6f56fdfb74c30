import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { createServer } from "../../src/curation/ask/server.ts";
import { curationFiles } from "../../src/curation/files.ts";
import { type JudgeOptions, judgeRows } from "../../src/curation/judge.ts";
import { readExamples, readJudgeRows } from "../../src/curation/judge-rows.ts";
import { readPreferenceRows } from "../../src/data/rows.ts";
import { temporaryFolder } from "../weights/fixtures.ts";
import { type ApiRequest, fail, startApi } from "./api-server.ts";
import { readLines, UNLIMITED } from "./building.ts";

/** The answers in a judge's prompt. */
function answersOf({ question }: ApiRequest): { a: string; b: string } {
  const [, a, b] = /Answer A: (.*)\n\nAnswer B: (.*)\n\nExplain/s.exec(question)!;
  return { a: a!, b: b! };
}

const verdict = (letter: string) => `Reasoning: because.\nBest answer: ${letter}`;
/** Prefers the longer answer. */
const byLength = (request: ApiRequest) => {
  const { a, b } = answersOf(request);
  return verdict(a.length >= b.length ? "A" : "B");
};

async function inputFile(rows: readonly unknown[]): Promise<string> {
  const path = join(await temporaryFolder(), "rows.jsonl");
  await writeFile(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  return path;
}

async function judging(
  rows: readonly unknown[],
  judges: readonly [string, string][],
  more: Partial<JudgeOptions> = {},
) {
  const lines: string[] = [];
  const options: JudgeOptions = {
    input: await readJudgeRows(await inputFile(rows)),
    examples: [],
    files: curationFiles(join(await temporaryFolder(), "judged.jsonl")),
    judges: judges.map(([model, baseUrl]) => createServer({ baseUrl, model, apiKey: null, timeoutMs: 2000 })),
    agreement: "majority",
    temperature: 0,
    ask: { concurrency: 4, attempts: 3, askAgain: 1, backoffMs: 2 },
    limits: UNLIMITED,
    prices: null,
    terminal: { line: (text) => void lines.push(text), status: () => {}, progress: () => {} },
    ...more,
  };
  return {
    options,
    lines,
    run: () => judgeRows(options, new AbortController().signal),
    rows: () => readLines(options.files.out),
    report: () => JSON.parse(readFileSync(options.files.report, "utf8")) as Record<string, unknown>,
  };
}

describe("judge", () => {
  it("asks the chapter's question in both orders, and writes rows that dataset: takes", async () => {
    const api = await startApi(byLength);
    const judged = await judging(
      [
        { prompt: "One?", chosen: "short", rejected: "much longer" },
        { instruction: "Two?", answer_a: "the longest of all", answer_b: "short", other: 1 },
        { prompt: "Three?", answers: ["medium long", "tiny", "by far the longest"] },
      ],
      [["m", api.baseUrl]],
    );
    await judged.run();
    expect(api.seen).toHaveLength(2 * (1 + 1 + 3));
    expect(api.seen[0]!.question).toMatch(
      /^You are an answer judge\. .*relevance, accuracy, completeness, clarity, structure, and conciseness\.\n\nInstruction: One\?\n\nAnswer A: short\n\nAnswer B: much longer\n\nExplain your reasoning step by step/s,
    );
    expect(api.seen[0]!.body).toMatchObject({ temperature: 0, max_tokens: 1000 });
    expect(answersOf(api.seen[1]!)).toEqual({ a: "much longer", b: "short" });
    expect(judged.rows()).toEqual([
      { prompt: "One?", chosen: "much longer", rejected: "short" },
      { prompt: "Two?", chosen: "the longest of all", rejected: "short" },
      { prompt: "Three?", chosen: "by far the longest", rejected: "tiny" },
    ]);
    expect(await readPreferenceRows(judged.options.files.out)).toHaveLength(3);
    expect(judged.report()).toMatchObject({ rows: 3, kept: 3, labels_reversed: 1, problems: [] });
    expect(judged.lines.join("\n")).toContain(
      "3 of 3 rows kept (more than half of the judges agree); in 1 the jury prefers what was rejected",
    );
  });

  it("leaves out what a judge decides by position, and tells how much that is", async () => {
    const api = await startApi((request) => (request.question.includes("fair") ? byLength(request) : verdict("A")));
    const rows = [
      { prompt: "fair 1", chosen: "longer answer", rejected: "short" },
      { prompt: "biased 1", chosen: "longer answer", rejected: "short" },
      { prompt: "biased 2", chosen: "longer answer", rejected: "short" },
      { prompt: "fair 2", chosen: "short", rejected: "longer answer" },
    ];
    const judged = await judging(rows, [["m", api.baseUrl]]);
    await judged.run();
    expect(judged.rows()).toHaveLength(2);
    expect(judged.report()).toMatchObject({
      judges: [{ pairs: 4, consistent_share: 0.5, position_a_share: 0.5, position_b_share: 0, label_agreement: 0.5 }],
      verdicts: [{ chosen: 0 }, { chosen: null }, { chosen: null }, { chosen: 1 }],
    });
    expect(judged.lines.join("\n")).toContain(
      "m: the same answer in both orders in 50.0 % of pairs; by position: always A in 50.0 %",
    );
  });

  it("takes a jury's majority, each judge at its own server, and tells kappa", async () => {
    const [one, two] = [await startApi(byLength), await startApi(byLength)];
    const contrary = await startApi((request) => {
      if (request.question.includes("biased")) return verdict("B");
      return byLength(request) === verdict("A") ? verdict("B") : verdict("A");
    });
    const rows = ["plain 1", "biased 2", "plain 3"].map((prompt, i) => ({
      prompt,
      answer_a: i === 2 ? "x" : "a longer answer",
      answer_b: "short",
    }));
    const jury: [string, string][] = [
      ["one", one.baseUrl],
      ["two", two.baseUrl],
      ["three", contrary.baseUrl],
    ];
    const judged = await judging(rows, jury);
    await judged.run();
    expect([one, two, contrary].map(({ seen }) => seen.length)).toEqual([6, 6, 6]);
    expect(judged.rows()).toMatchObject([
      { chosen: "a longer answer" },
      { chosen: "a longer answer" },
      { chosen: "short" },
    ]);
    // Two judges of three agree on each row, and of 9 votes 5, 3 and 1 are alike: P = 1/3, Pe = (5² + 3² + 1²) / 9².
    const report = judged.report() as { jury: { kappa: number } };
    expect(report.jury).toMatchObject({ pairs: 3, unanimous_share: 0, kappa_of: "Fleiss" });
    expect(report.jury.kappa).toBeCloseTo((1 / 3 - 35 / 81) / (1 - 35 / 81), 12);

    const strict = await judging(rows, jury, { agreement: "all" });
    await expect(strict.run()).rejects.toThrow("the jury agrees on no row");
    expect(strict.report()).toMatchObject({ kept: 0 });
  });

  it("asks a model that judges twice twice", async () => {
    const api = await startApi(byLength);
    const judged = await judging(
      [{ prompt: "p", chosen: "longer", rejected: "b" }],
      [
        ["m", api.baseUrl],
        ["m", api.baseUrl],
      ],
    );
    await judged.run();
    expect(api.seen).toHaveLength(4);
  });

  it("shows examples first", async () => {
    const api = await startApi(byLength);
    const file = await inputFile([
      { instruction: "i1", answer_a: "a1", answer_b: "b1", reasoning: "short is fine", best_answer: "A" },
      { instruction: "i2", answer_a: "a2", answer_b: "b2", reasoning: "long is fine", best_answer: "B" },
    ]);
    const judged = await judging([{ prompt: "p", chosen: "longer", rejected: "b" }], [["m", api.baseUrl]], {
      examples: await readExamples(file),
    });
    await judged.run();
    const [{ body }] = api.seen as [ApiRequest];
    expect(body.messages.map(({ role }) => role)).toEqual(["user", "assistant", "user", "assistant", "user"]);
    expect(body.messages[1]!.content).toBe("Reasoning: short is fine\nBest answer: A");
    expect(body.messages[2]!.content).toContain("Instruction: i2\n\nAnswer A: a2\n\nAnswer B: b2");
    expect(judged.lines.join("\n")).toContain("2 examples (1 for A, 1 for B)");
  });

  it("goes on after failures without asking again, and lists what gives no verdict", async () => {
    const api = await startApi(byLength);
    api.fault = (request, response) => {
      if (request.question.includes("broken")) return fail(response, 500, "no");
      return request.nth === 1 && request.question.includes("late") && fail(response, 503, "later");
    };
    const reply = api.reply;
    api.reply = (request) => (request.question.includes("dumb") ? "I cannot say. \u001b]0;x" : reply(request));
    const rows = ["plain", "broken", "late", "dumb"].map((prompt) => ({ prompt, chosen: "longer", rejected: "b" }));
    const judged = await judging(rows, [["m", api.baseUrl]]);
    await judged.run();
    expect(api.seen).toHaveLength(2 + 2 * 3 + 2 * 2 + 2 * 2);
    expect(judged.rows()).toHaveLength(2);
    expect(judged.report()).toMatchObject({
      problems: [
        { line: 2, judge: "m", problem: "failed", reason: "HTTP 500: no" },
        { line: 2 },
        { line: 4, problem: "no verdict" },
        { line: 4 },
      ],
      judges: [{ missing: 2 }],
    });
    expect(judged.lines.join("\n")).not.toContain("\u001b");
    api.fault = () => false;
    await judged.run();
    expect(api.seen).toHaveLength(16 + 2);
    expect(judged.rows()).toHaveLength(3);
  });

  it("judges equal rows once, and equal answers not at all", async () => {
    const api = await startApi(byLength);
    const row = { prompt: "p", chosen: "longer", rejected: "b" };
    const judged = await judging([row, row, { prompt: "q", chosen: "same", rejected: "same" }], [["m", api.baseUrl]]);
    await judged.run();
    expect(api.seen).toHaveLength(2);
    expect(judged.rows()).toEqual([row]);
    expect(judged.report()).toMatchObject({ rows: 1, duplicates: 1, equal_answers: 1 });
  });
});

describe("rows to be judged", () => {
  it.each([
    ["[]", "must be a JSON object"],
    ["{", "must be a JSON object"],
    ['{"chosen":"a","rejected":"b"}', "prompt or instruction must be text"],
    ['{"prompt":" ","chosen":"a","rejected":"b"}', "prompt or instruction must be text"],
    ['{"prompt":"p","chosen":"a"}', "must be one of {prompt, chosen, rejected}"],
    ['{"prompt":"p","answers":["a"]}', "at least two answers of text"],
    ['{"prompt":"p","answers":["a",1]}', "at least two answers of text"],
    ['{"prompt":"p","answer_a":"a","answer_b":""}', "at least two answers of text"],
    ['{"prompt":"p","chosen":[{"role":"user"}],"rejected":"\u202e"}', "\\u202e"],
  ])("%s is refused by line", async (line, message) => {
    const path = join(await temporaryFolder(), "rows.jsonl");
    await writeFile(path, `{"prompt":"p","chosen":"a","rejected":"b"}\n\n${line}\n`);
    await expect(readJudgeRows(path)).rejects.toThrow("rows.jsonl:3: ");
    await expect(readJudgeRows(path)).rejects.toThrow(message);
  });

  it("must be there, and examples be whole", async () => {
    await expect(readJudgeRows(await inputFile([]))).rejects.toThrow(
      "must hold at least one row with two different answers",
    );
    const example = { instruction: "i", answer_a: "a", answer_b: "b", reasoning: "r", best_answer: "C" };
    await expect(readExamples(await inputFile([example]))).rejects.toThrow("rows.jsonl:1: an example must be");
  });
});
