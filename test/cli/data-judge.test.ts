import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { type ApiServer, fail, startApi } from "../curation/api-server.ts";
import { readLines } from "../curation/building.ts";
import { temporaryFolder } from "../weights/fixtures.ts";
import { dataCommand } from "./in-process.ts";
import { dpoTrain, ended, start } from "./process.ts";

const ROWS = Array.from({ length: 15 }, (_, i) => ({
  prompt: `Question ${i}?`,
  chosen: `Good ${i}.`,
  rejected: `Bad ${i}.`,
}));
/** Prefers what is good. */
const good: ApiServer["reply"] = ({ question }) =>
  `Reasoning: …\nBest answer: ${/Answer A: Good/.test(question) ? "A" : "B"}`;

async function inFolder(rows: readonly unknown[] = ROWS) {
  const folder = await temporaryFolder();
  await writeFile(join(folder, "rows.jsonl"), rows.map((row) => JSON.stringify(row)).join("\n"));
  const out = join(folder, "judged.jsonl");
  return {
    folder,
    out,
    args: ["data", "judge", "--in", join(folder, "rows.jsonl"), "--out", out, "--backoff", "0.01"],
  };
}

describe("data judge", () => {
  it("asks each judge at its server, with its own key alone", async () => {
    const [one, two] = [await startApi(good), await startApi(good)];
    const { args, out } = await inFolder();
    const judges = [
      "--judge",
      "first",
      "--judge",
      `second@${two.baseUrl}`,
      "--judge",
      `third/x@y@${two.baseUrl}#OTHER_KEY`,
    ];
    const { code, stdout, stderr } = await dpoTrain([...args, "--base-url", one.baseUrl, ...judges], {
      environment: { OPENAI_API_KEY: "sk-first-0123", OTHER_KEY: "sk-third-0123" },
    });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const keysOf = (api: ApiServer, model: string) =>
      new Set(api.seen.filter(({ body }) => body.model === model).map(({ authorization }) => authorization));
    expect(keysOf(one, "first")).toEqual(new Set(["Bearer sk-first-0123"]));
    expect(keysOf(two, "second")).toEqual(new Set([undefined]));
    expect(keysOf(two, "third/x@y")).toEqual(new Set(["Bearer sk-third-0123"]));
    expect([one.seen.length, two.seen.length]).toEqual([30, 60]);
    expect(stdout).toContain("15 of 15 rows kept");
    expect(stdout).toContain("jury: 100.0 % of 15 pairs unanimous, Fleiss' kappa not defined (all votes are the same)");
    expect(readLines(out)).toEqual(ROWS);
  });

  it("killed at random moments goes on without asking again", async () => {
    const api = await startApi(good);
    let faults = 0;
    api.fault = async (_, response) => {
      await pause(10 + 30 * Math.random());
      if (Math.random() > 0.2) return false;
      faults++;
      return fail(response, 503, "later");
    };
    const { args, out } = await inFolder();
    let kills = 0;
    for (let done = false; !done; ) {
      const child = start([...args, "--base-url", api.baseUrl, "--concurrency", "2", "--attempts", "50"]);
      const end = ended(child);
      const before = api.seen.length;
      const isRunning = () => child.exitCode === null && child.signalCode === null;
      while (isRunning() && api.seen.length === before) await pause(5);
      await pause(100 * Math.random());
      if (isRunning() && kills < 6) {
        child.kill("SIGKILL");
        kills++;
      }
      const { code, signal } = await end;
      expect(signal === "SIGKILL" ? 0 : code).toBe(0);
      done = code === 0;
    }
    expect(kills).toBeGreaterThan(1);
    expect(readLines(out)).toEqual(ROWS);
    expect(api.seen.length).toBeLessThanOrEqual(30 + faults + 2 * kills);
  });

  it("--dry-run asks nothing", async () => {
    const api = await startApi(good);
    const { args } = await inFolder();
    const { code, stdout } = await dpoTrain([...args, "--base-url", api.baseUrl, "--dry-run"]);
    expect(code).toBe(0);
    expect(stdout).toContain("30 calls to make");
    expect(api.seen).toEqual([]);
  });

  it.each<[string[], string]>([
    [["--agreement", "most"], "--agreement must be majority or all"],
    [["--examples", "/nowhere.jsonl"], "--examples: /nowhere.jsonl: cannot open"],
    [["--in", "/nowhere.jsonl"], "--in: /nowhere.jsonl: cannot open"],
    [["--judge", "m@http://u:p@host/v1"], "--judge must hold no user and no password"],
    [["--judge", "m@https://api.openai.com/v1"], "name its variable behind the address"],
    [["--judge", ""], "a model must have a name"],
  ])("%j is refused with exit code 2", async (more, message) => {
    const api = await startApi(good);
    const { args } = await inFolder();
    const { code, stderr } = await dataCommand([...args.slice(1), "--base-url", api.baseUrl, ...more]);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
    expect(api.seen).toEqual([]);
  });
});
