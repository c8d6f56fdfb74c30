import { numberAt, textAt } from "../train/json-tree.ts";
import { formatPercent } from "./percent.ts";
import type { Warning, WatchedRun } from "./warnings.ts";

/** Shares of the pairs. */
const MANY_CUT = 0.05;
const MOSTLY_LONGER = 0.8;

/** Looks through what is known of a run's data and its merge. */
export function findDataWarnings({ run }: Pick<WatchedRun, "run">): Warning[] {
  const kept = numberAt(run, "data", "train", "rows", "kept") ?? 0;
  const rows = (...keys: string[]) => numberAt(run, "data", "train", ...keys) ?? 0;
  const share = (count: number) => `${count} of ${kept} (${formatPercent(count / Math.max(1, kept))})`;
  const warnings: Warning[] = [];
  const equal = rows("equalAnswers", "rows");
  if (equal > 0) {
    warnings.push({
      title: "Pairs that teach nothing",
      found: `In ${share(equal)} pairs chosen and rejected are the same, first in ${textAt(run, "data", "train", "equalAnswers", "first") ?? "an unknown row"}.`,
      advice: "Take them out of the data: they cost time, and hold loss and accuracy where they are.",
    });
  }
  const cut = Math.max(rows("cut", "chosen"), rows("cut", "rejected"));
  if (cut > MANY_CUT * kept) {
    warnings.push({
      title: "Many answers are cut",
      found: `${share(cut)} lost their end to max_length ${rows("maxLength")}.`,
      advice: "Raise max_length, or leave long pairs out: an answer without its end is another answer.",
    });
  }
  const longer = numberAt(run, "data", "train", "chosenLongerShare");
  if (longer !== null && longer >= MOSTLY_LONGER) {
    warnings.push({
      title: "Length gives the chosen answer away",
      found: `It is the longer one in ${formatPercent(longer)} of the pairs.`,
      advice: "The model may learn to be long. Try loss_type sigmoid_norm or ld_alpha, or balance the pairs.",
    });
  }
  const advice = textAt(run, "merge", "fidelity", "advice");
  if (advice !== null) warnings.push({ title: "The merged model lost part of the update", found: "", advice });
  return warnings;
}
