import { bestRun } from "../sweep/read-results.ts";
import type { RunResult, SweepResults } from "../sweep/results.ts";
import { formatDuration } from "../train/progress.ts";
import { EVAL_PREFIX } from "../train/records.ts";
import { formatNumber, formatShortly, NO_NUMBER } from "./browser/numbers.ts";
import { type Content, type Html, html } from "./html.ts";
import { finite } from "./lines.ts";
import { incomparableSettings } from "./loss-scale.ts";
import { metricLabel } from "./metric-names.ts";
import { scoreOf } from "./run-scores.ts";
import { type Column, renderTable } from "./table.ts";

export interface RunsTableOptions {
  /** Where a run has a page of its own; null for none. */
  readonly hrefOf: (run: RunResult) => string | null;
  readonly moreColumns?: readonly Column<RunResult>[];
}

/** The runs beside each other: settings, state, and what they came to. The best one is marked. */
export function renderRunsTable(results: SweepResults, { hrefOf, moreColumns = [] }: RunsTableOptions): Html {
  const { keys, metric } = results;
  const best = bestRun(results);
  const name = (run: RunResult): Content => {
    const href = hrefOf(run);
    return [
      href === null ? breakable(run.name) : html`<a href="${href}">${breakable(run.name)}</a>`,
      run === best && html` <span class="best">★ best</span>`,
    ];
  };
  const table = renderTable<RunResult>({
    caption: "Runs",
    rows: results.runs,
    isMarked: (run) => run === best,
    columns: [
      { title: "run", cell: name, sortBy: (run) => run.name },
      ...keys.map((key) => settingColumn(key, results)),
      { title: "status", cell: (run) => renderStatus(run.status), sortBy: (run) => run.status },
      { title: "steps", isNumeric: true, cell: formatSteps, sortBy: (run) => run.steps },
      finalColumn(`final ${metricLabel(metric.name)}`, metric.name, results),
      bestColumn(results),
      ...otherMetrics(results).map((key) => finalColumn(metricLabel(key), key, results)),
      { title: "time", isNumeric: true, cell: formatTime, sortBy: (run) => run.seconds },
      ...moreColumns,
    ],
  });
  const scales = incomparableSettings(results).join(" and ");
  const note = html`<p class="muted">Losses of runs with different ${scales} are not on one scale: accuracies compare what the runs have learnt.</p>`;
  return html`${table}${scales !== "" && note}`;
}

/** A name that may go on in the next line behind its commas and slashes. */
function breakable(name: string): Content {
  return name.split(/(?<=[,/])/).map((part) => [part, html`<wbr>`]);
}

/** What else is shown of a run's last record: the KL divergence on the chosen answers if it was measured, else on all. */
function otherMetrics(results: SweepResults): string[] {
  const prefix = results.metric.name.startsWith(EVAL_PREFIX) ? EVAL_PREFIX : "";
  const divergence = [`${prefix}kl/chosen`, `${prefix}kl`].find((key) =>
    results.runs.some((run) => finite(scoreOf(run, results.metric).final?.[key]) !== null),
  );
  const names = ["loss", "rewards/margins", "rewards/accuracies"].map((key) => prefix + key);
  return [...names, ...(divergence === undefined ? [] : [divergence])].filter((key) => key !== results.metric.name);
}

function finalColumn(title: string, key: string, { metric }: SweepResults): Column<RunResult> {
  const value = (run: RunResult) => finite(scoreOf(run, metric).final?.[key]);
  return { title, isNumeric: true, cell: (run) => formatNumber(value(run)), sortBy: value };
}

function bestColumn({ metric }: SweepResults): Column<RunResult> {
  const value = (run: RunResult) => finite(scoreOf(run, metric).best?.[metric.name]);
  return {
    title: `best ${metricLabel(metric.name)}`,
    isNumeric: true,
    cell: (run) => {
      const { best } = scoreOf(run, metric);
      return [formatNumber(value(run)), best && html` <span class="muted">at ${best.step}</span>`];
    },
    sortBy: value,
  };
}

function settingColumn(key: string, { runs }: SweepResults): Column<RunResult> {
  const isNumeric = runs.every(({ settings }) => settings[key] === undefined || typeof settings[key] === "number");
  return {
    title: key,
    isNumeric,
    cell: ({ settings }) => formatSetting(settings[key]),
    sortBy: ({ settings }) => {
      const value = settings[key];
      if (value === undefined) return null;
      return typeof value === "number" ? value : formatSetting(value);
    },
  };
}

/** A value of a config in a line: a number as it is written, a list with commas. */
export function formatSetting(value: unknown): string {
  if (value === undefined) return NO_NUMBER;
  if (typeof value === "string") return value;
  if (typeof value === "number") return formatShortly(value);
  if (Array.isArray(value)) return value.map(formatSetting).join(", ");
  return JSON.stringify(value);
}

export function renderStatus(status: RunResult["status"]): Html {
  return html`<span class="status ${status}">${status}</span>`;
}

/** `12 / 16` */
export function formatSteps({ steps, totalSteps }: RunResult): string {
  return totalSteps === null ? String(steps) : `${steps} / ${totalSteps}`;
}

function formatTime({ seconds }: RunResult): string {
  return seconds === null ? NO_NUMBER : formatDuration(1000 * seconds);
}
