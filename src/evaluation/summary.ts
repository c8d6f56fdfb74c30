import type { Estimate } from "../style/estimate.ts";
import { accuracyInterval, countIdentical, type Evaluation } from "./evaluation.ts";

/** What an evaluation has found, in a few lines for the terminal. */
export function summarize(evaluation: Evaluation): string[] {
  const { rows, style } = evaluation;
  const { base, trained, chosen } = style.groups;
  const cut = rows.filter((row) => row.trained.isCut).length;
  return [
    ...preferenceLines(evaluation),
    `answers: ${rows.length} questions, ${countIdentical(evaluation)} answered alike by both, ${cut} of the trained model's cut at their longest length`,
    `words per answer: base ${number(base?.words.mean)}, trained ${number(trained?.words.mean)}, chosen ${number(chosen?.words.mean)}`,
    ...style.distances.map(({ between, distance, byChance, beyondChance, interval, pValue }) => {
      const found = `word distribution, ${between.join(" and ")}: distance ${number(distance, 3)}`;
      if (byChance === null || interval === null) return `${found}, too few texts to say what of it is chance`;
      return `${found}, ${number(byChance, 3)} by chance alone; beyond it ${number(beyondChance, 3)} (95%: ${interval.map((end) => number(end, 3)).join(" to ")}), p ${number(pValue, 3)}`;
    }),
    ...style.overused
      .filter(({ by, against }) => by === "trained" && against === "chosen")
      .map(({ words }) => {
        const shown = words.slice(0, 10).map(({ word, count, otherCount }) => `${word} (${count}/${otherCount})`);
        return `most overused by the trained model against chosen answers: ${shown.length > 0 ? shown.join(", ") : "nothing"}`;
      }),
    ...(evaluation.judging?.verdicts ?? []).map(({ judge, accuracy, style: tone, unscored }) => {
      const missing = unscored > 0 ? `; ${unscored} answers have no score` : "";
      return `${judge}: accuracy ${estimate(accuracy.base)} → ${estimate(accuracy.trained)}, style ${estimate(tone.base)} → ${estimate(tone.trained)} of 3${missing}`;
    }),
  ];
}

function preferenceLines(evaluation: Evaluation): string[] {
  const { computed, heldOutPairs } = evaluation;
  const { preference } = computed;
  const interval = accuracyInterval(evaluation);
  if (!preference || !interval) return [];
  const [low, high] = interval.map((end) => (100 * end).toFixed(0));
  return [
    `held-out pairs: ${heldOutPairs}, accuracy ${(100 * preference["rewards/accuracies"]!).toFixed(1)} % (95%: ${low} to ${high}), ` +
      `margin ${number(preference["rewards/margins"], 4)}, loss ${number(preference.loss, 4)}`,
  ];
}

function number(value: number | null | undefined, digits = 1): string {
  return value === null || value === undefined ? "-" : value.toFixed(digits);
}

function estimate(found: Estimate | null): string {
  return found === null ? "-" : found.mean.toFixed(2);
}
