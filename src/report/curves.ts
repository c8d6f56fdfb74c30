import { bestRun } from "../sweep/read-results.ts";
import type { SweepResults } from "../sweep/results.ts";
import { printable } from "../text.ts";
import { EVAL_PREFIX } from "../train/records.ts";
import { renderFigure, renderSmoothing } from "./figures.ts";
import { type Html, html } from "./html.ts";
import { collectLines } from "./lines.ts";
import { isShare, metricLabel, SHARE_RANGE } from "./metric-names.ts";
import type { PageData, ViewData } from "./page-data.ts";

/** What the curves can be of, behind the sweep's own metric. */
const CURVE_KEYS = [
  "eval_loss",
  "loss",
  "eval_rewards/margins",
  "rewards/margins",
  "eval_rewards/accuracies",
  "rewards/accuracies",
  "eval_kl/chosen",
  "eval_kl",
  "kl",
  "eval_rewards/chosen",
  "rewards/chosen",
  "grad_norm",
];
/** Values in a page. At about ten bytes each it stays a file that opens at once. */
const MAX_VALUES = 600_000;
const LEAST_POINTS = 100;

export interface Curves {
  readonly markup: Html;
  readonly data: PageData;
}

/** The learning curves of all runs in one chart, the best run's bold; null where no run has a record. */
export function renderCurves(results: SweepResults): Curves | null {
  const { runs, metric } = results;
  const keys = [...new Set([metric.name, ...CURVE_KEYS])];
  const maxPoints = Math.max(LEAST_POINTS, Math.floor(MAX_VALUES / Math.max(1, runs.length * keys.length)));
  const lines = collectLines(maxPoints);
  const best = bestRun(results);
  const views = keys.flatMap((key): ViewData[] => {
    const found = runs.flatMap((run, number) => {
      const records = key.startsWith(EVAL_PREFIX) ? run.evalRecords : run.trainRecords;
      const series = lines.add(number, records, key);
      return series === null
        ? []
        : [{ series, label: printable(run.name), color: number, isDashed: false, isBold: run === best }];
    });
    if (found.length === 0) return [];
    return [{ label: metricLabel(key), lines: found, ...(isShare(key) ? { range: SHARE_RANGE } : {}) }];
  });
  if (views.length === 0) return null;
  const chart = { id: "curves", views };
  const figure = renderFigure(chart, {
    title: "All runs",
    reading: "Click a name to hide or show its run; drag across the chart to look closer, double-click to come back.",
    isTall: true,
  });
  const note =
    lines.isThinned() &&
    html`<p class="muted">Of long curves ${maxPoints} points are drawn, highs and lows among them.</p>`;
  return { markup: html`${renderSmoothing()}${figure}${note}`, data: lines.page([chart]) };
}
