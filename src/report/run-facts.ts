import { formatCount, formatSize } from "../text.ts";
import { isTree, numberAt, type Tree, textAt, valueAt } from "../train/json-tree.ts";
import { formatDuration } from "../train/progress.ts";
import { formatNumber } from "./browser/numbers.ts";
import { type Content, type Html, html } from "./html.ts";
import { formatPercent } from "./percent.ts";
import type { RunFiles } from "./run-files.ts";
import { phasesOf } from "./run-summary.ts";
import { renderFacts, renderTable } from "./table.ts";

type Run = Pick<RunFiles, "run">;

/** `sample_prompt`'s answers, side by side; null where the run was not asked to answer. */
export function renderSamples({ run, config }: RunFiles): Content {
  const prompt = textAt(config, "sample_prompt");
  const answers = [
    ["Before training", textAt(run, "samples", "before")],
    ["After training", textAt(run, "samples", "after")],
  ] as const;
  if (answers.every(([, text]) => text === null)) return null;
  return html`<h2>Sample answers</h2>
${prompt !== null && html`<p class="text" dir="auto">${prompt}</p>`}
<div class="answers">${answers.map(([title, text]) => renderAnswer(title, text))}</div>`;
}

/** An answer of a model under its title. */
export function renderAnswer(title: string, text: string | null): Html {
  const shown = text === null ? html`<p class="muted">none</p>` : html`<p class="text" dir="auto">${text}</p>`;
  return html`<div class="answer"><h3>${title}</h3>${shown}</div>\n`;
}

/** How much of the update the merged model holds, by projection. */
export function renderFidelity({ run }: Run): Content {
  const report = valueAt(run, "merge", "fidelity");
  const projections = valueAt(report, "projections");
  if (!isTree(projections)) return null;
  const rows: [string, unknown][] = [...Object.entries(projections), ["all", valueAt(report, "overall")]];
  const column = (title: string, ...keys: string[]) => ({
    title,
    isNumeric: true,
    cell: ([, module]: [string, unknown]) => formatNumber(numberAt(module, ...keys)),
  });
  const hasFloat16 = rows.some(([, module]) => numberAt(module, "float16", "fidelity") !== null);
  return html`<h2>Merge fidelity</h2>
<p class="reading">How much of what was learnt is still there in the merged weights, rounded to ${textAt(report, "dtype") ?? "their dtype"}: fidelity 1 is all of it, 0 is none; below 0.75 export in another dtype, or keep the adapter apart.</p>
${renderTable({
  caption: "Merge fidelity",
  rows,
  columns: [
    { title: "projection", cell: ([name]) => name },
    column("fidelity", "fidelity"),
    column("kept along the update", "kept"),
    column("error", "error"),
    column("size of the update", "update_norm"),
    ...(hasFloat16 ? [column("fidelity in float16", "float16", "fidelity")] : []),
  ],
})}`;
}

/** What was found in the data before training. */
export function renderPreflight({ run }: Run): Content {
  const sets = (["train", "evaluation"] as const).flatMap((name) => {
    const found = valueAt(run, "data", name);
    return isTree(found) ? [{ name, found }] : [];
  });
  if (sets.length === 0) return null;
  return html`<h2>Data</h2>\n${sets.map(({ name, found }) => renderDataSet(name, found))}`;
}

const LENGTH_COLUMNS = ["min", "median", "p90", "p99", "max", "total"] as const;

function renderDataSet(name: string, found: Tree): Html {
  const rows = (key: string) => numberAt(found, "rows", key);
  const finding = (...keys: string[]): Content => {
    const count = numberAt(found, ...keys, "rows");
    if (count === null) return null;
    return count === 0 ? "none" : `${count}, first ${textAt(found, ...keys, "first") ?? "unknown"}`;
  };
  const tokenCheck = (key: string): Content => {
    const [missing, repeated] = [numberAt(found, key, "missing", "rows"), numberAt(found, key, "repeated", "rows")];
    if (missing === null || repeated === null) return null;
    return missing + repeated === 0 ? "in every row" : `missing in ${missing} rows, repeated in ${repeated}`;
  };
  const [chosenCut, rejectedCut] = [numberAt(found, "cut", "chosen"), numberAt(found, "cut", "rejected")];
  const longer = numberAt(found, "chosenLongerShare");
  const lengths = valueAt(found, "lengths");
  return html`<h3>${name === "train" ? "Training" : "Evaluation"}</h3>
${renderFacts([
  ["rows", rows("read") === null ? null : `${rows("read")} read, ${rows("kept")} kept, ${rows("dropped")} dropped`],
  [
    "answers cut",
    chosenCut === null || rejectedCut === null
      ? null
      : `${chosenCut} chosen, ${rejectedCut} rejected (max_length ${numberAt(found, "maxLength") ?? "unknown"})`,
  ],
  ["chosen = rejected", finding("equalAnswers")],
  ["duplicate pairs", finding("duplicatePairs")],
  ["empty answers", finding("emptyAnswers")],
  ["merged at boundary", finding("mergesAcrossBoundary")],
  ["BOS exactly once", tokenCheck("bos")],
  ["EOS exactly once", tokenCheck("eos")],
  ["chosen longer", longer === null ? null : `in ${formatPercent(longer)} of the pairs`],
])}
${
  isTree(lengths) &&
  renderTable({
    caption: `Lengths of the ${name} rows in tokens`,
    rows: Object.entries(lengths),
    columns: [
      { title: "tokens", cell: ([part]) => part },
      ...LENGTH_COLUMNS.map((title) => ({
        title,
        isNumeric: true,
        cell: ([, length]: [string, unknown]) => numberAt(length, title),
      })),
    ],
  })
}
${renderFirstPair(found)}`;
}

function renderFirstPair(found: Tree): Content {
  const parts = ["prompt", "chosen", "rejected"].map((part) => [part, textAt(found, "firstPair", part)] as const);
  if (parts.some(([, text]) => text === null)) return null;
  return html`<details><summary>First pair, ${textAt(found, "firstPair", "place")}</summary>
${parts.map(([part, text]) => renderAnswer(part, text))}</details>`;
}

const PHASES: Readonly<Record<string, string>> = {
  load_s: "loading the model",
  tune_s: "tuning kernels",
  compile_s: "compiling kernels",
  reference_s: "reference",
  train_s: "training and evaluation",
  export_s: "writing the results",
};

/** On what the run was made, how fast, and in how much memory. */
export function renderMachine({ run }: Run): Content {
  if (Object.keys(run).length === 0) return null;
  const text = (...keys: string[]) => textAt(run, ...keys);
  const number = (...keys: string[]) => numberAt(run, ...keys);
  const bytes = (...keys: string[]) => sized(number(...keys));
  const rate = (unit: string, ...keys: string[]) =>
    number(...keys) === null ? null : `${formatNumber(number(...keys))} ${unit}`;
  const parameters = number("model", "parameters");
  return html`<h2>Device, speed and memory</h2>
${renderFacts([
  ["device", text("device", "name")],
  ["vendor", text("device", "vendor")],
  ["architecture", text("device", "architecture")],
  ["precision", text("precision")],
  ["model", text("model", "reference")],
  ["commit", text("model", "commit")],
  ["parameters", parameters === null ? null : formatCount(parameters)],
  ["weights", bytes("model", "size_bytes")],
  ["throughput", rate("pairs/s", "speed", "pairs_per_second")],
  ["throughput, tokens", rate("tokens/s", "speed", "tokens_per_second")],
  ["step", rate("s", "speed", "seconds_per_step")],
  ["memory, peak", bytes("memory", "peak_bytes")],
  ["memory, planned", bytes("memory", "planned_bytes")],
  ["tokens in a batch", number("schedule", "max_tokens_per_batch")],
  ["reference", text("reference")],
  ["continued after step", number("resumed_from_step")],
  ...phasesOf({ run }).map(({ name, seconds }): [string, Content] => [
    PHASES[name] ?? name,
    formatDuration(1000 * seconds),
  ]),
  ...Object.entries(VERSIONS).map(([key, name]): [string, Content] => [name, text("versions", key)]),
])}`;
}

const VERSIONS = { "dpo-train": "dpo-train", node: "Node.js", webgpu: "webgpu", platform: "platform" };

function sized(sizeBytes: number | null): string | null {
  return sizeBytes === null ? null : formatSize(sizeBytes);
}
