import { bestRun } from "../sweep/read-results.ts";
import type { RunResult, SweepResults } from "../sweep/results.ts";
import { REPORT_FILE } from "../train/run-folder.ts";
import { formatNumber } from "./browser/numbers.ts";
import { renderCards } from "./cards.ts";
import { renderCurves } from "./curves.ts";
import { heatMapOf, renderHeatMap } from "./heat-map.ts";
import { type Content, type Html, html } from "./html.ts";
import { finite } from "./lines.ts";
import { metricLabel } from "./metric-names.ts";
import { scoreOf } from "./run-scores.ts";
import { formatSetting, renderRunsTable, renderStatus } from "./runs-table.ts";
import { type Page, renderPage } from "./shell.ts";

/**
 * sweep.html: the runs of a sweep beside each other, in one file that needs no network.
 *
 * @param now when the results were read, as the page tells
 */
export function renderSweepPage(results: SweepResults, now = new Date()): string {
  return renderPage({ ...sweepPage(results, reportOf), now });
}

/**
 * The same without the document around it.
 *
 * @param hrefOf where a run has a page of its own; null for none
 */
export function sweepPage(results: SweepResults, hrefOf: (run: RunResult) => string | null): Page {
  const { folder, keys, metric, runs } = results;
  const heatMap = heatMapOf(results);
  const curves = renderCurves(results);
  const settings = keys.length === 0 ? "no setting" : keys.join(", ");
  const body = html`<h1>Sweep of ${settings}</h1>
<p class="muted">${folder}</p>
${renderSweepCards(results)}
<h2>Runs</h2>
${renderRunsTable(results, { hrefOf })}
${renderEnds(runs)}
<h2>Learning curves</h2>
${curves?.markup ?? html`<p>No run has a record yet.</p>`}
<h2>Heat map</h2>
${
  heatMap
    ? html`<p class="reading">Last ${metricLabel(metric.name)} of each run; darker is better, in the order of the values.</p>
${renderHeatMap(heatMap, metric.name)}`
    : html`<p class="muted">A heat map needs two swept settings that are numbers, each with several values, and runs with results.</p>`
}
`;
  return { title: `Sweep of ${settings}`, body, ...(curves && { data: curves.data }) };
}

function renderSweepCards(results: SweepResults): Html {
  const { runs, metric, keys } = results;
  const best = bestRun(results);
  const value = best && finite(scoreOf(best, metric).final?.[metric.name]);
  const settings = best && keys.map((key) => `${key} ${formatSetting(best.settings[key])}`).join(", ");
  const states = [...new Set(runs.map(({ status }) => status))].map(
    (status) => html`<small>${runs.filter((run) => run.status === status).length} ${status}</small>`,
  );
  return renderCards([
    { name: "runs", content: [runs.length, states] },
    {
      name: "best run",
      content: best ? [best.name, html`<small>${settings}</small>`] : "none yet",
      isWide: best !== null,
    },
    best && { name: `its ${metricLabel(metric.name)}`, content: formatNumber(value) },
  ]);
}

/** Why runs ended early. */
function renderEnds(runs: readonly RunResult[]): Content {
  const ended = runs.filter(({ reason }) => reason !== null);
  if (ended.length === 0) return null;
  return html`<h2>Ended early</h2>
${ended.map(({ name, status, reason }) => html`<div class="warning${status === "failed" && " error"}"><strong>${name}</strong> ${renderStatus(status)}<p class="text">${reason}</p></div>\n`)}`;
}

/** The run's own page in its folder, which is written when the run has ended. */
function reportOf({ name, status }: RunResult): string | null {
  return status === "done" ? `./${encodeURIComponent(name.replace(/\p{Surrogate}/gu, "\ufffd"))}/${REPORT_FILE}` : null;
}
