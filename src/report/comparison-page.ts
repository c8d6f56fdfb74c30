import type { RunResult, SweepResults } from "../sweep/results.ts";
import { formatSize } from "../text.ts";
import { leavesOf, numberAt, textAt } from "../train/json-tree.ts";
import { formatNumber, NO_NUMBER } from "./browser/numbers.ts";
import { renderCurves } from "./curves.ts";
import { findDataWarnings } from "./data-warnings.ts";
import { type Content, html } from "./html.ts";
import { renderAnswer } from "./run-facts.ts";
import type { RunFiles } from "./run-files.ts";
import { renderWarning } from "./run-page.ts";
import { lossMetric, resultOf } from "./run-summary.ts";
import { renderRunsTable } from "./runs-table.ts";
import { renderPage } from "./shell.ts";
import type { Column } from "./table.ts";
import { findWarnings } from "./warnings.ts";

/** Every run has its own. */
const OWN_SETTINGS = ["output_dir"];

/**
 * Runs that were started one by one, beside each other, with the settings that they differ in.
 *
 * @param hrefOf where a run's report is, from where the page will be
 */
export function renderComparison(
  runs: readonly RunFiles[],
  hrefOf: (run: RunFiles) => string | null,
  now = new Date(),
): string {
  const results = compare(runs);
  const filesOf = new Map(results.runs.map((result, i) => [result, runs[i]!]));
  const column = (title: string, format: (value: number) => string, ...keys: string[]): Column<RunResult> => {
    const shownValue = (result: RunResult) => numberAt(filesOf.get(result)?.run, ...keys);
    const cell = (result: RunResult) => {
      const value = shownValue(result);
      return value === null ? NO_NUMBER : format(value);
    };
    return { title, isNumeric: true, cell, sortBy: shownValue };
  };
  const curves = renderCurves(results);
  const body = html`<h1>${runs.length} runs compared</h1>
<p class="muted">${results.keys.length === 0 ? "Their settings are the same." : `They differ in ${results.keys.join(", ")}.`}</p>
<h2>Runs</h2>
${renderRunsTable(results, {
  hrefOf: (result) => hrefOf(filesOf.get(result)!),
  moreColumns: [
    column("pairs/s", formatNumber, "speed", "pairs_per_second"),
    column("peak memory", formatSize, "memory", "peak_bytes"),
  ],
})}
<h2>Learning curves</h2>
${curves?.markup ?? html`<p>No run has a record yet.</p>`}
<h2>Health</h2>
${results.runs.map((result) => renderHealth(result, filesOf.get(result)!))}
${renderAnswers(results, filesOf)}
`;
  return renderPage({ title: "Runs compared: dpo-train", body, now, ...(curves && { data: curves.data }) });
}

/** The runs as a sweep over the settings in which their configs differ. */
function compare(runs: readonly RunFiles[]): SweepResults {
  const settings = runs.map(({ config }) => Object.fromEntries(leavesOf(config)));
  const all = [...new Set(settings.flatMap(Object.keys))].filter((key) => !OWN_SETTINGS.includes(key));
  const keys = all.filter((key) => new Set(settings.map((values) => JSON.stringify(values[key]))).size > 1);
  const names = runs.map(({ name }) => name);
  return {
    folder: "",
    keys,
    metric: lossMetric(runs),
    runs: runs.map((files, i) => ({
      ...resultOf(files),
      // Folders of one name are told apart by where they are.
      name: names.filter((name) => name === files.name).length > 1 ? files.folder : files.name,
      settings: settings[i]!,
    })),
  };
}

function renderHealth(result: RunResult, files: RunFiles): Content {
  const warnings = [...findWarnings(files), ...findDataWarnings(files)];
  const reason =
    result.reason !== null && html`<div class="warning error"><p class="text">${result.reason}</p></div>\n`;
  const problems = files.problems.map((problem) => html`<div class="warning"><p>${problem}</p></div>\n`);
  const isClean = !reason && problems.length + warnings.length === 0;
  return html`<h3>${result.name}</h3>
${isClean ? html`<p>Nothing of what is looked for was found.</p>` : [reason, problems, warnings.map(renderWarning)]}`;
}

function renderAnswers({ runs }: SweepResults, filesOf: ReadonlyMap<RunResult, RunFiles>): Content {
  const answered = runs.flatMap((result) => {
    const files = filesOf.get(result)!;
    const after = textAt(files.run, "samples", "after");
    const prompt = textAt(files.config, "sample_prompt") ?? "";
    return after === null ? [] : [{ name: result.name, prompt, after, before: textAt(files.run, "samples", "before") }];
  });
  const prompts = [...new Set(answered.map(({ prompt }) => prompt))];
  if (answered.length === 0) return null;
  return html`<h2>Sample answers</h2>
${prompts.map((asked) => {
  const group = answered.filter(({ prompt }) => prompt === asked);
  const befores = [...new Set(group.flatMap(({ before }) => before ?? []))];
  return html`<p class="text" dir="auto">${asked}</p>
<div class="answers">${befores.map((before) => renderAnswer("Before training", before))}${group.map(({ name, after }) => renderAnswer(name, after))}</div>`;
})}`;
}
