import { appendFile, cp, mkdir, writeFile } from "node:fs/promises";
import { createServer, type IncomingHttpHeaders, request } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { DEFAULT_PORT, type LiveServer, serveLive } from "../../src/live/server.ts";
import { metricsText, runFolder } from "../report/run-folders.ts";
import { temporaryFolder } from "../weights/fixtures.ts";

async function serve(folder: string, port: number | null = 0): Promise<LiveServer & { problems: string[] }> {
  const problems: string[] = [];
  const server = await serveLive({ kind: "run", folder }, port, (message) => problems.push(message));
  onTestFinished(server.end);
  return { ...server, problems };
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

/** A request with these headers and no others: fetch does not let a host be named. */
function ask(url: string, headers: Record<string, string> = {}, method = "GET"): Promise<Answer> {
  return new Promise((resolve, reject) => {
    request(url, { headers, method }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => {
        text += part;
      });
      response.on("end", () => resolve({ status: response.statusCode!, headers: response.headers, text }));
    })
      .on("error", reject)
      .end();
  });
}

interface ServerEvent {
  readonly name: string;
  readonly id: string | undefined;
  readonly data: unknown;
}

/** Server-sent events as they come. */
async function listen(url: URL | string, headers: Record<string, string> = {}) {
  const stop = new AbortController();
  onTestFinished(() => stop.abort());
  const response = await fetch(url, { headers, signal: stop.signal });
  expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  return {
    /** Up to the event that fits, or to the end. */
    until: async (fits: (event: ServerEvent) => boolean): Promise<ServerEvent[]> => {
      const events: ServerEvent[] = [];
      for (;;) {
        const end = text.indexOf("\n\n");
        if (end < 0) {
          const { value, done } = await reader.read();
          if (done) return events;
          text += value;
          continue;
        }
        const fields = new Map(
          text
            .slice(0, end)
            .split("\n")
            .map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]),
        );
        text = text.slice(end + 2);
        if (!fields.has("event")) continue;
        const data = fields.get("data")!;
        const event = { name: fields.get("event")!, id: fields.get("id"), data: data === "" ? null : JSON.parse(data) };
        events.push(event);
        if (fits(event)) return events;
      }
    },
  };
}

const isNamed = (name: string) => (event: ServerEvent) => event.name === name;

function eventsUrl(page: string, url: string): URL {
  const { events } = JSON.parse(/id="page-data">([^<]*)</.exec(page)![1]!) as { events: string };
  return new URL(events, url);
}

const stepsOf = (events: readonly ServerEvent[]) =>
  events
    .filter(({ name }) => name === "records")
    .flatMap(({ data }) => (data as { records: { step: number }[] }).records.map(({ step }) => step));

describe("the live server", () => {
  it("shows the run, and nothing else", async () => {
    const { url } = await serve(await runFolder());
    const { status, headers, text } = await ask(url);
    expect(status).toBe(200);
    expect(text).toContain("<h1>one");
    expect(text).toContain("connect-src &#39;self&#39;");
    expect(headers).toMatchObject({
      "cache-control": "no-store",
      "content-type": "text/html; charset=utf-8",
      "x-content-type-options": "nosniff",
      "x-frame-options": "DENY",
      "cross-origin-resource-policy": "same-origin",
    });
    expect(await ask(url, {}, "HEAD")).toMatchObject({ status: 200, text: "" });
    for (const path of ["config.yaml", "../one/run.json", "x/", "events/", "%ff", "//[", "report.html"]) {
      expect((await ask(`${url}${path}`)).status, path).toBe(404);
    }
    for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
      expect((await ask(url, {}, method)).status, method).toBe(405);
    }
  });

  it.each([
    ["localhost", 200],
    ["LOCALHOST:1234", 200],
    ["127.0.0.1:9", 200],
    ["[::1]:80", 200],
    ["evil.example", 403],
    ["localhost.evil.example:8008", 403],
    ["127.0.0.1.evil.example", 403],
    ["evil.example:8008@localhost", 403],
    ["localhost:", 403],
    ["0.0.0.0", 403],
  ])("answers a request for the host %s with %i", async (host, status) => {
    const { url } = await serve(await runFolder());
    expect((await ask(url, { host })).status).toBe(status);
    if (status === 403) expect((await ask(`${url}events`, { host })).status).toBe(403);
  });

  it("refuses pages of other origins", async () => {
    const { url } = await serve(await runFolder());
    const { host, port } = new URL(url);
    const statusOf = async (origin: string) => (await ask(url, { origin, host })).status;
    expect(await statusOf(`http://${host}`)).toBe(200);
    for (const origin of [
      "null",
      "http://evil.example",
      `https://${host}`,
      `http://localhost:${port}`,
      `http://127.0.0.1:${Number(port) + 1}`,
    ]) {
      expect(await statusOf(origin), origin).toBe(403);
      expect((await ask(`${url}events`, { origin, host })).status, origin).toBe(403);
    }
  });

  it("is on the loopback interface alone", async () => {
    const { url } = await serve(await runFolder());
    expect(new URL(url).hostname).toBe("127.0.0.1");
    await expect(fetch(url.replace("127.0.0.1", "127.0.0.2"))).rejects.toThrow();
  });

  it("sends what comes after the page, once, and the page's text", async () => {
    const folder = await runFolder({ "metrics.jsonl": metricsText(3, 20) });
    const { url, problems } = await serve(folder);
    const page = (await ask(url)).text;
    const events = await listen(eventsUrl(page, url));
    const [first] = await events.until(isNamed("main"));
    expect(first).toMatchObject({ name: "main", data: expect.stringContaining("<h1>one") });
    await appendFile(join(folder, "metrics.jsonl"), '{"step":21,"loss":0.25}\n{"step":22,');
    const grown = await events.until(isNamed("main"));
    expect(grown[0]).toMatchObject({ name: "records", data: { run: 0, records: [{ step: 21, loss: 0.25 }] } });
    expect(grown.at(-1)!.data).toContain("21 / 40");
    await appendFile(join(folder, "metrics.jsonl"), '"loss":0.2}\n');
    await writeFile(join(folder, "performance.jsonl"), '{"step":22,"tokens_per_second":1234}\n');
    const more = await events.until(({ data }) => JSON.stringify(data).includes("1234"));
    expect(more.filter(isNamed("records")).map(({ data }) => data)).toEqual([
      { run: 0, records: [{ step: 22, loss: 0.2 }] },
      { run: 0, records: [{ step: 22, tokens_per_second: 1234 }] },
    ]);
    expect(problems).toEqual([]);
  });

  it("goes on where a browser was that has lost the connection", async () => {
    const folder = await runFolder({ "metrics.jsonl": metricsText(3, 5) });
    const { url } = await serve(folder);
    const address = eventsUrl((await ask(url)).text, url);
    await appendFile(join(folder, "metrics.jsonl"), '{"step":6}\n');
    const [record] = await (await listen(address)).until(isNamed("records"));
    await appendFile(join(folder, "metrics.jsonl"), '{"step":7}\n');
    const again = await listen(address, { "last-event-id": record!.id! });
    expect(stepsOf(await again.until(isNamed("records")))).toEqual([7]);
    for (const id of ["", "-1,x", "9".repeat(400), "1e3,2"]) {
      const anew = await listen(address, { "last-event-id": id });
      expect(stepsOf(await anew.until(isNamed("records"))).slice(-1), id).toEqual([7]);
    }
  });

  it("says how far a reader has come with the last of several records alone", async () => {
    const { url } = await serve(await runFolder({ "performance.jsonl": '{"step":1,"tokens_per_second":9}\n' }));
    const events = await listen(`${url}events`);
    const isOfPerformance = ({ data }: ServerEvent) => JSON.stringify(data).includes("tokens_per_second");
    const ids = (await events.until(isOfPerformance)).map(({ id }) => id);
    expect(ids).toEqual([undefined, expect.stringMatching(/^\d+,\d+$/)]);
  });

  it("has the page of another run loaded anew, though its charts are the same", async () => {
    const [first, second] = [await serve(await runFolder()), await serve(await runFolder())];
    const address = eventsUrl((await ask(first.url)).text, second.url);
    const events = await (await listen(address)).until(({ name }) => name === "main" || name === "reload");
    expect(events.at(-1)!.name).toBe("reload");
  });

  it("has the page loaded anew where it lacks a chart, and not otherwise", async () => {
    const folder = await runFolder({ "metrics.jsonl": '{"step":1,"loss":0.7}\n' });
    const { url } = await serve(folder);
    const events = await listen(eventsUrl((await ask(url)).text, url));
    await appendFile(join(folder, "metrics.jsonl"), '{"step":2,"loss":0.6}\n');
    expect((await events.until(isNamed("main"))).map(({ name }) => name)).not.toContain("reload");
    await appendFile(join(folder, "metrics.jsonl"), '{"step":2,"eval_loss":0.65}\n');
    await events.until(isNamed("reload"));
    const anew = await listen(eventsUrl((await ask(url)).text, url));
    expect((await anew.until(isNamed("main"))).map(({ name }) => name)).toEqual(["main"]);
  });

  it("shows a run that has not begun, and begins", async () => {
    const folder = join(await temporaryFolder(), "later");
    const { url } = await serve(folder);
    const page = (await ask(url)).text;
    expect(page).toContain("The run has written nothing yet");
    const events = await listen(eventsUrl(page, url));
    await cp(await runFolder(), folder, { recursive: true });
    await events.until(isNamed("reload"));
    expect((await ask(url)).text).toContain("Loss");
  });

  it("ends with the last state, and says so", async () => {
    const folder = await runFolder({ "metrics.jsonl": metricsText(3, 5) });
    const server = await serve(folder);
    const events = await listen(eventsUrl((await ask(server.url)).text, server.url));
    await events.until(isNamed("main"));
    await appendFile(join(folder, "metrics.jsonl"), '{"step":6,"loss":0.5}\n');
    await server.end();
    const last = await events.until(() => false);
    expect(stepsOf(last)).toEqual([6]);
    expect(last.map(({ name }) => name)).toEqual(["records", "main", "end"]);
    await expect(fetch(server.url)).rejects.toThrow();
  });

  it("ends when pages that lack a chart have been loaded anew", async () => {
    const folder = await runFolder({ "metrics.jsonl": '{"step":1,"loss":0.7}\n' });
    const server = await serve(folder);
    const events = await listen(eventsUrl((await ask(server.url)).text, server.url));
    await events.until(isNamed("main"));
    await appendFile(join(folder, "metrics.jsonl"), '{"step":1,"eval_loss":0.65}\n');
    const end = server.end();
    await events.until(isNamed("reload"));
    const anew = await listen(eventsUrl((await ask(server.url)).text, server.url));
    expect((await anew.until(() => false)).map(({ name }) => name)).toEqual(["end"]);
    await end;
  });

  it("says where a run cannot be read, and not that it has written nothing", async () => {
    const folder = await runFolder({ "metrics.jsonl": null });
    await mkdir(join(folder, "metrics.jsonl"));
    const { url, problems } = await serve(folder);
    expect((await ask(url)).status).toBe(500);
    expect(problems).toEqual([expect.stringContaining("metrics.jsonl")]);
  });

  it("refuses a port that is taken, and takes another where none was named", async () => {
    const holder = createServer();
    onTestFinished(() => void holder.close());
    await new Promise<void>((resolve) => void holder.listen(0, "127.0.0.1", resolve));
    const { port } = holder.address() as AddressInfo;
    await expect(serve(await runFolder(), port)).rejects.toThrow(
      `--live: port ${port} of 127.0.0.1 cannot be had (EADDRINUSE): choose another, or 0 for any free one`,
    );
    const first = await serve(await runFolder(), null);
    const second = await serve(await runFolder(), null);
    expect(second.url).not.toBe(first.url);
    expect([first.url, second.url].filter((url) => new URL(url).port === String(DEFAULT_PORT)).length).toBeLessThan(2);
  });

  it("has room for so many readers, and no more", async () => {
    const { url } = await serve(await runFolder());
    const address = eventsUrl((await ask(url)).text, url);
    for (let i = 0; i < 32; i++) await listen(address);
    expect((await fetch(address)).status).toBe(503);
  });
});
