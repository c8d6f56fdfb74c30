import { readFileSync } from "node:fs";
import { readdir, writeFile } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { createServer } from "../../src/curation/ask/server.ts";
import { cleanText, extractSubstrings } from "../../src/curation/extracts.ts";
import { readPreferenceRows } from "../../src/data/rows.ts";
import { type ApiRequest, complete, cut, extractOf, fail, goodTriples, refuse, startApi } from "./api-server.ts";
import { article, building, readLines } from "./building.ts";

describe("build", () => {
  it("makes rows that dataset: takes, of the extracts' own words", async () => {
    const api = await startApi(goodTriples);
    const build = await building(api.baseUrl);
    const result = await build.run();
    const extracts = build.options.articles.flatMap((text) => extractSubstrings(text));
    expect(extracts.length).toBeGreaterThan(4);
    expect(api.seen).toHaveLength(extracts.length);
    expect(new Set(api.seen.map(extractOf))).toEqual(new Set(extracts));
    expect(result.written).toMatchObject([{ name: "pairs.jsonl", rows: 5 * extracts.length }]);

    const rows = await readPreferenceRows(build.options.files.out);
    expect(rows).toHaveLength(5 * extracts.length);
    rows.forEach((row, i) => {
      expect(extracts[Math.floor(i / 5)]).toContain(row.chosen); // In the order of the extracts, however answers came.
      expect(row.rejected).toMatch(/^A generated answer number/);
    });
    expect(build.report()).toMatchObject({
      calls: extracts.length,
      failed_calls: 0,
      prompt_tokens: 700 * extracts.length,
    });
  });

  it("asks as the chapter does", async () => {
    const api = await startApi(goodTriples);
    const server = createServer({ baseUrl: api.baseUrl, model: "m", apiKey: "sk-0123456789", timeoutMs: 2000 });
    await (await building(api.baseUrl, { articles: [article("Alpha", 1)], server })).run();
    const [{ body, path, authorization, question }] = api.seen as [ApiRequest];
    expect({ path, authorization }).toEqual({ path: "/v1/chat/completions", authorization: "Bearer sk-0123456789" });
    expect(body).toMatchObject({ model: "m", temperature: 0.7, max_tokens: 2000 });
    expect(body.response_format).toMatchObject({
      type: "json_schema",
      json_schema: { name: "preference_triples", strict: true, schema: { additionalProperties: false } },
    });
    expect(body.messages[0]).toMatchObject({ role: "system" });
    expect(question).toContain("generate five instruction-answer triples");
    expect(question).toContain("verbatim copy");
  });

  it("without a key sends none", async () => {
    const api = await startApi(goodTriples);
    await (await building(api.baseUrl)).run();
    expect(api.seen.map(({ authorization }) => authorization)).toEqual(api.seen.map(() => undefined));
  });

  it("counts what each stage drops", async () => {
    const api = await startApi((request) => {
      const good = goodTriples(request).preference_triples;
      const words = good[4]!.extracted_answer!;
      return {
        preference_triples: [
          good[0],
          { ...good[0], instruction: good[0]!.instruction!.toUpperCase() }, // Again, but for its case.
          {
            ...good[1],
            extracted_answer:
              "This stands nowhere in the text, however long one looks for it, and it has more than 100 characters.",
          },
          { ...good[1], extracted_answer: words.slice(0, 40) },
          { ...good[1], extracted_answer: words.slice(9) },
          { ...good[2], generated_answer: good[2]!.extracted_answer },
          { ...good[2], generated_answer: "   " },
          {
            ...good[3],
            extracted_answer: words.replaceAll(" ", "\n  ").replaceAll("of its own", "of-its\u00a0\u2018own\u2019"),
          },
          { instruction: "one", chosen: "two" },
          "text",
        ],
      };
    });
    const build = await building(api.baseUrl, { articles: [article("Alpha", 1)] });
    const { sieve, verbatim } = await build.run();
    expect(sieve.stages.map(({ kept, dropped }) => [kept, dropped])).toEqual([
      [8, 0],
      [7, 1],
      [6, 1],
      [5, 1],
      [4, 1],
      [3, 1],
      [2, 1],
    ]);
    expect(verbatim).toEqual({ exact: 5, restored: 1 });
    expect(build.rows().map(({ chosen }) => extractSubstrings(article("Alpha", 1))[0]!.includes(chosen))).toEqual([
      true,
      true,
    ]);
    expect(build.report()).toMatchObject({ malformed_triples: 2 });
    expect(build.report().dropped).toHaveLength(6);
    expect(build.lines.join("\n")).toContain("which cleaning changes or leaves over, need not");
  });

  it("asks once for an extract that two articles share, and not at all for what has none", async () => {
    const api = await startApi(goodTriples);
    const build = await building(api.baseUrl, { articles: [article("Alpha", 1), "Short.", article("Alpha", 1), ""] });
    await build.run();
    expect(api.seen).toHaveLength(1);
    expect(build.rows()).toHaveLength(5);
    expect(build.lines[0]).toContain("1 found twice and asked once");
  });

  it("splits as test_size does", async () => {
    const api = await startApi(goodTriples);
    const build = await building(api.baseUrl, { testSize: 0.2 });
    await build.run();
    const all = build.rows();
    const [train, test] = [build.options.files.train, build.options.files.test].map(readLines) as [
      unknown[],
      unknown[],
    ];
    expect(test).toHaveLength(Math.ceil(all.length * 0.2));
    expect(new Set([...train, ...test].map((row) => JSON.stringify(row)))).toEqual(
      new Set(all.map((row) => JSON.stringify(row))),
    );
    expect(train.length + test.length).toBe(all.length);
  });

  it("refuses to write over what it has not written, and where nothing is left", async () => {
    const api = await startApi(() => ({
      preference_triples: [{ instruction: "a", generated_answer: "b", extracted_answer: "c" }],
    }));
    const build = await building(api.baseUrl);
    await writeFile(build.options.files.out, "{}\n");
    await expect(build.run()).rejects.toThrow("is there already, and the journal pairs.journal is not");
    expect(api.seen).toEqual([]);
    const empty = await building(api.baseUrl);
    await expect(empty.run()).rejects.toThrow("no row is left to write");
    expect(await readdir(dirname(empty.options.files.out))).not.toContain("pairs.jsonl");
    expect(empty.report()).toMatchObject({ files: [] });
  });

  it("takes our own model's answers as rejected, each asked for once", async () => {
    const api = await startApi(goodTriples);
    const asked: [string, number][] = [];
    let closed = 0;
    const ownModel = {
      name: "own",
      identity: "1",
      open: async () => ({
        answer: async (prompt: string, seed: number) => {
          if (asked.length === 3 && closed === 0) throw new Error("the device is gone");
          asked.push([prompt, seed]);
          return { text: ` Our answer to ${prompt}. `, isCut: asked.length === 1 };
        },
        close: async () => void closed++,
      }),
    };
    const build = await building(api.baseUrl, { articles: [article("Alpha", 1)], ownModel });
    await expect(build.run()).rejects.toThrow("the device is gone");
    const result = await build.run();
    expect(closed).toBe(2);
    expect(api.seen).toHaveLength(1);
    expect(asked).toHaveLength(5);
    expect(new Set(asked.map(([, seed]) => seed)).size).toBe(5);
    expect(build.rows().map(({ prompt, rejected }) => rejected === `Our answer to ${prompt}.`)).toEqual(
      Array(5).fill(true),
    );
    expect(result.cutOwnAnswers).toBe(1);
    await build.run();
    expect(asked).toHaveLength(5);
  });
});

describe("faults", () => {
  const SHORT = { articles: [article("Alpha", 1)] };

  it.each<[string, (response: ServerResponse) => boolean]>([
    ["a limit", (response) => fail(response, 429, "slow down")],
    ["a broken server", (response) => fail(response, 500, "oops")],
    ["a server too busy", (response) => fail(response, 503, "later")],
    ["a connection that is cut", cut],
    ["a connection that is closed", (response) => response.destroy().destroyed],
    ["an answer that is no completion", (response) => complete(response, "", { choices: [] })],
    ["an answer that is no JSON", (response) => response.end("<html>").writableEnded],
  ])("%s is asked again", async (_name, fault) => {
    const api = await startApi(goodTriples);
    api.fault = ({ nth }, response) => nth < 4 && fault(response);
    const build = await building(api.baseUrl, SHORT);
    await build.run();
    expect(api.seen).toHaveLength(4);
    expect(build.rows()).toHaveLength(5);
    expect(build.report()).toMatchObject({ calls: 4, failed_calls: 3, problems: [] });
  });

  it("a slow answer is given up and asked again", async () => {
    const api = await startApi(goodTriples);
    api.fault = ({ nth }) => (nth === 1 ? new Promise(() => {}) : false);
    const server = createServer({ baseUrl: api.baseUrl, model: "m", apiKey: null, timeoutMs: 150 });
    const build = await building(api.baseUrl, { ...SHORT, server });
    await build.run();
    expect(api.seen).toHaveLength(2);
    expect(JSON.stringify(readLines(build.options.files.journal))).toContain("no answer within 0.15 s");
  });

  it("an answer whose body stalls is given up too", async () => {
    const api = await startApi(goodTriples);
    api.fault = ({ nth }, response) => {
      if (nth > 1) return false;
      response.writeHead(200, { "content-type": "application/json" });
      response.write("{");
      return true;
    };
    const server = createServer({ baseUrl: api.baseUrl, model: "m", apiKey: null, timeoutMs: 150 });
    const build = await building(api.baseUrl, { ...SHORT, server });
    await build.run();
    expect(api.seen).toHaveLength(2);
  });

  it("waits as long as Retry-After says, with all calls", async () => {
    const api = await startApi(goodTriples);
    let limitedMs = 0;
    api.fault = (_, response) => {
      if (limitedMs > 0) return false;
      limitedMs = Date.now();
      return fail(response, 429, "slow down", { "retry-after": "1" });
    };
    const build = await building(api.baseUrl, { ask: { concurrency: 1, attempts: 2, askAgain: 0, backoffMs: 1 } });
    await build.run();
    expect(api.seen[1]!.atMs - limitedMs).toBeGreaterThanOrEqual(995);
    expect(build.report()).toMatchObject({ failed_calls: 1, problems: [] });
  });

  it("takes Retry-After as a date, and does not wait for hours", async () => {
    const api = await startApi(goodTriples);
    api.fault = ({ nth }, response) =>
      nth === 1 && fail(response, 503, "later", { "retry-after": new Date(Date.now() + 1500).toUTCString() });
    const build = await building(api.baseUrl, SHORT);
    const startMs = Date.now();
    await build.run();
    expect(Date.now() - startMs).toBeGreaterThan(400);

    const hours = await startApi(goodTriples);
    hours.fault = (request, response) =>
      extractOf(request).includes("Alpha") && fail(response, 429, "come back", { "retry-after": "7200" });
    const listed = await building(hours.baseUrl, { articles: [article("Alpha", 1), article("Beta", 1)] });
    await listed.run();
    expect(listed.report()).toMatchObject({
      problems: [{ article: 1, extract: 1, problem: "failed", reason: "HTTP 429: come back" }],
    });
    expect(listed.rows()).toHaveLength(5);
  });

  it("lists a call that keeps failing, goes on with the others, and asks again the next time", async () => {
    const api = await startApi(goodTriples);
    api.fault = (request, response) =>
      extractOf(request).includes("number 00000") && fail(response, 500, "oops \u001b[31m");
    const build = await building(api.baseUrl);
    const extracts = build.options.articles.flatMap((text) => extractSubstrings(text)).length;
    const first = await build.run();
    expect(first.outcomes.filter(({ kind }) => kind === "failed")).toHaveLength(2);
    expect(build.rows()).toHaveLength(5 * (extracts - 2));
    expect(api.seen).toHaveLength(extracts - 2 + 2 * 4);
    expect(build.lines.join("\n")).toContain("extract 1 (article 1): failed: HTTP 500: oops \\u001b[31m");
    api.fault = () => false;
    await build.run();
    expect(api.seen).toHaveLength(extracts - 2 + 2 * 4 + 2);
    expect(build.rows()).toHaveLength(5 * extracts);
  });

  it("counts and lists refusals, cut answers, invalid JSON and wrong shapes, and asks again where that may help", async () => {
    const api = await startApi(goodTriples);
    const kinds = ["refused", "cut", "broken", "shape", "once"];
    api.fault = (request, response) => {
      const kind = kinds.find((name) => extractOf(request).includes(name));
      if (kind === "refused") return refuse(response, "I will not \u202e.");
      if (kind === "cut") {
        const message = { content: '{"preference_triples": [{"instr', refusal: null };
        return complete(response, "", { choices: [{ message, finish_reason: "length" }] });
      }
      if (kind === "broken") return complete(response, "Here you are: {");
      if (kind === "shape") return complete(response, { triples: [] });
      return kind === "once" && request.nth === 1 && complete(response, "[]");
    };
    const build = await building(api.baseUrl, { articles: kinds.map((name) => article(name, 1)) });
    await build.run();
    expect(api.seen).toHaveLength(1 + 2 + 2 + 2 + 2);
    expect(build.report()).toMatchObject({
      extracts: { all: 5, answered: 1, refused: 1, cut: 1, "invalid JSON": 1, "wrong shape": 1, failed: 0 },
      problems: [
        { article: 1, problem: "refusal", reason: "I will not \\u202e." },
        { article: 2, problem: "cut" },
        { article: 3, problem: "invalid JSON" },
        { article: 4, problem: "wrong shape" },
      ],
    });
    await build.run();
    expect(api.seen).toHaveLength(9); // What the server answered is not asked again.
    expect(build.rows()).toHaveLength(5);
  });

  it.each([
    [401, "it asks for a key, and none is set"],
    [404, "it does not know the model"],
  ])("HTTP %i ends the run: no call could succeed", async (status, words) => {
    const api = await startApi(goodTriples);
    api.fault = (_, response) => fail(response, status, "no");
    const build = await building(api.baseUrl);
    await expect(build.run()).rejects.toThrow(words);
    expect(api.seen.length).toBeLessThanOrEqual(4);
  });

  it("an empty account ends the run after the calls under way, which are kept", async () => {
    const api = await startApi(goodTriples);
    api.fault = ({ nth }, response) => {
      if (api.answered < 2) return false;
      const error = {
        message: "You exceeded your current quota",
        code: "insufficient_quota",
        type: "insufficient_quota",
      };
      if (nth === 1) response.writeHead(429, { "content-type": "application/json" }).end(JSON.stringify({ error }));
      return nth === 1;
    };
    const build = await building(api.baseUrl, { ask: { concurrency: 1, attempts: 9, askAgain: 0, backoffMs: 1 } });
    await expect(build.run()).rejects.toThrow("the account has nothing left");
    expect(api.seen).toHaveLength(3);
    api.fault = () => false;
    await build.run();
    const extracts = build.options.articles.flatMap((text) => extractSubstrings(text)).length;
    expect(api.seen).toHaveLength(extracts + 1);
  });

  it("a server without json_schema is asked for json_object, one without either for text", async () => {
    const api = await startApi(goodTriples);
    api.fault = ({ body }, response) =>
      body.response_format?.type === "json_schema" &&
      fail(response, 400, "response_format type must be text or json_object");
    const build = await building(api.baseUrl, { ask: { concurrency: 2, attempts: 1, askAgain: 0, backoffMs: 1 } });
    const { outcomes } = await build.run();
    const types = api.seen.map(({ body }) => body.response_format?.type);
    expect(types.filter((type) => type === "json_schema")).toHaveLength(2);
    expect(types.filter((type) => type === "json_object")).toHaveLength(outcomes.length);

    const old = await startApi((request) => `\`\`\`json\n${JSON.stringify(goodTriples(request))}\n\`\`\``);
    old.fault = ({ body }, response) => body.response_format !== undefined && fail(response, 422, "extra fields");
    const plain = await building(old.baseUrl, { ask: { concurrency: 1, attempts: 1, askAgain: 0, backoffMs: 1 } });
    await plain.run();
    expect(old.seen).toHaveLength(outcomes.length + 2);
    expect(plain.rows()).toHaveLength(5 * outcomes.length);
  });

  it("a server that wants max_completion_tokens gets it; a request that it cannot take is listed", async () => {
    const api = await startApi(goodTriples);
    api.fault = (request, response) => {
      if (request.body.max_tokens !== undefined) {
        return fail(response, 400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.");
      }
      return extractOf(request).includes("Beta") && fail(response, 400, "maximum context length is 10 tokens");
    };
    const build = await building(api.baseUrl, {
      articles: [article("Alpha", 1), article("Beta", 1)],
      ask: { concurrency: 1, attempts: 3, askAgain: 0, backoffMs: 1 },
    });
    await build.run();
    expect(api.seen.map(({ body }) => body.max_completion_tokens)).toEqual([undefined, 2000, 2000]);
    expect(build.report()).toMatchObject({
      problems: [{ article: 2, reason: "HTTP 400: maximum context length is 10 tokens" }],
    });
  });

  it("without usage counts an estimate, and says so", async () => {
    const api = await startApi(goodTriples);
    api.fault = (request, response) => complete(response, goodTriples(request), { usage: null });
    const build = await building(api.baseUrl, { ...SHORT, prices: { input: 1, output: 2 } });
    await build.run();
    const report = build.report() as Record<string, number | boolean>;
    expect(report.tokens_are_estimated).toBe(true);
    expect(report.prompt_tokens).toBeGreaterThan(600);
    expect(report.cost_usd).toBeCloseTo((Number(report.prompt_tokens) + 2 * Number(report.completion_tokens)) / 1e6, 9);
  });

  it("the key is nowhere, also where the server repeats it", async () => {
    const key = "sk-secret-0123456789";
    const api = await startApi(goodTriples);
    api.fault = ({ nth, question }, response) => {
      if (nth === 1) return fail(response, 500, `Incorrect API key provided: ${key}`);
      if (question.includes("Beta")) return refuse(response, `I may not say ${key}`);
      return false;
    };
    api.reply = (request) => {
      const triples = goodTriples(request).preference_triples;
      return { preference_triples: triples.map((triple) => ({ ...triple, generated_answer: `It is ${key}.` })) };
    };
    const server = createServer({ baseUrl: api.baseUrl, model: "m", apiKey: key, timeoutMs: 2000 });
    const build = await building(api.baseUrl, { server });
    await build.run();
    const folder = dirname(build.options.files.out);
    const files = await readdir(folder);
    expect(files.sort()).toEqual(["pairs.journal", "pairs.jsonl", "pairs.report.json"]);
    for (const file of files) expect(readFileSync(join(folder, file), "utf8")).not.toContain(key);
    expect(build.lines.join("\n")).not.toContain(key);
    expect(build.rows()[0]!.rejected).toBe("It is [key].");
  });
});

it("the budget of calls is kept to, over runs, and the rest is made with a larger one", async () => {
  const api = await startApi(goodTriples);
  const build = await building(api.baseUrl);
  const extracts = build.options.articles.flatMap((text) => extractSubstrings(text)).length;
  const limited = (calls: number) => ({ ...build.options, limits: { ...build.options.limits, calls } });
  const { buildPairs } = await import("../../src/curation/build.ts");
  const never = new AbortController().signal;
  const first = await buildPairs(limited(3), never);
  expect(first.stopped).toBe("budget");
  expect(api.seen).toHaveLength(3);
  expect(build.rows()).toHaveLength(15);
  await buildPairs(limited(3), never);
  expect(api.seen).toHaveLength(3);
  expect(build.lines.join("\n")).toContain("the budget is used up");
  const last = await buildPairs(limited(extracts), never);
  expect(last.stopped).toBeNull();
  expect(api.seen).toHaveLength(extracts);
});

it("the budgets of tokens and money are not passed", async () => {
  const api = await startApi(goodTriples); // Each call takes 700 and 500 tokens.
  const never = new AbortController().signal;
  const unlimited = Number.POSITIVE_INFINITY;
  for (const limits of [
    { calls: unlimited, tokens: 6000, usd: unlimited },
    { calls: unlimited, tokens: unlimited, usd: 0.006 },
  ]) {
    const build = await building(api.baseUrl, { limits, prices: { input: 1, output: 1 } });
    const { stopped, tally } = await build.run(never);
    expect(stopped).toBe("budget");
    expect(tally.spent.promptTokens + tally.spent.completionTokens).toBeLessThanOrEqual(6000);
    expect(tally.calls).toBeGreaterThanOrEqual(2);
  }
});

it("a server that is gone ends the run before every question has waited for it, and what there is is written", async () => {
  const api = await startApi(goodTriples);
  api.fault = (_, response) => api.answered >= 3 && fail(response, 502, "gone");
  const articles = Array.from({ length: 30 }, (_, i) => article(`Article${i}`, 1));
  const build = await building(api.baseUrl, {
    articles,
    ask: { concurrency: 4, attempts: 2, askAgain: 0, backoffMs: 1 },
  });
  const { stopped } = await build.run();
  expect(stopped).toBe("failures");
  expect(build.rows()).toHaveLength(15);
  expect(api.seen.length).toBeLessThan(3 + 2 * 25);
  expect(build.lines.join("\n")).toContain("stopped, because 20 questions in a row failed: the same command goes on");
  api.fault = () => false;
  await build.run();
  expect(build.rows()).toHaveLength(150);
});

it("a signal ends the run once the calls under way have come back, which are kept", async () => {
  const api = await startApi(goodTriples);
  const controller = new AbortController();
  api.fault = async () => {
    if (api.seen.length === 2) controller.abort(new Error("stopped"));
    await new Promise((resolve) => setTimeout(resolve, 50));
    return false;
  };
  const build = await building(api.baseUrl, { ask: { concurrency: 2, attempts: 2, askAgain: 0, backoffMs: 1 } });
  await expect(build.run(controller.signal)).rejects.toThrow("stopped");
  expect(api.seen).toHaveLength(2);
  expect(readLines(build.options.files.journal)).toHaveLength(1 + 2);
  await build.run();
  const extracts = build.options.articles.flatMap((text) => extractSubstrings(text)).length;
  expect(api.seen).toHaveLength(extracts);
  expect(cleanText(build.rows()[0]!.chosen)).toBe(build.rows()[0]!.chosen);
});
