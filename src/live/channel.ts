import { createHash } from "node:crypto";
import type { ServerResponse } from "node:http";
import type { LiveRecords } from "../report/page-data.ts";
import { type Page, renderMain, renderPage } from "../report/shell.ts";
import { BEGINNING, type Place, readNew, sizeOf, stampOf } from "./follow.ts";
import type { LivePage } from "./site.ts";

/** The pages' text is made at most so often, */
const REFRESH_MS = 5000;
/** and takes at most this share of the time. */
const RENDERING_SHARE = 0.005;
/** A reader who takes nothing is cut off: its browser comes back and asks for what it lacks. */
const MAX_WAITING_BYTES = 8 << 20;
const MAX_READERS = 32;

interface Reader {
  readonly response: ServerResponse;
  /** Of each followed file. */
  places: readonly Place[];
  /** What its `main` holds, by its hash. */
  shown: string | null;
  /** The charts that its page was made with, by their hash. */
  readonly charts: string;
}

/**
 * Owns the readers of one page: what a page is made of, and the events that keep it up to date (server-sent events, WHATWG
 * HTML section 9.2). `records`: new records, which the charts grow by. `main`: the text of the page. `reload`: there are
 * charts that the page lacks. `end`: nothing will come any more.
 */
export class Channel {
  readonly #page: LivePage;
  readonly #readers = new Set<Reader>();
  #stamp = "";
  #nextRefreshMs = 0;
  #reloading = 0;

  constructor(page: LivePage) {
    this.#page = page;
  }

  /** The whole page as it is now. */
  async html(): Promise<string> {
    // Asked for before its files are read: what comes between is sent again, and replaces itself.
    const sizes = await Promise.all(this.#page.followed.map(({ path }) => sizeOf(path)));
    const page = await this.#page.read();
    const query = new URLSearchParams({ charts: this.#hashOfCharts(page), from: sizes.join(",") });
    return renderPage({ ...page, events: `./events?${query}` });
  }

  /** Begins to send events. A browser that was here before says with `lastEventId` how far it has come. */
  attach(response: ServerResponse, query: URLSearchParams, lastEventId: string | undefined): void {
    if (this.#readers.size >= MAX_READERS) {
      response.writeHead(503, { "content-type": "text/plain", "retry-after": "10" }).end("too many readers\n");
      return;
    }
    const offsets = (lastEventId ?? query.get("from") ?? "").split(",");
    const places = this.#page.followed.map((_, i): Place => {
      const offsetBytes = Number(offsets[i]);
      return Number.isSafeInteger(offsetBytes) && offsetBytes >= 0 ? { offsetBytes, inode: null } : BEGINNING;
    });
    response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
    const reader: Reader = { response, places, shown: null, charts: query.get("charts") ?? "" };
    this.#readers.add(reader);
    this.#reloading = Math.max(0, this.#reloading - 1);
    response.on("close", () => this.#readers.delete(reader));
    response.write("retry: 2000\n\n");
    this.#stamp = ""; // What was last sent to others may be older than this reader's page.
  }

  /** Sends what is new. To be called now and then, one call after the other. */
  async advance(): Promise<void> {
    if (this.#readers.size === 0) return;
    for (const reader of this.#readers) await this.#sendRecords(reader);
    if (performance.now() < this.#nextRefreshMs) return;
    const stamps = await Promise.all(this.#page.files.map(stampOf));
    const stamp = stamps.join("\n");
    if (stamp === this.#stamp) return;
    this.#stamp = stamp;
    await this.#refresh();
  }

  /** Sends the rest. */
  async finish(): Promise<void> {
    if (this.#readers.size === 0) return;
    for (const reader of this.#readers) await this.#sendRecords(reader);
    await this.#refresh();
  }

  /** Whether a reader was told to load the page anew, and has not come back yet. */
  get isReloading(): boolean {
    return this.#reloading > 0;
  }

  /** Says that nothing will come any more. */
  end(): void {
    for (const { response } of this.#readers) response.end("event: end\ndata: \n\n");
  }

  /** Keeps connections open that would be taken for dead. */
  beat(): void {
    for (const { response } of this.#readers) response.write(":\n\n");
  }

  async #refresh(): Promise<void> {
    const startMs = performance.now();
    const page = await this.#page.read();
    const [main, charts] = [renderMain(page), this.#hashOfCharts(page)];
    const hash = hashOf(main);
    this.#reloading = [...this.#readers].filter((reader) => reader.charts !== charts).length;
    for (const reader of this.#readers) {
      if (reader.charts !== charts) send(reader, "reload", "");
      else if (reader.shown !== hash) send(reader, "main", main);
      reader.shown = hash;
    }
    const nowMs = performance.now();
    this.#nextRefreshMs = nowMs + Math.max(REFRESH_MS, (nowMs - startMs) / RENDERING_SHARE);
  }

  async #sendRecords(reader: Reader): Promise<void> {
    const places: Place[] = [];
    const events: LiveRecords[] = [];
    // One after the other: a sweep may have more files than a process may open.
    for (const [i, { path, run }] of this.#page.followed.entries()) {
      const { records, end } = await readNew(path, reader.places[i] ?? BEGINNING);
      places.push(end);
      if (records.length > 0) events.push({ run, records });
    }
    reader.places = places;
    const id = places.map(({ offsetBytes }) => offsetBytes).join(",");
    // The place is behind all of them: a browser that gets some alone comes back for the others.
    const last = events.length - 1;
    for (const [i, event] of events.entries()) send(reader, "records", event, i === last ? id : undefined);
  }

  /** Of the charts and whose they are: another run may come to the same address. */
  #hashOfCharts({ data }: Page): string {
    return hashOf(JSON.stringify([this.#page.followed, data?.charts ?? []]));
  }
}

function send({ response }: Reader, event: string, data: unknown, id?: string): void {
  if (response.writableLength > MAX_WAITING_BYTES) {
    response.destroy();
    return;
  }
  // JSON has no line feed in it, which would end the event's data.
  response.write(`event: ${event}\n${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`);
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("base64url").slice(0, 16);
}
