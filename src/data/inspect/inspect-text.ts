import type { Finding, LengthStatistics } from "../findings.ts";
import type { Preflight } from "../preflight.ts";
import { CONTAINED_SHARE, type Contamination, NGRAM_WORDS } from "./contamination.ts";
import { type Inspection, type LengthBias, RATIO_STEPS } from "./inspect.ts";
import { SIDES } from "./row-texts.ts";

const LABEL_WIDTH = 24;
const NUMBER_WIDTH = 10;

/** An inspection as lines for a terminal. */
export function formatInspection(found: Inspection): string[] {
  const { rows, tokens } = found;
  const of = (finding: Finding) => formatFinding(finding, rows);
  return [
    line("rows", `${rows} of ${found.kind}`),
    line("  system messages", of(found.systemMessages)),
    line("  several turns", of(found.multiTurn)),
    ...(tokens ? formatTokens(tokens) : formatLengths("characters", found.characters)),
    line("repeated", ""),
    line("  whole rows", of(found.duplicates.rows)),
    line("  prompt and chosen", of(found.duplicates.samePromptAndChosen)),
    line("  prompt", of(found.duplicates.samePrompt)),
    line("  judged both ways", of(found.duplicates.contradictions)),
    line("chosen = rejected", of(found.identicalAnswers)),
    line("empty", ""),
    line("  prompt", of(found.emptyPrompts)),
    line("  chosen", of(found.emptyChosen)),
    line("  rejected", of(found.emptyRejected)),
    ...formatLengthBias(found.lengthBias),
    line("unusual characters", found.unusualCharacters.length === 0 ? "none" : ""),
    ...found.unusualCharacters.flatMap(({ kind, rows: count, occurrences, first, example }) => [
      `  ${kind}: ${occurrences} in ${count} ${count === 1 ? "row" : "rows"}, first ${first}: "${example}"`,
    ]),
    line("letters", ""),
    ...SIDES.map((side) => line(`  ${side}`, formatShares(found.scripts.shares[side]))),
    line("  answers differ", of(found.scripts.answersDiffer)),
  ];
}

/** What training and test set share, as lines for a terminal. */
export function formatContamination(found: Contamination): string[] {
  const of = (finding: Finding) => formatFinding(finding, found.testRows);
  return [
    line("whole rows", of(found.rows)),
    line("prompts", of(found.prompts)),
    line("  but for case, spaces", of(found.normalizedPrompts)),
    line(`runs of ${NGRAM_WORDS} words`, of(found.sharedNgrams)),
    line(`  ${percent(CONTAINED_SHARE)} of the words`, of(found.contained)),
    ...found.examples.map(({ test, train, share }) => `  ${test} is to ${percent(share)} in ${train}`),
  ];
}

/** What in the numbers deserves a second look, a sentence each; none where all is well. */
export function findConcerns(found: Inspection, contamination: Contamination | null): string[] {
  const { rows, tokens, duplicates, lengthBias } = found;
  const share = ({ rows: count }: Finding) => count / rows;
  const concerns: (string | false)[] = [
    found.identicalAnswers.rows > 0 &&
      `${found.identicalAnswers.rows} pairs have two equal answers and teach nothing: remove them`,
    found.emptyChosen.rows > 0 && `${found.emptyChosen.rows} chosen answers are empty, which teaches to say nothing`,
    found.emptyPrompts.rows > 0 && `${found.emptyPrompts.rows} prompts are empty: is the prompt in another column?`,
    duplicates.contradictions.rows > 0 &&
      `${duplicates.contradictions.rows} pairs say the opposite of an earlier one: remove both`,
    share(duplicates.rows) > 0.01 &&
      `${percent(share(duplicates.rows))} of the rows repeat an earlier one: remove them`,
    (lengthBias.chosenLonger > 0.75 || lengthBias.chosenLonger + lengthBias.equallyLong < 0.25) &&
      `the chosen answer is the longer one in ${percent(lengthBias.chosenLonger)} of the pairs, so the model may learn length for quality`,
    found.unusualCharacters.length > 0 &&
      `there are ${found.unusualCharacters.map(({ kind }) => kind).join(", ")}, which the model will learn to write`,
    tokens !== null &&
      Math.max(tokens.cut.chosen, tokens.cut.rejected) > 0.05 * rows &&
      `max_length ${tokens.maxLength} cuts ${tokens.cut.chosen} chosen and ${tokens.cut.rejected} rejected answers: raise it, or leave long pairs out`,
    tokens !== null &&
      tokens.rows.dropped > 0 &&
      `${tokens.rows.dropped} rows are dropped, as the prompt alone fills max_length ${tokens.maxLength}`,
    contamination !== null &&
      contamination.normalizedPrompts.rows > 0 &&
      `${contamination.normalizedPrompts.rows} of ${contamination.testRows} test prompts are in the training set, so the evaluation will flatter`,
  ];
  return concerns.filter((concern) => concern !== false);
}

function formatTokens({ rows, cut, maxLength, lengths, mergesAcrossBoundary }: Preflight): string[] {
  return [
    ...formatLengths("tokens", lengths),
    line(
      "at max_length",
      `${maxLength}: ${cut.chosen} chosen and ${cut.rejected} rejected cut, ${rows.dropped} rows dropped`,
    ),
    line("merged at boundary", formatFinding(mergesAcrossBoundary, rows.kept)),
  ];
}

function formatLengths(unit: string, lengths: Readonly<Record<string, LengthStatistics>>): string[] {
  return [
    line(unit, ["min", "median", "90%", "99%", "max", "total"].map(column).join("")),
    ...Object.entries(lengths).map(([name, { min, median, p90, p99, max, total }]) =>
      line(`  ${name}`, [min, median, p90, p99, max, total].map(column).join("")),
    ),
  ];
}

function formatLengthBias({ unit, chosenLonger, equallyLong, medianRatio, histogram }: LengthBias): string[] {
  const steps = [...RATIO_STEPS.map((step) => `≤${Number(step.toFixed(2))}`), `>${RATIO_STEPS.at(-1)}`];
  return [
    line(
      "chosen longer",
      `in ${percent(chosenLonger)} of the pairs, equally long in ${percent(equallyLong)} (by ${unit})`,
    ),
    line("  chosen / rejected", `median ${medianRatio === null ? "unknown" : Number(medianRatio.toFixed(2))}`),
    line("", steps.map((step) => step.padStart(7)).join("")),
    line("", histogram.map((count) => String(count).padStart(7)).join("")),
  ];
}

function formatShares(shares: readonly { script: string; share: number }[]): string {
  return shares.map(({ script, share }) => `${script} ${percent(share)}`).join(", ") || "none";
}

function formatFinding({ rows, first }: Finding, total: number): string {
  if (first === null) return "none";
  return `${rows} ${rows === 1 ? "row" : "rows"} (${percent(rows / total)}), first ${first}`;
}

function line(label: string, text: string): string {
  return `${label.padEnd(LABEL_WIDTH)}${text}`.trimEnd();
}

function column(value: string | number): string {
  return String(value).padStart(NUMBER_WIDTH);
}

/** A share for people. What is there but rounds to nothing is told from nothing. */
export function percent(share: number): string {
  if (share > 0 && share < 0.0005) return "<0.1%";
  return `${Number((100 * share).toFixed(1))}%`;
}
