import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Journal } from "../../src/curation/ask/journal.ts";
import { createServer } from "../../src/curation/ask/server.ts";
import { judgeAnswers } from "../../src/evaluation/judge.ts";
import { readScores } from "../../src/evaluation/judge-prompt.ts";
import { type ApiServer, fail, refuse, startApi } from "../curation/api-server.ts";
import { temporaryFolder } from "../weights/fixtures.ts";

const scores = (accuracy: unknown, style: unknown) => ({
  accuracy: { analysis: "…", score: accuracy },
  style: { analysis: "…", score: style },
});
/** Likes long answers. */
const byLength: ApiServer["reply"] = ({ question }) => {
  const answer = /Answer: (.*)/.exec(question)![1]!;
  return scores(answer.length > 5 ? 3 : 1, 2);
};
const ANSWERED = [
  { question: "q1", base: "short", trained: "a long answer" },
  { question: "q2", base: "a long answer", trained: "a long answer" },
  { question: "q3", base: "", trained: "another long one" },
];

async function judging(api: ApiServer, judges = ["judge"]) {
  const path = join(await temporaryFolder(), "eval.journal");
  const lines: string[] = [];
  const judge = async (answered = ANSWERED, calls = Number.POSITIVE_INFINITY) => {
    const journal = await Journal.open(path, "eval");
    try {
      const settings = {
        judges: judges.map((model) => createServer({ baseUrl: api.baseUrl, model, apiKey: null, timeoutMs: 5000 })),
        temperature: 0,
        ask: { concurrency: 2, attempts: 4, askAgain: 1, backoffMs: 5 },
        limits: { calls, tokens: Number.POSITIVE_INFINITY, usd: Number.POSITIVE_INFINITY },
        prices: null,
      };
      const terminal = { line: (text: string) => void lines.push(text), status: () => {}, progress: () => {} };
      return await judgeAnswers(answered, settings, journal, terminal, new AbortController().signal);
    } finally {
      await journal.close();
    }
  };
  return { judge, lines };
}

describe("a judge", () => {
  it("scores each answer once, in JSON mode, whosever it is, and is not asked again", async () => {
    const api = await startApi(byLength);
    const { judge } = await judging(api);
    const { verdicts } = await judge();
    // Both models answer q2 alike: that is one question.
    expect(api.seen).toHaveLength(5);
    expect(api.seen.every(({ body }) => body.response_format !== undefined && body.max_tokens === 1000)).toBe(true);
    expect(api.seen.some(({ question }) => /\b(base|trained)\b/.test(question))).toBe(false);
    const [{ accuracy, style, unscored, scores: found }] = verdicts as [(typeof verdicts)[0]];
    expect(accuracy.base).toMatchObject({ mean: 5 / 3, count: 3 });
    expect(accuracy.trained).toEqual({ mean: 3, count: 3, interval: [3, 3] });
    expect(accuracy.difference!.mean).toBeCloseTo(4 / 3, 12);
    expect(style.difference).toEqual({ mean: 0, count: 3, interval: [0, 0] });
    expect(unscored).toBe(0);
    expect(found[0]).toEqual({ base: { accuracy: 1, style: 2 }, trained: { accuracy: 3, style: 2 } });
    expect((await judge()).verdicts).toEqual(verdicts);
    expect(api.seen).toHaveLength(5);
  });

  it("is one of a jury", async () => {
    const api = await startApi(byLength);
    const { judge } = await judging(api, ["one", "two"]);
    const { verdicts } = await judge();
    expect(verdicts.map((verdict) => verdict.judge)).toEqual(["one", "two"]);
    expect(api.seen).toHaveLength(10);
  });

  it("is asked again when it fails, and what it refuses has no score", async () => {
    const api = await startApi(byLength);
    api.fault = ({ question, nth }, response) => {
      if (/Answer: short/.test(question)) return refuse(response);
      if (nth === 1) return fail(response, 429, "slow down");
      return nth === 2 && /another/.test(question) ? fail(response, 500, "oops") : false;
    };
    const { judge } = await judging(api);
    const { verdicts, tally } = await judge();
    expect(verdicts[0]).toMatchObject({ unscored: 1, accuracy: { base: { count: 2 }, difference: { count: 2 } } });
    expect(tally.failedCalls).toBe(5);
  });

  it("that stops at its budget goes on with a larger one", async () => {
    const api = await startApi(byLength);
    const { judge, lines } = await judging(api);
    const { verdicts } = await judge(ANSWERED, 2);
    expect(verdicts[0]!.unscored).toBeGreaterThan(0);
    expect(lines.join("\n")).toContain("the budget is used up");
    expect((await judge()).verdicts[0]!.unscored).toBe(0);
    expect(api.seen).toHaveLength(5);
  });

  it("has nothing to say of nothing", async () => {
    const api = await startApi(byLength);
    const { judge } = await judging(api);
    expect((await judge([])).verdicts[0]).toMatchObject({ unscored: 0, accuracy: { base: null, difference: null } });
  });
});

describe("a reply", () => {
  const read = (content: string) => readScores({ content, refusal: null, finishReason: "stop" });

  it("in a fence is read", () => {
    expect(read(`\`\`\`json\n${JSON.stringify(scores(3, 1))}\n\`\`\``)).toEqual({ accuracy: 3, style: 1 });
  });

  it.each([[scores(0, 1)], [scores(4, 1)], [scores(2.5, 1)], [scores("3", 1)], [{}], [null], [[]]])(
    "of another shape is none: %j",
    (reply) => {
      expect(read(JSON.stringify(reply))).toMatchObject({ unusable: "wrong shape" });
    },
  );

  it("that is no JSON is none", () => {
    expect(read("accuracy 3")).toMatchObject({ unusable: "invalid JSON" });
    expect(readScores({ content: '{"acc', refusal: null, finishReason: "length" })).toMatchObject({ unusable: "cut" });
  });
});
