import { readFileSync } from "node:fs";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { describe, expect, it, vi } from "vitest";
import { extractSubstrings } from "../../src/curation/extracts.ts";
import { type ApiServer, cut, fail, goodTriples, startApi } from "../curation/api-server.ts";
import { article, readLines } from "../curation/building.ts";
import { TEST_DEVICE } from "../device.ts";
import { rootPath } from "../model/golden-model.ts";
import { temporaryFolder } from "../weights/fixtures.ts";
import { dataCommand } from "./in-process.ts";
import { dpoTrain, ended, start } from "./process.ts";

const ARTICLES = Array.from({ length: 6 }, (_, i) => article(`Article${i}`, 4));
const EXTRACTS = ARTICLES.flatMap((text) => extractSubstrings(text)).length;
const QUICK = ["--backoff", "0.01", "--timeout", "5"];

async function inFolder(api: ApiServer, articles: readonly string[] = ARTICLES) {
  const folder = await temporaryFolder();
  await writeFile(
    join(folder, "articles.json"),
    JSON.stringify({ artifact_data: articles.map((content) => ({ content })) }),
  );
  const out = join(folder, "pairs.jsonl");
  const args = ["data", "build", "--articles", join(folder, "articles.json"), "--out", out, "--base-url", api.baseUrl];
  return { folder, out, args: [...args, ...QUICK], journal: join(folder, "pairs.journal") };
}

/** Rows as they must be: five for each extract, none twice. */
function expectWhole(out: string, extracts = EXTRACTS): void {
  const rows = readLines(out).map((row) => JSON.stringify(row));
  expect(rows).toHaveLength(5 * extracts);
  expect(new Set(rows).size).toBe(rows.length);
}

describe("data build", () => {
  it("says before it asks, and after it", async () => {
    const api = await startApi(goodTriples);
    const { args, out } = await inFolder(api);
    const prices = ["--input-price", "1", "--output-price", "2"];
    const { code, stdout, stderr } = await dpoTrain([...args, ...prices, "--test-size", "5"], {
      environment: { OPENAI_API_KEY: "sk-loopback-0123" },
    });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain(`6 articles, ${EXTRACTS} extracts of whole sentences`);
    expect(stdout).toMatch(
      new RegExp(
        `^${EXTRACTS} calls to make: about [\\d,]+ tokens in and [\\d,]+ out, about \\$0\\.\\d+, at most \\$`,
        "m",
      ),
    );
    expect(stdout).toContain(`${EXTRACTS} calls made; ${(700 * EXTRACTS).toLocaleString("en-US")} tokens in`);
    expect(stdout).toContain(
      `wrote pairs.jsonl: ${5 * EXTRACTS} rows\nwrote pairs-train.jsonl: ${5 * EXTRACTS - 5} rows\nwrote pairs-test.jsonl: 5 rows`,
    );
    expect(stdout).not.toContain("sk-loopback");
    expect(new Set(api.seen.map(({ authorization }) => authorization))).toEqual(new Set(["Bearer sk-loopback-0123"]));
    expectWhole(out);
  });

  it("--dry-run asks nothing, writes nothing and needs no key", async () => {
    const api = await startApi(goodTriples);
    const { args, folder } = await inFolder(api);
    const { code, stdout } = await dpoTrain([...args, "--dry-run"]);
    expect(code).toBe(0);
    expect(stdout).toContain("extract of article 1, ");
    expect(stdout).toContain(`${EXTRACTS} calls to make`);
    expect(api.seen).toEqual([]);
    expect(await readdir(folder)).toEqual(["articles.json"]);
    const atOpenAi = [...args, "--dry-run", "--base-url", "https://api.openai.com/v1", "--api-key-env", "NO_SUCH_KEY"];
    expect((await dpoTrain(atOpenAi)).code).toBe(0);
  });

  it("killed at random moments goes on: nothing is lost, nothing doubled, nothing asked twice that was answered", async () => {
    const api = await startApi(goodTriples);
    let faults = 0;
    const kinds = [
      (response: Parameters<typeof cut>[0]) => fail(response, 429, "slow down", { "retry-after": "0.02" }),
      (response: Parameters<typeof cut>[0]) => fail(response, 500, "oops"),
      (response: Parameters<typeof cut>[0]) => fail(response, 503, "later"),
      cut,
    ];
    api.fault = async (_, response) => {
      await pause(10 + 40 * Math.random());
      if (Math.random() > 0.25) return false;
      return kinds[faults++ % kinds.length]!(response);
    };
    const { args, out, journal } = await inFolder(api);
    const concurrency = 3;
    let kills = 0;
    for (let done = false; !done; ) {
      const child = start([...args, "--concurrency", String(concurrency), "--attempts", "50"]);
      const end = ended(child);
      const before = api.seen.length;
      // From the first call on, at any time.
      const isRunning = () => child.exitCode === null && child.signalCode === null;
      while (isRunning() && api.seen.length === before) await pause(5);
      await pause(100 * Math.random());
      if (isRunning() && kills < 8) {
        child.kill("SIGKILL");
        kills++;
      }
      const { code, signal, stderr } = await end;
      expect({ code, signal, stderr }).toEqual(
        signal === "SIGKILL" ? { code: null, signal, stderr: "" } : { code: 0, signal: null, stderr: "" },
      );
      done = code === 0;
    }
    expect(kills).toBeGreaterThan(2);
    expectWhole(out);
    expect(api.seen.length).toBeLessThanOrEqual(EXTRACTS + faults + kills * concurrency);
    // No answer that is in the journal was asked for again.
    const requests = readLines(journal).flatMap((entry) => {
      const { kind, request } = entry as { kind?: string; request: string };
      return kind === "response" ? [request] : [];
    });
    expect(requests).toHaveLength(EXTRACTS);
    expect(new Set(requests).size).toBe(EXTRACTS);
    const last = api.seen.length;
    expect((await dpoTrain(args)).code).toBe(0);
    expect(api.seen).toHaveLength(last);
    expectWhole(out);
  });

  it("two at once on one file ask once", async () => {
    const api = await startApi(goodTriples);
    const { args, out } = await inFolder(api);
    const held: (() => void)[] = [];
    api.fault = () => new Promise((resolve) => held.push(() => resolve(false)));
    const first = ended(start(args));
    while (held.length === 0) await pause(5);
    const child = start(args);
    let said = "";
    child.stdout!.on("data", (text) => {
      said += text;
    });
    const second = ended(child);
    while (!said.includes("another process works on pairs.jsonl: waiting for it")) await pause(5);
    api.fault = () => false;
    for (const release of held) release();
    expect((await first).code).toBe(0);
    expect((await second).code).toBe(0);
    expect(api.seen).toHaveLength(EXTRACTS);
    expectWhole(out);
  });

  it("SIGINT stops after the calls under way, with exit code 130", async () => {
    const api = await startApi(goodTriples);
    const { args, out, journal } = await inFolder(api);
    const child = start(args);
    const end = ended(child);
    api.fault = async ({ nth }) => {
      if (api.seen.length === 5 && nth === 1) child.kill("SIGINT");
      await pause(200);
      return false;
    };
    const { code, stderr } = await end;
    expect(code).toBe(130);
    expect(stderr).toContain("interrupted: the same command goes on");
    expect(readLines(journal)).toHaveLength(1 + api.seen.length);
    api.fault = () => false;
    expect((await dpoTrain(args)).code).toBe(0);
    expect(api.seen).toHaveLength(EXTRACTS);
    expectWhole(out);
  });

  it("--rejected-from writes our own model's answers", async () => {
    const api = await startApi(goodTriples);
    const { args, out } = await inFolder(api, [article("Own", 1)]);
    const own = [
      "--rejected-from",
      rootPath("examples/twin-tiny/model"),
      "--max-new-tokens",
      "8",
      "--device",
      TEST_DEVICE,
    ];
    const first = await dpoTrain([...args, ...own]);
    expect(first).toMatchObject({ code: 0 });
    expect(first.stdout).toMatch(/^rejected answers by .*twin-tiny\/model, \d cut at their longest length$/m);
    const text = readFileSync(out, "utf8");
    expect(text).not.toContain("A generated answer number");
    expect(readLines(out).length).toBeGreaterThan(0);
    const again = await dpoTrain([...args, ...own]);
    expect(again.code).toBe(0);
    expect(again.stdout).not.toContain("loading");
    expect(readFileSync(out, "utf8")).toBe(text);
    expect(api.seen).toHaveLength(1);
  });

  it.each<[string[], string]>([
    [["--out", "x.json"], "--out must name a .jsonl file"],
    [["--base-url", "ftp://x"], "--base-url must be an address"],
    [["--base-url", "http://user:secret@host/v1"], "--base-url must hold no user and no password"],
    [["--budget-usd", "1"], "--budget-usd needs the prices"],
    [["--input-price", "1"], "must be given together"],
    [["--test-size", "0"], "--test-size must be a share"],
    [["--test-size", "1.5"], "--test-size must be a share"],
    [["--concurrency", "0"], "--concurrency must be a whole number of at least 1"],
    [["--timeout", "301"], "--timeout must be a number from 0.1 to 300"],
    [["--rejected-adapter", "x"], "--rejected-adapter needs --rejected-from"],
    [["--rejected-from", "/nowhere"], "--rejected-from: /nowhere"],
    [["--prompt-template", "x"], "--prompt-template must be one of"],
    [["--articles", "/nowhere.json"], "/nowhere.json: cannot open"],
    [["--model", ""], "a model must have a name"],
    [["--budget-calls", "-1"], "--budget-calls must be a whole number"],
    [["--temperature", "3"], "--temperature must be a number from 0 to 2"],
  ])("%j is refused with exit code 2", async (more, message) => {
    const api = await startApi(goodTriples);
    const { args } = await inFolder(api, ["Text."]);
    const { code, stderr } = await dataCommand([...args.slice(1), ...more]);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
    expect(stderr).not.toContain("secret");
    expect(api.seen).toEqual([]);
  });

  it("at OpenAI's own server needs a key, from the environment", async () => {
    const api = await startApi(goodTriples);
    const { args } = await inFolder(api);
    vi.stubEnv("OPENAI_API_KEY", "");
    vi.stubEnv("OPENAI_BASE_URL", "");
    const withoutUrl = args.slice(1).filter((arg) => arg !== "--base-url" && arg !== api.baseUrl);
    const plain = await dataCommand(withoutUrl);
    expect(plain.code).toBe(2);
    expect(plain.stderr).toContain("OPENAI_API_KEY must hold the key for https://api.openai.com/v1");
    expect((await dataCommand([...withoutUrl, "--api-key-env", "MY_KEY"])).stderr).toContain(
      "MY_KEY must hold the key",
    );
    vi.stubEnv("MY_KEY", "sk-secret\nX-Header: 1");
    const broken = await dataCommand([...args.slice(1), "--api-key-env", "MY_KEY"]);
    expect(broken.code).toBe(2);
    expect(broken.stderr).toContain("MY_KEY must hold a key of ASCII characters without spaces");
    expect(broken.stderr).not.toContain("secret");
    vi.unstubAllEnvs();
  });

  it.each<[string, string, string]>([
    ["articles.json", "{}", "articles must be a list of objects with content, alone or as artifact_data, found {}"],
    [
      "articles.json",
      '{"artifact_data": [{"content": "x"}, {"content": {"t": 1}}]}',
      'article 2: an article must be an object whose content is text, found content: {"t":1}',
    ],
    ["articles.json", "[]", "must hold at least one article"],
    ["articles.json", "{", "must be JSON"],
    ["articles.jsonl", '{"content": "x"}\n"\u001b"', "articles.jsonl:2: must be JSON"],
    [
      "articles.jsonl",
      '{"content": "x"}\n7',
      "articles.jsonl:2: an article must be an object whose content is text, found 7",
    ],
  ])("refuses %s with %j", async (name, text, message) => {
    const api = await startApi(goodTriples);
    const { args, folder } = await inFolder(api);
    await writeFile(join(folder, name), text);
    const { code, stderr } = await dataCommand([...args.slice(1), "--articles", join(folder, name)]);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
    expect(stderr).not.toContain("\u001b");
  });
});
