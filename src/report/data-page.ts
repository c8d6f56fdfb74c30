import type { Finding, LengthStatistics } from "../data/findings.ts";
import { CONTAINED_SHARE, type Contamination, NGRAM_WORDS } from "../data/inspect/contamination.ts";
import { type Inspection, type InspectionReport, RATIO_STEPS } from "../data/inspect/inspect.ts";
import { percent } from "../data/inspect/inspect-text.ts";
import { SIDES } from "../data/inspect/row-texts.ts";
import { renderCards } from "./cards.ts";
import { type Content, type Html, html } from "./html.ts";
import { renderPage } from "./shell.ts";
import { renderFacts, renderTable } from "./table.ts";

const LENGTH_COLUMNS = ["min", "median", "p90", "p99", "max", "total"] as const;

/** What `dpo-train data inspect` has found, as a page in one file. */
export function renderDataPage(report: InspectionReport, now = new Date()): string {
  const { dataset, train, evaluation, contamination, concerns } = report;
  const body = html`<h1>Preference data: ${dataset}</h1>
${renderCards([
  { name: "rows", content: train.rows },
  evaluation && { name: "test rows", content: evaluation.rows },
  { name: "chosen is longer", content: percent(train.lengthBias.chosenLonger) },
  { name: "equal answers", content: share(train.identicalAnswers, train.rows) },
  { name: "repeated rows", content: share(train.duplicates.rows, train.rows) },
  train.tokens && { name: "answers cut", content: train.tokens.cut.chosen + train.tokens.cut.rejected },
  contamination && {
    name: "test prompts in training",
    content: share(contamination.normalizedPrompts, contamination.testRows),
  },
])}
<h2>Worth a look</h2>
${concerns.length === 0 ? html`<p>Nothing.</p>` : concerns.map((concern) => html`<div class="warning"><p>${concern}</p></div>\n`)}
${renderSet(evaluation ? "Training data" : "The rows", train)}
${evaluation && renderSet("Test data", evaluation)}
${contamination && renderContamination(contamination)}
`;
  return renderPage({ title: `Preference data ${dataset}: dpo-train`, body, now });
}

function renderSet(title: string, found: Inspection): Html {
  const { rows, tokens, duplicates } = found;
  const of = (finding: Finding) => findingText(finding, rows);
  const unit = tokens ? "tokens" : "characters";
  return html`<h2>${title}</h2>
${renderFacts([
  ["rows", `${rows} of ${found.kind}`],
  ["system messages", of(found.systemMessages)],
  ["several turns", of(found.multiTurn)],
  ["repeated rows", of(duplicates.rows)],
  ["same prompt and chosen", of(duplicates.samePromptAndChosen)],
  ["same prompt", of(duplicates.samePrompt)],
  ["judged both ways", of(duplicates.contradictions)],
  ["chosen = rejected", of(found.identicalAnswers)],
  ["empty prompts", of(found.emptyPrompts)],
  ["empty chosen", of(found.emptyChosen)],
  ["empty rejected", of(found.emptyRejected)],
  ["answers in other scripts", of(found.scripts.answersDiffer)],
  ...(tokens ? tokenFacts(tokens) : []),
])}
<h3>Lengths in ${unit}</h3>
${renderLengths(title, tokens?.lengths ?? found.characters)}
${renderLengthBias(title, found)}
${renderCharacters(title, found)}
<h3>Letters by script</h3>
${renderTable({
  caption: `${title}: letters by script`,
  rows: SIDES,
  columns: [
    { title: "side", cell: (side) => side },
    {
      title: "share of the letters",
      cell: (side) =>
        found.scripts.shares[side].map((one) => `${one.script} ${percent(one.share)}`).join(", ") || "none",
    },
  ],
})}`;
}

function tokenFacts({ rows, cut, maxLength }: NonNullable<Inspection["tokens"]>): [string, Content][] {
  return [
    ["max_length", maxLength],
    ["chosen cut", cut.chosen],
    ["rejected cut", cut.rejected],
    ["rows dropped", rows.dropped],
  ];
}

function renderLengths(set: string, lengths: Readonly<Record<string, LengthStatistics>>): Html {
  return renderTable({
    caption: `${set}: lengths`,
    rows: Object.entries(lengths),
    columns: [
      { title: "part", cell: ([name]) => name },
      ...LENGTH_COLUMNS.map((column) => ({
        title: column === "p90" ? "90%" : column === "p99" ? "99%" : column,
        isNumeric: true,
        cell: ([, statistics]: [string, LengthStatistics]) => statistics[column],
      })),
    ],
  });
}

/** How much longer the chosen answer is, as a histogram in a table: a bar is drawn where the page's styles allow none inline. */
function renderLengthBias(set: string, { lengthBias }: Inspection): Html {
  const { histogram, unit, chosenLonger, equallyLong, medianRatio } = lengthBias;
  const most = Math.max(1, ...histogram);
  const bounds = [0, ...RATIO_STEPS, Number.POSITIVE_INFINITY];
  const name = (i: number) => {
    const [from, to] = [bounds[i]!, bounds[i + 1]!].map((bound) => Number(bound.toFixed(2)));
    return to === Number.POSITIVE_INFINITY ? `over ${from}` : `${from} to ${to}`;
  };
  return html`<h3>Chosen against rejected</h3>
<p>The chosen answer is longer in ${percent(chosenLonger)} of the pairs and equally long in ${percent(equallyLong)}${medianRatio !== null && `; half the pairs are above a ratio of ${Number(medianRatio.toFixed(2))}`} (by ${unit}).</p>
${renderTable({
  caption: `${set}: ratio of the lengths of chosen and rejected`,
  rows: histogram.map((count, i) => ({ count, name: name(i) })),
  columns: [
    { title: "chosen / rejected", cell: (row) => row.name },
    { title: "pairs", isNumeric: true, cell: ({ count }) => count },
    {
      title: "share",
      cell: ({ count }) =>
        html`<svg width="240" height="12" aria-hidden="true"><rect width="${Math.round((240 * count) / most)}" height="12" fill="currentColor" opacity="0.5"/></svg>`,
    },
  ],
})}`;
}

function renderCharacters(set: string, { unusualCharacters }: Inspection): Html {
  if (unusualCharacters.length === 0) return html`<h3>Unusual characters</h3>\n<p>None.</p>`;
  return html`<h3>Unusual characters</h3>
${renderTable({
  caption: `${set}: unusual characters`,
  rows: unusualCharacters,
  columns: [
    { title: "kind", cell: ({ kind }) => kind },
    { title: "found", isNumeric: true, cell: ({ occurrences }) => occurrences },
    { title: "rows", isNumeric: true, cell: ({ rows }) => rows },
    { title: "first", cell: ({ first }) => first },
    { title: "text around it", cell: ({ example }) => example },
  ],
})}`;
}

function renderContamination(found: Contamination): Html {
  const of = (finding: Finding) => findingText(finding, found.testRows);
  return html`<h2>Test data that is in the training data</h2>
${renderFacts([
  ["whole rows", of(found.rows)],
  ["prompts", of(found.prompts)],
  ["but for case and spaces", of(found.normalizedPrompts)],
  [`a run of ${NGRAM_WORDS} words`, of(found.sharedNgrams)],
  [`${percent(CONTAINED_SHARE)} of the words`, of(found.contained)],
])}
${
  found.examples.length > 0 &&
  renderTable({
    caption: "Test rows that are most in the training data",
    rows: found.examples,
    columns: [
      { title: "test row", cell: ({ test }) => test },
      { title: "training row", cell: ({ train }) => train },
      { title: "words in common", isNumeric: true, cell: (example) => percent(example.share) },
    ],
  })
}`;
}

function findingText({ rows, first }: Finding, total: number): string {
  return first === null ? "none" : `${rows} (${percent(rows / total)}), first ${first}`;
}

function share({ rows }: Finding, total: number): string {
  return percent(rows / total);
}
