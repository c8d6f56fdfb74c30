import type { Answer } from "../evaluation/answer-questions.ts";
import { type AnsweredRow, accuracyInterval, countIdentical, type Evaluation } from "../evaluation/evaluation.ts";
import type { JudgedCriterion, JudgeVerdict } from "../evaluation/judge.ts";
import type { Scores } from "../evaluation/judge-prompt.ts";
import type { ComparedGroups, Overuse } from "../style/compare-groups.ts";
import type { Estimate } from "../style/estimate.ts";
import type { TextStatistics } from "../style/text-statistics.ts";
import { EVAL_PREFIX } from "../train/records.ts";
import { formatNumber, NO_NUMBER } from "./browser/numbers.ts";
import { renderCards } from "./cards.ts";
import { type Content, type Html, html } from "./html.ts";
import { metricLabel } from "./metric-names.ts";
import { formatPercent } from "./percent.ts";
import { renderPage } from "./shell.ts";
import { type Column, renderTable } from "./table.ts";

/** Answers that a page shows in full. answers.jsonl has all of them. */
const SHOWN_QUESTIONS = 200;

/** eval.html: what training has changed, in one file that needs no network. */
export function renderEvaluation(evaluation: Evaluation, now = new Date()): string {
  const { model, trained, computed, style, judging } = evaluation;
  const title = `Evaluation of ${trained}`;
  const body = html`<h1>${title}</h1>
<p class="muted">against ${model}, on ${computed.device} (${computed.format})</p>
${renderSummary(evaluation)}
${renderPreference(evaluation)}
${judging?.verdicts.map(renderVerdict)}
<h2>Word distributions</h2>
<p class="reading">Jensen–Shannon distance, 0: the same words equally often, 1: no word in common. Few answers differ by much even if one model wrote them all: what is beyond that chance is what training, or the source, has changed.</p>
${renderDistances(style.distances)}
<h2>Most overused words</h2>
<p class="reading">Words that the trained model uses more than others do, the surest first (log-odds with a Dirichlet prior): how often they stand in its answers and in the others. From a z of about 3 on a word is hardly there by chance.</p>
<div class="answers">${style.overused.filter(({ by }) => by === "trained").map(renderOveruse)}</div>
<h2>How answers are written</h2>
${renderStatistics(evaluation)}
<h2>Answers</h2>
${renderAnswers(evaluation)}
`;
  return renderPage({ title: `${title}: dpo-train`, body, now });
}

function renderSummary(evaluation: Evaluation): Html {
  const { rows, computed, heldOutPairs, style } = evaluation;
  const { preference } = computed;
  const interval = accuracyInterval(evaluation);
  const toChosen = style.distances.find(({ between }) => between.join() === "trained,chosen");
  const { trained, base } = style.groups;
  return renderCards([
    preference && interval
      ? {
          name: "held-out accuracy",
          content: [
            percent(preference["rewards/accuracies"]),
            html`<small>${heldOutPairs} pairs, 95%: ${interval.map(formatPercent).join(" to ")}</small>`,
          ],
        }
      : null,
    preference && { name: "held-out margin", content: formatNumber(preference["rewards/margins"]) },
    {
      name: "questions",
      content: [rows.length, html`<small>${countIdentical(evaluation)} answered alike by both</small>`],
    },
    {
      name: "words per answer",
      content: [fixed(trained?.words.mean, 1), html`<small>base ${fixed(base?.words.mean, 1)}</small>`],
    },
    toChosen
      ? {
          name: "distance to chosen",
          content: [fixed(toChosen.beyondChance), html`<small>of words, beyond chance</small>`],
        }
      : null,
  ]);
}

function renderPreference({ computed, heldOutPairs }: Evaluation): Content {
  const { preference } = computed;
  if (!preference) return null;
  return html`<h2>Held-out pairs</h2>
${renderTable({
  caption: `The trained model on ${heldOutPairs} held-out pairs`,
  columns: [
    { title: "metric", cell: ([name]) => metricLabel(`${EVAL_PREFIX}${name}`) },
    { title: "value", isNumeric: true, cell: ([, value]) => formatNumber(value) },
  ],
  rows: Object.entries(preference),
})}`;
}

function renderVerdict({ judge, accuracy, style, unscored }: JudgeVerdict): Html {
  const rows: (readonly [string, JudgedCriterion])[] = [
    ["accuracy", accuracy],
    ["style", style],
  ];
  const estimateColumn = (
    title: string,
    of: (criterion: JudgedCriterion) => Estimate | null,
  ): Column<(typeof rows)[0]> => ({
    title,
    isNumeric: true,
    cell: ([, criterion]) => renderEstimate(of(criterion)),
  });
  return html`<h2>Scores by ${judge}</h2>
<p class="reading">From 1 (poor) to 3 (excellent); in brackets the 95% interval for other questions of this kind.${unscored > 0 && ` ${unscored} answers have no score.`}</p>
${renderTable({
  caption: `Scores by ${judge}`,
  columns: [
    { title: "criterion", cell: ([name]) => name },
    estimateColumn("base", ({ base }) => base),
    estimateColumn("trained", ({ trained }) => trained),
    estimateColumn("trained − base", ({ difference }) => difference),
  ],
  rows,
})}`;
}

function renderEstimate(estimate: Estimate | null): Content {
  if (!estimate) return NO_NUMBER;
  const { mean, interval } = estimate;
  return interval ? `${mean.toFixed(2)} (${interval.map((end) => end.toFixed(2)).join(" to ")})` : mean.toFixed(2);
}

function renderDistances(distances: readonly ComparedGroups[]): Html {
  const numeric = (title: string, cell: (found: ComparedGroups) => Content): Column<ComparedGroups> => ({
    title,
    isNumeric: true,
    cell,
  });
  return renderTable({
    caption: "Distances of word distributions",
    columns: [
      { title: "between", cell: ({ between }) => between.join(" and ") },
      numeric("distance", ({ distance }) => fixed(distance)),
      numeric("by chance", ({ byChance }) => fixed(byChance)),
      numeric("beyond chance", ({ beyondChance }) => fixed(beyondChance)),
      numeric("95% interval", ({ interval }) =>
        interval ? interval.map((end) => fixed(end)).join(" to ") : NO_NUMBER,
      ),
      numeric("p", ({ pValue }) => fixed(pValue)),
    ],
    rows: distances,
  });
}

function renderOveruse({ against, words }: Overuse): Html {
  const caption = `Against ${against === "chosen" ? "chosen answers" : `the ${against}`}`;
  return html`<div><h3>${caption}</h3>
${
  words.length === 0
    ? html`<p>None.</p>`
    : renderTable({
        caption,
        columns: [
          { title: "word", cell: ({ word }) => word },
          { title: "here", isNumeric: true, cell: ({ count }) => count },
          { title: "there", isNumeric: true, cell: ({ otherCount }) => otherCount },
          { title: "z", isNumeric: true, cell: ({ z }) => z.toFixed(1) },
        ],
        rows: words,
      })
}</div>`;
}

type Measure = readonly [name: string, value: (found: TextStatistics) => Content];

const MEASURES: readonly Measure[] = [
  ["answers", ({ texts }) => texts],
  ["without a word", ({ empty }) => empty],
  ["repeating another", ({ repeated }) => repeated],
  ["words, mean", ({ words }) => fixed(words.mean, 1)],
  [
    "words, 10% / median / 90%",
    ({ words }) => `${fixed(words.p10, 1)} / ${fixed(words.median, 1)} / ${fixed(words.p90, 1)}`,
  ],
  ["sentences, mean", ({ sentences }) => fixed(sentences.mean, 1)],
  ["characters, mean", ({ characters }) => fixed(characters.mean, 1)],
  ["different words by words", ({ typeTokenRatio }) => percent(typeTokenRatio)],
  ["the same, over 50 words in a row", ({ movingTypeTokenRatio }) => percent(movingTypeTokenRatio)],
  ["contractions", ({ markers }) => percent(markers.contractions)],
  ["I, we, my, our", ({ markers }) => percent(markers.firstPerson)],
  ["you, your", ({ markers }) => percent(markers.secondPerson)],
  ["words of over 6 letters", ({ markers }) => percent(markers.longWords)],
  ["moreover, therefore, thus", ({ markers }) => percent(markers.formalConnectives)],
  ["letters per word", ({ markers }) => fixed(markers.lettersPerWord, 1)],
  ["words per sentence", ({ markers }) => fixed(markers.wordsPerSentence, 1)],
  ["exclamation marks per sentence", ({ markers }) => fixed(markers.exclamations, 2)],
  ["LIX", ({ markers }) => fixed(markers.lix, 1)],
];

function renderStatistics({ style, chosenFrom }: Evaluation): Html {
  return html`<p class="reading">The chosen answers are those of ${chosenFrom}. Shares are of words. What hints at a formal or a relaxed tone is counted from English words; it is no measure of formality.</p>
${renderTable({
  caption: "How answers are written",
  columns: [
    { title: "measure", cell: ([name]: Measure) => name },
    ...Object.entries(style.groups).map(([name, found]) => ({
      title: name,
      isNumeric: true,
      cell: ([, value]: Measure) => value(found),
    })),
  ],
  rows: MEASURES,
})}`;
}

function renderAnswers({ rows, judging }: Evaluation): Html {
  const shown = rows.slice(0, SHOWN_QUESTIONS);
  const scoresOf = (row: number, who: "base" | "trained"): Content =>
    judging?.verdicts.map(({ judge, scores }) => renderScores(judge, scores[row]![who])) ?? null;
  return html`${rows.length > shown.length && html`<p class="reading">The first ${shown.length} of ${rows.length}: answers.jsonl has all.</p>\n`}
${shown.map((row, i) => renderRow(row, i, scoresOf(i, "base"), scoresOf(i, "trained")))}`;
}

function renderRow(
  { question, base, trained, chosen }: AnsweredRow,
  i: number,
  baseScores: Content,
  scores: Content,
): Html {
  return html`<details${i < 3 && " open"}><summary>${i + 1}. <bdi>${question}</bdi></summary>
<div class="answers">
${renderAnswer("base", base, baseScores)}
${base.text === trained.text ? html`<div class="answer"><h3>trained</h3><p class="muted">the same</p>${scores}</div>` : renderAnswer("trained", trained, scores)}
${chosen !== null && renderAnswer("chosen", { text: chosen, isCut: false }, null)}
</div></details>
`;
}

function renderAnswer(title: string, { text, isCut }: Answer, scores: Content): Html {
  return html`<div class="answer"><h3>${title}</h3>${
    text === "" ? html`<p class="muted">nothing</p>` : html`<p class="text" dir="auto">${text}</p>`
  }${isCut && html`<p class="muted">… cut at its longest length</p>`}${scores}</div>`;
}

function renderScores(judge: string, scores: Scores | null): Html {
  const found = scores ? `accuracy ${scores.accuracy}, style ${scores.style}` : "no score";
  return html`<p class="muted">${judge}: ${found}</p>`;
}

function percent(share: number | null | undefined): string {
  return share === null || share === undefined ? NO_NUMBER : formatPercent(share);
}

function fixed(value: number | null | undefined, digits = 3): string {
  return value === null || value === undefined ? NO_NUMBER : value.toFixed(digits);
}
