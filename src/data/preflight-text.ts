import type { Finding, LengthStatistics } from "./findings.ts";
import type { Preflight, TokenCheck } from "./preflight.ts";

const LABEL_WIDTH = 19;
const NUMBER_WIDTH = 9;

/** How long the run on this data is, in optimizer steps. */
export interface PlannedSteps {
  totalSteps: number;
  stepsPerEpoch: number;
  warmupSteps: number;
}

/** The preflight as lines for a terminal. Data that is only evaluated has no `steps`. */
export function formatPreflight(found: Preflight, steps?: PlannedSteps): string[] {
  const { rows, cut, maxLength, lengths, firstPair } = found;
  const firstDropped = rows.firstDropped
    ? `; the prompt alone fills max_length ${maxLength}, first ${rows.firstDropped.place} (${rows.firstDropped.promptTokens} tokens)`
    : "";
  return [
    line("rows", `${rows.read} read, ${rows.kept} kept, ${rows.dropped} dropped${firstDropped}`),
    line("answers cut", `${cut.chosen} chosen, ${cut.rejected} rejected (max_length ${maxLength})`),
    line("tokens", ["min", "median", "90%", "99%", "max", "total"].map(column).join("")),
    ...Object.entries(lengths).map(([name, length]) => line(`  ${name}`, formatLengths(length))),
    line("merged at boundary", formatFinding(found.mergesAcrossBoundary)),
    line("BOS exactly once", found.bos ? formatTokenCheck(found.bos) : "the tokenizer has no BOS"),
    line(
      "EOS exactly once",
      formatTokenCheck(found.eos, cut.chosen + cut.rejected > 0 ? "in every answer that is not cut" : undefined),
    ),
    line("duplicate pairs", formatFinding(found.duplicatePairs)),
    line("chosen = rejected", formatFinding(found.equalAnswers)),
    line("empty answers", formatFinding(found.emptyAnswers)),
    line("chosen longer", `in ${percent(found.chosenLongerShare)} of the pairs`),
    ...(steps ? formatSteps(steps) : []),
    line("first pair", firstPair.place),
    line("  prompt", firstPair.prompt),
    line("  chosen", firstPair.chosen),
    line("  rejected", firstPair.rejected),
  ];
}

function formatSteps({ totalSteps, stepsPerEpoch, warmupSteps }: PlannedSteps): string[] {
  return [
    line("steps", `${totalSteps}, ${stepsPerEpoch} to an epoch`),
    line("warm-up", `${warmupSteps} steps, ${percent(warmupSteps / totalSteps)} of the run`),
  ];
}

function formatLengths({ min, median, p90, p99, max, total }: LengthStatistics): string {
  return [min, median, p90, p99, max, total].map(column).join("");
}

function formatFinding({ rows, first }: Finding): string {
  return first === null ? "none" : `${rows} ${rows === 1 ? "row" : "rows"}, first ${first}`;
}

function formatTokenCheck({ missing, repeated }: TokenCheck, where = "in every row"): string {
  if (missing.rows + repeated.rows === 0) return where;
  return `missing: ${formatFinding(missing)}; repeated: ${formatFinding(repeated)}`;
}

function line(label: string, text: string): string {
  return `${label.padEnd(LABEL_WIDTH)}${text}`;
}

function column(value: string | number): string {
  return String(value).padStart(NUMBER_WIDTH);
}

function percent(share: number): string {
  return `${Number((100 * share).toFixed(1))}%`;
}
