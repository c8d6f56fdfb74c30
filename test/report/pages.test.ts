import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { smooth } from "../../src/report/browser/smoothing.ts";
import { renderComparison } from "../../src/report/comparison-page.ts";
import { readRunFiles } from "../../src/report/run-files.ts";
import { renderReport } from "../../src/report/run-page.ts";
import { renderSweepPage } from "../../src/report/sweep-page.ts";
import type { RunResult, SweepResults } from "../../src/sweep/results.ts";
import { rootPath } from "../model/golden-model.ts";
import { accessibilityFaults } from "./axe.ts";
import { CHROMIUM, type OpenedPage, openPage, startChromium } from "./chromium.ts";
import { CONFIG, metricsText, RUN, readRun, runFolder } from "./run-folders.ts";
import { fakeRun, fakeSweep, gridSweep, pendingRun } from "./sweeps.ts";

/** What would run, or lead astray, if a page let it. */
const HOSTILE = `</script></style><script>alert(1)</script><img src=x onerror=alert(2)>"'><b onclick=alert(3)>\u202eevil\u0000\u001b[2J\ud800`;

/** The values of a plot's lines, that of steps first. */
async function plotted(page: Page, chart: string): Promise<(number | null | undefined)[][]> {
  return page.evaluate(
    (id) =>
      dpoTrainPage.charts
        .get(id)!
        .plot()
        .data.map((values) => [...values]),
    chart,
  );
}

async function report(files: Parameters<typeof runFolder>[0] = {}): Promise<string> {
  return renderReport(await readRunFiles(await runFolder(files)));
}

async function comparison(): Promise<string> {
  const folders = [await runFolder({}, "a"), await runFolder({ "metrics.jsonl": metricsText(1, 30) }, "b")];
  return renderComparison(await Promise.all(folders.map(readRunFiles)), () => null);
}

describe.skipIf(!CHROMIUM)("pages in Chromium", () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await startChromium();
  });
  afterAll(() => browser.close());

  /** Opens a page that must be without faults. */
  async function open(text: string, options: BrowserContextOptions = {}): Promise<OpenedPage> {
    const opened = await openPage(browser, text, options);
    expect(opened.faults).toEqual([]);
    return opened;
  }

  const grid = gridSweep();
  const SWEEPS: Readonly<Record<string, SweepResults>> = {
    "a grid": grid,
    "one run": fakeSweep([fakeRun("run", 3, { settings: { beta: 0.1 } })], ["beta"]),
    "one run that has not begun": fakeSweep([pendingRun("run", { beta: 0.1 })], ["beta"]),
    "no runs": fakeSweep([]),
    "no records": fakeSweep([pendingRun("a", { beta: 1 }, "running"), pendingRun("b", { beta: 2 }, "failed")]),
    "values that are not finite": fakeSweep(
      grid.runs.map((run) => ({
        ...run,
        trainRecords: run.trainRecords.map((record) => ({ ...record, loss: null, grad_norm: Number.NaN })),
        evalRecords: run.evalRecords.map((record) => ({ ...record, eval_loss: null })),
        final: run.final && { ...run.final, eval_loss: null },
        best: null,
      })),
    ),
    "settings that are no numbers": fakeSweep(
      [["q_proj"], ["q_proj", "v_proj"]].map((modules, i) =>
        fakeRun(`run-${i}`, 3, {
          settings: { "lora.target_modules": modules, optim: "adamw", init: null, deep: { a: [1] } },
        }),
      ),
      ["lora.target_modules", "optim", "init", "deep"],
    ),
    "no evaluation": {
      ...fakeSweep(grid.runs.map((run) => ({ ...run, evalRecords: [], final: null, best: null }))),
      metric: { name: "loss", isLowerBetter: true },
    },
    "another metric": { ...grid, metric: { name: "eval_rewards/margins", isLowerBetter: false } },
  };

  describe("of a sweep", () => {
    it.each(Object.keys(SWEEPS))("of %s is without faults", async (name) => {
      const { page } = await open(renderSweepPage(SWEEPS[name]!));
      expect(await page.locator("tbody tr").count()).toBeGreaterThanOrEqual(SWEEPS[name]!.runs.length);
      const text = await page.locator("main").textContent();
      expect(text).not.toMatch(/undefined|NaN|\[object/);
    });

    it("draws the points of all runs, in the view that is chosen, and hides a run in all of them", async () => {
      const { page, faults } = await open(renderSweepPage(grid));
      const run = grid.runs[1]!;
      const [steps, ...lines] = await plotted(page, "curves");
      expect(steps).toEqual([10, 20, 30, 40]);
      expect(lines).toHaveLength(10);
      expect(lines[1]).toEqual(run.evalRecords.map((record) => Number(record.eval_loss!.toPrecision(7))));
      expect(lines[0], "a run that was stopped").toEqual([
        expect.any(Number),
        expect.any(Number),
        undefined,
        undefined,
      ]);

      await page.getByRole("button", { name: run.name }).click();
      await page.locator("#curves select").selectOption({ label: "training loss" });
      const training = await plotted(page, "curves");
      expect(training[2]).toEqual(run.trainRecords.map((record) => Number(record.loss!.toPrecision(7))));
      const shown = () =>
        page.evaluate(() =>
          dpoTrainPage.charts
            .get("curves")!
            .plot()
            .series.slice(1)
            .map((line) => line.show),
        );
      expect(await shown()).toEqual([true, false, ...Array(8).fill(true)]);
      expect(await page.getByRole("button", { name: run.name }).getAttribute("aria-pressed")).toBe("false");
      await page.getByRole("button", { name: "Hide all" }).click();
      expect(await shown()).toEqual(Array(10).fill(false));
      await page.getByRole("button", { name: "Show all" }).click();
      expect(await shown()).toEqual(Array(10).fill(true));
      expect(faults).toEqual([]);
    });

    it("shows the values at the pointer, and the last ones without it", async () => {
      const { page } = await open(renderSweepPage(grid));
      const value = page.getByRole("button", { name: grid.runs[1]!.name }).locator(".value");
      const last = grid.runs[1]!.evalRecords.at(-1)!.eval_loss!.toPrecision(4);
      expect(await value.textContent()).toBe(last);
      const plot = page.locator("#curves .u-over");
      await plot.scrollIntoViewIfNeeded();
      const box = (await plot.boundingBox())!;
      await page.mouse.move(box.x + 3, box.y + box.height / 2);
      await expect.poll(() => value.textContent()).toBe(grid.runs[1]!.evalRecords[0]!.eval_loss!.toPrecision(4));
      await page.mouse.move(2, 2);
      await expect.poll(() => value.textContent()).toBe(last);
    });

    it("sorts its table by numbers, names and what is missing, and marks the best run", async () => {
      const { page } = await open(renderSweepPage(grid));
      const columnOf = (title: string) =>
        page.evaluate((head) => {
          const table = document.querySelector<HTMLTableElement>("table.sortable")!;
          const column = [...table.tHead!.rows[0]!.cells].findIndex((cell) => cell.textContent.startsWith(head));
          return [...table.tBodies[0]!.rows].map((row) => row.cells[column]!.textContent);
        }, title);
      const final = page.getByRole("button", { name: "final evaluation loss" });
      await final.click();
      const losses = (await columnOf("final")).map(Number);
      expect(losses.slice(0, 10)).toEqual([...losses.slice(0, 10)].sort((a, b) => a - b));
      expect(losses.slice(10)).toEqual([Number.NaN, Number.NaN]);
      expect(await page.locator("th[aria-sort]").getAttribute("aria-sort")).toBe("ascending");
      await final.click();
      const falling = (await columnOf("final")).map(Number);
      expect(falling.slice(0, 10)).toEqual(losses.slice(0, 10).reverse());
      expect(falling.slice(10)).toEqual([Number.NaN, Number.NaN]);
      await page.getByRole("button", { name: "learning_rate" }).click();
      expect((await columnOf("learning_rate")).slice(0, 4)).toEqual(["1e-6", "1e-6", "1e-6", "1e-5"]);
      const marked = page.locator("tr.marked");
      expect(await marked.count()).toBe(1);
      expect(await marked.textContent()).toContain("★ best");
      expect(await marked.locator("td").nth(4).textContent()).toBe(Math.min(...losses.slice(0, 10)).toPrecision(4));
    });

    it("says where losses are not on one scale", async () => {
      const note = "Losses of runs with different beta are not on one scale";
      expect(renderSweepPage(grid)).toContain(note);
      expect(renderSweepPage({ ...grid, keys: ["learning_rate"] })).not.toContain(note);
      expect(renderSweepPage(SWEEPS["another metric"]!)).not.toContain(note);
    });

    it("shows why runs ended early", async () => {
      const { page } = await open(renderSweepPage(grid));
      expect(await page.locator(".warning").allInnerTexts()).toEqual([
        expect.stringContaining(grid.runs[0]!.reason!),
        expect.stringContaining(grid.runs[11]!.reason!),
      ]);
    });

    it("holds 200 runs", async () => {
      const runs = Array.from({ length: 200 }, (_, i) =>
        fakeRun(`run-${i}`, 1 + (i % 7), { settings: { beta: 0.1 + i / 1000, learning_rate: 1e-6 * 1.03 ** i } }, 400),
      );
      const text = renderSweepPage(fakeSweep(runs));
      expect(text.length).toBeLessThan(10e6);
      const { page } = await open(text);
      expect(await page.locator("table.sortable tbody tr").count()).toBe(200);
      expect(await plotted(page, "curves")).toHaveLength(201);
      expect(await page.locator("#curves .legend-item").count()).toBe(200);
    });
  });

  describe("of a run", () => {
    it("draw every record of the file", async () => {
      const { page } = await open(await report());
      const run = readRun(fakeRun("", 3).trainRecords, { evaluation: fakeRun("", 3).evalRecords });
      const [steps, training, evaluation] = await plotted(page, "chart-loss");
      expect(steps).toEqual(run.train.map(({ step }) => step));
      expect(training).toEqual(run.train.map((record) => Number(record.loss!.toPrecision(7))));
      expect(evaluation?.filter((value) => value !== undefined)).toEqual(
        run.evaluation.map((record) => Number(record.eval_loss!.toPrecision(7))),
      );
      const titles = await page.locator("figure h3").allInnerTexts();
      expect(titles).toEqual([
        "Loss",
        "Rewards",
        "Margin",
        "Accuracy",
        "KL divergence from the reference",
        "Gradient norm",
      ]);
      expect(await page.locator(".plot").first().getAttribute("aria-label")).toMatch(
        /^Line chart of Loss up to step 40: training ends at 0\.\d{4}, evaluation ends at 0\.\d{4}\.$/,
      );
    });

    it("draw speed and memory, and tell of a run that goes on how long it still takes", async () => {
      const performance = [1, 2, 3, 4].map((step) => ({
        step,
        elapsed_s: 30 * step,
        tokens_per_second: 1000 + step,
        gpu_memory_gb: 22.5,
        host_memory_gb: 1.25,
      }));
      const text = performance.map((record) => `${JSON.stringify(record)}\n`).join("");
      const running = JSON.stringify({ ...RUN, status: "running" });
      const { page } = await open(await report({ "performance.jsonl": text, "run.json": running }));
      expect(await plotted(page, "chart-throughput")).toEqual([
        [1, 2, 3, 4],
        [1001, 1002, 1003, 1004],
      ]);
      const axis = await page.evaluate(() => dpoTrainPage.charts.get("chart-throughput")!.plot().scales.y!.min);
      expect(axis).toBe(0);
      expect((await plotted(page, "chart-memory")).slice(1)).toEqual([Array(4).fill(22.5), Array(4).fill(1.25)]);
      expect(await page.locator(".cards").textContent()).toContain("training left18:00"); // 36 steps of half a minute.
      expect(await report({ "performance.jsonl": text })).not.toContain("training left");
    });

    it("show samples beside each other, fidelity, data, device and config", async () => {
      const { page } = await open(await report());
      const text = await page.locator("main").textContent();
      for (const part of [
        "What is a preference?",
        "A first answer.",
        "A better answer.",
        "0.9700",
        "98 kept",
        "a GPU",
        "learning_rate: 5.0e-6",
        "10.70",
        "1.90 GB",
      ]) {
        expect(text).toContain(part);
      }
      const [before, after] = await page.locator(".answers .answer").all();
      expect((await before!.boundingBox())!.y).toBe((await after!.boundingBox())!.y);
    });

    it("take new records", async () => {
      const { page, faults } = await open(await report({ "metrics.jsonl": metricsText(3, 20) }));
      await page.evaluate(() => {
        dpoTrainPage.receive([{ step: 21, loss: 0.25, grad_norm: null }]);
        dpoTrainPage.receive([
          { step: 22, loss: 0.2 },
          { step: 22, eval_loss: 0.3 },
        ]);
      });
      await expect.poll(async () => (await plotted(page, "chart-loss"))[0]?.at(-1)).toBe(22);
      const [, training, evaluation] = await plotted(page, "chart-loss");
      expect(training?.slice(-2)).toEqual([0.25, 0.2]);
      expect(evaluation?.at(-1)).toBe(0.3);
      expect((await plotted(page, "chart-grad-norm"))[1]?.at(-1)).toBeNull();
      expect(await page.locator("#chart-loss .value").allInnerTexts()).toEqual(["0.2000", "0.3000"]);
      // Who looks at a part goes on looking at it.
      const shown = () =>
        page.evaluate(() => {
          const { min, max } = dpoTrainPage.charts.get("chart-loss")!.plot().scales.x!;
          return [min, max];
        });
      expect(await shown()).toEqual([1, 22]);
      await page.evaluate(() => {
        dpoTrainPage.charts.get("chart-loss")!.plot().setScale("x", { min: 5, max: 10 });
        dpoTrainPage.receive([{ step: 23, loss: 0.1 }]);
      });
      await expect.poll(async () => (await plotted(page, "chart-loss"))[0]?.at(-1)).toBe(23);
      expect(await shown()).toEqual([5, 10]);
      await page.evaluate(() => dpoTrainPage.receive([{ step: 5, loss: 0.6 }]));
      await expect
        .poll(async () => (await plotted(page, "chart-loss"))[1]?.filter((value) => value !== undefined).length)
        .toBe(5);
      expect(faults).toEqual([]);
    });

    it.each([
      [[Number.MAX_VALUE, -Number.MAX_VALUE]],
      [[5e-324, 0]],
      [[5e-324]],
      [[3.4e38]],
      [[1e16, 1e16 + 2]],
      [[0.1, 0.1 + 1e-17]],
    ])("draw values as far out as %j", async (values) => {
      const { page } = await open(renderReport(readRun(values.map((loss, i) => ({ step: i, loss })))));
      expect((await plotted(page, "chart-loss"))[1]).toEqual(values.map((value) => Number(value.toPrecision(7))));
    });

    it("draw steps as far out as there are numbers", async () => {
      const train = [0, 1, 2 ** 31, Number.MAX_SAFE_INTEGER].map((step) => ({ step, loss: 1 }));
      const { page } = await open(renderReport(readRun(train)));
      expect((await plotted(page, "chart-loss"))[0]).toEqual(train.map(({ step }) => step));
    });

    it("smooth training and leave evaluation", async () => {
      const { page, faults } = await open(await report());
      const [, training, evaluation] = await plotted(page, "chart-loss");
      await page.getByLabel("Smoothing of training").fill("0.9");
      const [, smoothed, same] = await plotted(page, "chart-loss");
      expect(smoothed).toEqual(smooth(training as number[], 0.9));
      expect(same).toEqual(evaluation);
      expect(faults).toEqual([]);
    });

    it("hold three lines of 100,000 points", async () => {
      const count = 100_000;
      const train = Array.from({ length: count }, (_, i) => ({
        step: i + 1,
        loss: 0.5 + 0.1 * Math.sin(i / 1000),
        "rewards/chosen": i / count,
        "rewards/rejected": -i / count,
      }));
      const { page, faults } = await open(renderReport(readRun(train)));
      const lengths = (id: string) =>
        page.evaluate((chart) => [...dpoTrainPage.charts.get(chart)!.plot().data].map((values) => values.length), id);
      expect(await lengths("chart-loss")).toEqual([count, count]);
      expect(await lengths("chart-rewards")).toEqual([count, count, count]);
      await page.getByRole("button", { name: "chosen, training" }).click();
      await page.evaluate(() => dpoTrainPage.receive([{ step: 100_001, loss: 0.1 }]));
      await expect.poll(() => lengths("chart-loss")).toEqual([count + 1, count + 1]);
      expect(faults).toEqual([]);
    });
  });

  const PAGES: Readonly<Record<string, () => string | Promise<string>>> = {
    sweep: () => renderSweepPage(grid),
    report,
    comparison,
  };

  describe.each(Object.keys(PAGES))("the %s page", (name) => {
    it.each(["light", "dark"] as const)("has no serious fault that axe finds in %s", async (colorScheme) => {
      const { page } = await open(await PAGES[name]!(), { colorScheme });
      expect(await accessibilityFaults(page)).toEqual([]);
    });

    it("scrolls on a phone in one direction alone", async () => {
      const { page } = await open(await PAGES[name]!(), { viewport: { width: 360, height: 740 }, hasTouch: true });
      const widths = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      expect(widths[0]).toBe(widths[1]);
      const plot = (await page.locator(".plot canvas").first().boundingBox())!;
      expect(plot.x + plot.width).toBeLessThanOrEqual(360);
    });

    it("follows the scheme, and the width of the window", async () => {
      const { page, faults } = await open(await PAGES[name]!(), { colorScheme: "light" });
      const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const light = await background();
      await page.emulateMedia({ colorScheme: "dark" });
      expect(await background()).not.toBe(light);
      await page.setViewportSize({ width: 500, height: 800 });
      const width = () => page.evaluate(() => [...dpoTrainPage.charts.values()][0]!.plot().width);
      await expect.poll(width).toBeLessThan(500);
      expect(faults).toEqual([]);
    });
  });

  describe("hostile text", () => {
    async function requireInert(text: string): Promise<void> {
      const { page, faults } = await open(text);
      for (const element of await page.locator("[onclick], img, main script, main style").all()) {
        expect.fail(await element.evaluate((found) => found.outerHTML));
      }
      const shown = await page.locator("main").textContent();
      expect(shown).toContain("<script>alert(1)</script>");
      expect(shown).toContain("\\u202eevil\\u0000\\u001b[2J");
      expect(shown).not.toContain("\u202e");
      for (const button of await page.getByRole("button").all()) await button.click();
      expect(faults).toEqual([]);
    }

    it("in a sweep's names, settings and reasons stays text", async () => {
      const runs = [1, 2].map(
        (i): RunResult =>
          fakeRun(`${HOSTILE}${i}`, i, {
            settings: { [HOSTILE]: HOSTILE, beta: i, list: [HOSTILE, { [HOSTILE]: 1 }] },
            status: i === 1 ? "failed" : "done",
            reason: HOSTILE,
          }),
      );
      await requireInert(renderSweepPage({ ...fakeSweep(runs, [HOSTILE, "beta", "list"]), folder: HOSTILE }));
    });

    it("in a run's files stays text", async () => {
      const run = {
        ...RUN,
        status: "failed",
        error: HOSTILE,
        samples: { before: HOSTILE, after: HOSTILE },
        device: { name: HOSTILE },
        timings: { [HOSTILE]: 1 },
        merge: { fidelity: { dtype: HOSTILE, advice: HOSTILE, projections: { [HOSTILE]: { fidelity: 1 } } } },
        data: {
          train: {
            ...RUN.data.train,
            firstPair: { place: HOSTILE, prompt: HOSTILE, chosen: HOSTILE, rejected: HOSTILE },
          },
        },
      };
      const config = `${CONFIG.replace("user/model", "m")}"sample_prompt2": ${JSON.stringify(HOSTILE)}\n`;
      const files = { "run.json": JSON.stringify(run), "config.yaml": `# ${HOSTILE}\n${config}` };
      await requireInert(await report(files));
      const folders = [await runFolder(files), await runFolder({ ...files, "config.yaml": CONFIG })];
      await requireInert(renderComparison(await Promise.all(folders.map(readRunFiles)), () => null));
    });
  });

  it("run nothing by their policy that was not written into them", async () => {
    const injected = `<script>document.title = "ran"</script><img src="https://example.com/x.png"><p style="color: red" onclick="">`;
    const { page, faults } = await openPage(browser, (await report()).replace("</main>", `${injected}</main>`));
    const stopped = () => faults.flatMap((fault) => /policy: (.*)/.exec(fault)?.[1] ?? []).sort();
    await expect.poll(stopped).toEqual(["img-src", "script-src-attr", "script-src-elem", "style-src-attr"]);
    expect(await page.title()).toBe("one: dpo-train");
  });

  it("are the same from what npm ships", async () => {
    const folder = await runFolder();
    const script = `import { writeReport } from ${JSON.stringify(pathToFileURL(rootPath("dist/report/write-report.js")).href)};
      await writeReport(${JSON.stringify(folder)});`;
    execFileSync(process.execPath, ["--input-type=module", "--eval", script]);
    const { page } = await openPage(browser, "");
    const faults: string[] = [];
    page.on("console", (message) => faults.push(message.text()));
    page.on("pageerror", (error) => faults.push(error.message));
    await page.goto(pathToFileURL(join(folder, "report.html")).href);
    expect(await page.evaluate(() => [...dpoTrainPage.charts.keys()])).toContain("chart-loss");
    expect(faults).toEqual([]);
  });
});
