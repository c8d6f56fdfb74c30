import { appendFile, mkdir, writeFile } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { parseSweep } from "../../src/config/sweep.ts";
import { serveLive } from "../../src/live/server.ts";
import type { Shown } from "../../src/live/site.ts";
import { CHROMIUM, openUrl, startChromium } from "../report/chromium.ts";
import { CONFIG, metricsText, RUN, runFolder } from "../report/run-folders.ts";
import { temporaryFolder } from "../weights/fixtures.ts";

const HOSTILE = `</script><script>alert(1)</script><img src=x onerror=alert(2)>\u202e`;

/** The page's text is made anew seldom where making it takes long. */
const PATIENCE = { timeout: 60_000 };

async function plotted(page: Page, chart: string): Promise<(number | null | undefined)[][]> {
  return page.evaluate((id) => (dpoTrainPage.charts.get(id)?.plot().data ?? []).map((values) => [...values]), chart);
}

const lastStep = async (page: Page, chart: string) => (await plotted(page, chart))[0]?.at(-1);

/** What ssh -L does: another port that leads to the server, and that can be cut. */
async function tunnel(url: string, port: number): Promise<{ port: number; cut: () => void }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    const other = connect(Number(new URL(url).port), "127.0.0.1");
    for (const end of [socket, other]) sockets.add(end.on("error", () => {}));
    socket.pipe(other).pipe(socket);
  });
  await new Promise<void>((resolve) => void server.listen(port, "127.0.0.1", resolve));
  const cut = () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  onTestFinished(cut);
  return { port: (server.address() as AddressInfo).port, cut };
}

describe.skipIf(!CHROMIUM)("a live page in Chromium", () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await startChromium();
  });
  afterAll(() => browser.close());

  async function show(shown: Shown) {
    const server = await serveLive(shown, 0, (message) => expect.fail(message));
    onTestFinished(server.end);
    return { ...server, ...(await openUrl(browser, server.url)) };
  }

  it("grows with the run's files, keeps what the reader does, and survives a reload", async () => {
    const running = JSON.stringify({ ...RUN, status: "running" });
    const folder = await runFolder({ "metrics.jsonl": metricsText(3, 10), "run.json": running });
    const { page, faults, end } = await show({ kind: "run", folder });
    const connection = page.locator("#connection");
    await expect.poll(() => connection.textContent(), PATIENCE).toBe("live");
    expect(await lastStep(page, "chart-loss")).toBe(10);

    const name = page.locator("#chart-loss").getByRole("button", { name: "evaluation" });
    await name.click();
    await page.getByLabel("Smoothing of training").fill("0.5");
    await page.evaluate(() => scrollTo(0, 300));
    await appendFile(join(folder, "metrics.jsonl"), '{"step":11,"loss":0.25,"grad_norm":null}\n');
    await expect.poll(() => lastStep(page, "chart-loss"), PATIENCE).toBe(11);
    await expect.poll(() => page.locator(".cards").textContent(), PATIENCE).toContain("11 / 40");
    expect(await name.getAttribute("aria-pressed")).toBe("false");
    expect(await page.getByLabel("Smoothing of training").inputValue()).toBe("0.5");
    expect(await page.evaluate(() => scrollY)).toBe(300);

    await appendFile(join(folder, "metrics.jsonl"), '{"step":12,"loss":0.2,"logps/chosen":-9}\n');
    await expect.poll(() => lastStep(page, "chart-logps"), PATIENCE).toBe(12); // A chart that was not there.
    await page.reload();
    expect(await lastStep(page, "chart-loss")).toBe(12);
    await expect.poll(() => connection.textContent(), PATIENCE).toBe("live");

    await writeFile(join(folder, "run.json"), JSON.stringify({ ...RUN, status: "failed", error: HOSTILE }));
    await expect.poll(() => page.locator("main").textContent(), PATIENCE).toContain("<script>alert(1)</script>");
    expect(await page.locator("main script, main img").count()).toBe(0);
    await appendFile(join(folder, "metrics.jsonl"), '{"step":13,"loss":0.2,"entropy":2}\n'); // Another one.
    await end();
    await expect.poll(() => connection.textContent(), PATIENCE).toBe("the run has ended: this is its last state");
    expect(await lastStep(page, "chart-entropy")).toBe(13);

    const showsPoints = () =>
      page.evaluate(() => {
        const plot = dpoTrainPage.charts.get("chart-loss")!.plot();
        return (plot.series[1]!.points!.show as (...args: unknown[]) => boolean)(plot, 1, 0, 1e6);
      });
    expect(await showsPoints()).toBe(true);
    await page.evaluate(() =>
      dpoTrainPage.receive(Array.from({ length: 100 }, (_, i) => ({ step: 14 + i, loss: 0.2 }))),
    );
    expect(await showsPoints(), "of a line that has grown").toBe(false);
    expect(faults).toEqual([]);
  });

  it("leaves the text alone in which something is selected", async () => {
    const folder = await runFolder({ "metrics.jsonl": metricsText(3, 10) });
    const { page } = await show({ kind: "run", folder });
    await expect.poll(() => page.locator("#connection").textContent(), PATIENCE).toBe("live");
    await page.waitForTimeout(1500); // The first text has come by then.
    await page.evaluate(() => getSelection()!.selectAllChildren(document.querySelector("h1")!));
    await appendFile(join(folder, "metrics.jsonl"), '{"step":11,"loss":0.25}\n');
    await expect.poll(() => lastStep(page, "chart-loss"), PATIENCE).toBe(11);
    await page.waitForTimeout(3000);
    expect(await page.locator(".cards").textContent()).toContain("10 / 40");
    await page.evaluate(() => getSelection()!.removeAllRanges());
    await expect.poll(() => page.locator(".cards").textContent(), PATIENCE).toContain("11 / 40");
  });

  it("says when the connection is lost, and goes on through another one", async () => {
    const folder = await runFolder({ "metrics.jsonl": metricsText(3, 10) });
    const server = await serveLive({ kind: "run", folder }, 0, (message) => expect.fail(message));
    onTestFinished(server.end);
    const first = await tunnel(server.url, 0);
    const { page } = await openUrl(browser, `http://localhost:${first.port}/`);
    const connection = page.locator("#connection");
    await expect.poll(() => connection.textContent(), PATIENCE).toBe("live");
    first.cut();
    await expect.poll(() => connection.textContent(), PATIENCE).toContain("no connection to the run");
    await appendFile(join(folder, "metrics.jsonl"), '{"step":11,"loss":0.25}\n');
    const { cut } = await tunnel(server.url, first.port);
    await expect.poll(() => connection.textContent(), PATIENCE).toBe("live");
    await expect.poll(() => lastStep(page, "chart-loss"), PATIENCE).toBe(11);
    cut();
    const refusing = createHttpServer((_, response) => void response.writeHead(502).end());
    onTestFinished(() => void refusing.close());
    await new Promise<void>((resolve) => void refusing.listen(first.port, "127.0.0.1", resolve));
    await expect.poll(() => connection.textContent(), PATIENCE).toContain("load this page anew");
  });

  it("shows the runs of a sweep, each on a page of its own", async () => {
    const sweepFolder = await temporaryFolder();
    const text = `${CONFIG.replace('"runs/one"', JSON.stringify(sweepFolder))}sweep: {grid: {beta: [0.1, 0.5]}}\n`;
    const sweep = parseSweep(text, "sweep.yaml");
    const [first, second] = sweep.runs.map(({ config }) => config.output_dir);
    const begin = async (folder: string, metrics: string) => {
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, "config.yaml"), CONFIG);
      await writeFile(join(folder, "run.json"), JSON.stringify({ ...RUN, status: "running" }));
      await writeFile(join(folder, "metrics.jsonl"), metrics);
    };
    await begin(first!, metricsText(3, 10));
    const { page, faults } = await show({ kind: "sweep", sweep });
    expect(await page.locator("tbody tr").count()).toBe(2);
    await page.locator("thead button", { hasText: /^beta$/ }).click();
    await page.locator("thead button", { hasText: /^beta$/ }).click();
    await begin(second!, metricsText(2, 5));
    // Its line is a new one.
    await expect.poll(async () => (await plotted(page, "curves")).length, PATIENCE).toBe(3);
    await page.locator("thead button", { hasText: /^beta$/ }).click();
    await page.locator("thead button", { hasText: /^beta$/ }).click();
    await appendFile(join(second!, "metrics.jsonl"), '{"step":6,"loss":0.4}\n');
    await page.locator("#curves select").selectOption({ label: "training loss" });
    await expect.poll(async () => (await plotted(page, "curves"))[2]?.[5], PATIENCE).toBe(0.4);
    await expect.poll(() => page.locator("tbody").first().textContent(), PATIENCE).toContain("6 / 40");
    expect(await page.locator("th[aria-sort]").getAttribute("aria-sort"), "sorted as before").toBe("descending");
    await page.getByRole("link", { name: /0\.5/ }).click();
    await page.waitForURL(/beta/);
    expect(await page.locator("h1").textContent()).toContain("beta=0.5");
    await expect.poll(() => page.locator("#connection").textContent(), PATIENCE).toBe("live");
    await appendFile(join(second!, "metrics.jsonl"), '{"step":7,"loss":0.3}\n');
    await expect.poll(() => lastStep(page, "chart-loss"), PATIENCE).toBe(7);
    expect(faults).toEqual([]);
  });
});
