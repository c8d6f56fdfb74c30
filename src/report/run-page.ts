import type { RunResult } from "../sweep/results.ts";
import { formatSize } from "../text.ts";
import { numberAt, textAt } from "../train/json-tree.ts";
import { formatDuration } from "../train/progress.ts";
import { EVAL_PREFIX } from "../train/records.ts";
import { formatNumber } from "./browser/numbers.ts";
import { type Card, renderCards } from "./cards.ts";
import { findDataWarnings } from "./data-warnings.ts";
import { type Content, type Html, html } from "./html.ts";
import { finite } from "./lines.ts";
import { metricLabel } from "./metric-names.ts";
import { renderRunCharts } from "./run-charts.ts";
import { renderFidelity, renderMachine, renderPreflight, renderSamples } from "./run-facts.ts";
import type { RunFiles } from "./run-files.ts";
import { scoreOf } from "./run-scores.ts";
import { lossMetric, resultOf } from "./run-summary.ts";
import { formatSteps, renderStatus } from "./runs-table.ts";
import { type Page, renderPage } from "./shell.ts";
import { findWarnings, type Warning } from "./warnings.ts";

/**
 * report.html: a run's curves, what they say of its health, what it answers, and on what it was made, in one file that
 * needs no network. Of a run that goes on it shows what there is.
 *
 * @param now when the files were read, as the page tells
 */
export function renderReport(run: RunFiles, now = new Date()): string {
  return renderPage({ ...reportPage(run), now });
}

/** The same without the document around it. */
export function reportPage(run: RunFiles): Page {
  const charts = renderRunCharts(run);
  const { status, reason } = resultOf(run);
  const [model, dataset] = [textAt(run.config, "model"), textAt(run.config, "dataset")];
  const body = html`<h1>${run.name} ${renderStatus(status)}</h1>
<p class="muted">${[model, dataset].filter((name) => name !== null).join(" on ")}</p>
${reason !== null && html`<div class="warning error"><p class="text">${reason}</p></div>`}
${run.problems.map((problem) => html`<div class="warning"><p>${problem}</p></div>\n`)}
${renderRunCards(run)}
${renderWarnings([...findWarnings(run), ...findDataWarnings(run)])}
<h2>Curves</h2>
${charts.data.charts.length === 0 ? html`<p>The run has no record yet.</p>` : charts.markup}
${renderSamples(run)}
${renderFidelity(run)}
${renderPreflight(run)}
${renderMachine(run)}
${run.configText !== "" && html`<h2>Config</h2>\n<pre class="code">${run.configText}</pre>`}
`;
  return { title: `${run.name}: dpo-train`, body, data: charts.data };
}

function renderRunCards(files: RunFiles): Html {
  const { run } = files;
  const result = resultOf(files);
  const metric = lossMetric([files]);
  const { final, best } = scoreOf(result, metric);
  const prefix = metric.name.startsWith(EVAL_PREFIX) ? EVAL_PREFIX : "";
  const card = (key: string, note: Content = null): Card | null => {
    const value = finite(final?.[key]);
    return value === null ? null : { name: metricLabel(key), content: [formatNumber(value), note] };
  };
  const bestNote =
    best && best !== final && html`<small>best ${formatNumber(finite(best[metric.name]))} at step ${best.step}</small>`;
  const pairs = numberAt(run, "speed", "pairs_per_second");
  const tokens = numberAt(run, "speed", "tokens_per_second");
  const peak = numberAt(run, "memory", "peak_bytes");
  return renderCards([
    card(metric.name, bestNote),
    card(`${prefix}rewards/margins`),
    card(`${prefix}rewards/accuracies`),
    card(`${prefix}kl/chosen`) ?? card(`${prefix}kl`),
    { name: "steps", content: formatSteps(result) },
    result.seconds === null ? null : { name: "time", content: formatDuration(1000 * result.seconds) },
    pairs === null
      ? null
      : {
          name: "pairs/s",
          content: [formatNumber(pairs), tokens !== null && html`<small>${formatNumber(tokens)} tokens/s</small>`],
        },
    renderTimeLeft(files, result),
    peak === null || peak === 0 ? null : { name: "peak memory", content: formatSize(peak) },
  ]);
}

/** What is left to train of a run that goes on, at the pace that it has had. */
function renderTimeLeft({ performance }: RunFiles, { status, totalSteps }: RunResult): Card | null {
  const last = performance.at(-1);
  const seconds = finite(last?.elapsed_s);
  if (!last || last.step === 0 || seconds === null || status !== "running" || totalSteps === null) return null;
  const left = (seconds / last.step) * (totalSteps - last.step);
  return { name: "training left", content: formatDuration(1000 * left) };
}

/** What to look at, and what to try. */
export function renderWarnings(warnings: readonly Warning[]): Html {
  if (warnings.length === 0) {
    return html`<h2>Health</h2>\n<p>Nothing of what is looked for was found: each curve says how a healthy one looks.</p>`;
  }
  return html`<h2>Health</h2>\n${warnings.map(renderWarning)}`;
}

export function renderWarning({ title, found, advice }: Warning): Html {
  return html`<div class="warning"><h3>${title}</h3>${found !== "" && html`<p>${found}</p>`}<p>${advice}</p></div>\n`;
}
