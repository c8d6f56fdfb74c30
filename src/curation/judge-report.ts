import { basename } from "node:path";
import { printable } from "../text.ts";
import { type EarlyStop, formatStop } from "./ask/ask.ts";
import type { Outcome } from "./ask/questions.ts";
import { shownUrl } from "./ask/server.ts";
import { formatNumber, formatTally, type Tally, tallyJson } from "./ask/tally.ts";
import type { JudgedPair, JudgeOptions, RowVerdict } from "./judge.ts";
import type { LetterVerdict } from "./judge-prompt.ts";
import { cohenKappa, fleissKappa, type Vote } from "./jury.ts";
import type { WrittenFile } from "./rows-out.ts";

export interface JudgeResult {
  /** For each row its pairs of answers, with the votes on them. */
  readonly pairsByRow: readonly (readonly JudgedPair[])[];
  readonly outcomes: ReadonlyMap<string, Outcome<LetterVerdict>>;
  /** For each row; null where the jury does not agree. */
  readonly verdicts: readonly (RowVerdict | null)[];
  readonly stopped: EarlyStop | null;
  readonly tally: Tally;
  readonly written: readonly WrittenFile[];
}

/** How one judge judged. Shares are of the pairs on which both orders gave a verdict; null where there is none. */
export interface JudgeStatistics {
  readonly pairs: number;
  readonly missing: number;
  /** The same answer in both orders. */
  readonly consistentShare: number | null;
  /** The answer that stood first, in both orders; and the one that stood second. */
  readonly positionAShare: number | null;
  readonly positionBShare: number | null;
  /** Of the consistent verdicts on rows that say which answer is chosen, those that say the same. */
  readonly labelAgreement: number | null;
}

export interface Disagreement {
  /** Pairs on which every judge gave a vote. */
  readonly pairs: number;
  /** Of these, where all judges prefer the same answer. */
  readonly unanimousShare: number | null;
  /** Of two judges Cohen's kappa, of more Fleiss'; over first answer, second answer and by position. */
  readonly kappa: number | null;
}

const SHOWN_PROBLEMS = 10;

export function judgeStatistics(
  pairs: readonly { readonly votes: readonly Vote[]; readonly isLabelled: boolean }[],
  judge: number,
): JudgeStatistics {
  const votes = pairs.map((pair) => pair.votes[judge]!);
  const count = (wanted: Vote) => votes.filter((vote) => vote === wanted).length;
  const voted = votes.length - count("missing");
  const labelled = pairs.filter((pair) => pair.isLabelled).map((pair) => pair.votes[judge]!);
  const withLabel = labelled.filter((vote) => vote === "first answer").length;
  const againstLabel = labelled.filter((vote) => vote === "second answer").length;
  return {
    pairs: votes.length,
    missing: count("missing"),
    consistentShare: share(count("first answer") + count("second answer"), voted),
    positionAShare: share(count("position A"), voted),
    positionBShare: share(count("position B"), voted),
    labelAgreement: share(withLabel, withLabel + againstLabel),
  };
}

export function disagreement(pairs: readonly { readonly votes: readonly Vote[] }[]): Disagreement {
  const rated = pairs
    .filter(({ votes }) => !votes.includes("missing"))
    .map(({ votes }) => votes.map((vote) => (vote.startsWith("position") ? "by position" : vote)));
  const unanimous = rated.filter((votes) => votes[0] !== "by position" && votes.every((vote) => vote === votes[0]));
  const judges = rated[0]?.length ?? 0;
  const ratingsOf = (judge: number) => rated.map((votes) => votes[judge]!);
  return {
    pairs: rated.length,
    unanimousShare: share(unanimous.length, rated.length),
    kappa: judges === 2 ? cohenKappa(ratingsOf(0), ratingsOf(1)) : fleissKappa(rated),
  };
}

function share(part: number, whole: number): number | null {
  return whole === 0 ? null : part / whole;
}

/** What the command prints at its end. */
export function formatJudging(result: JudgeResult, options: JudgeOptions): string[] {
  const { files, judges, agreement, input } = options;
  const pairs = ratedPairs(result, options);
  const kept = result.verdicts.filter((verdict) => verdict !== null).length;
  const problems = problemsOf(result, options);
  const { unanimousShare, kappa, pairs: ratedByAll } = disagreement(pairs);
  const flipped = countFlipped(result, options);
  return [
    formatTally(result.tally),
    ...judges.map((judge, i) => formatJudge(judge.shownModel, judgeStatistics(pairs, i))),
    ...(judges.length > 1
      ? [
          `jury: ${percent(unanimousShare)} of ${formatNumber(ratedByAll)} pairs unanimous, ${judges.length === 2 ? "Cohen's" : "Fleiss'"} kappa ${kappa === null ? "not defined (all votes are the same)" : kappa.toFixed(2)}`,
        ]
      : []),
    ...problems
      .slice(0, SHOWN_PROBLEMS)
      .map(({ line, judge, reason }) => `  line ${line}: ${judge}: ${printable(reason, 120)}`),
    ...(problems.length > SHOWN_PROBLEMS
      ? [`  and ${formatNumber(problems.length - SHOWN_PROBLEMS)} more, in ${printable(basename(files.report))}`]
      : []),
    `${formatNumber(kept)} of ${formatNumber(input.rows.length)} rows kept (${agreement === "all" ? "all judges agree" : "more than half of the judges agree"})` +
      `${flipped > 0 ? `; in ${formatNumber(flipped)} the jury prefers what was rejected` : ""}`,
    ...result.written.map(({ name, rows }) => `wrote ${printable(name)}: ${formatNumber(rows)} rows`),
    ...formatStop(result.stopped),
    ...(problems.some(({ problem }) => problem === "failed") ? ["the same command asks again for what failed"] : []),
    `report: ${printable(basename(files.report))}; every answer: ${printable(basename(files.journal))}`,
  ];
}

function formatJudge(name: string, statistics: JudgeStatistics): string {
  const { pairs, missing, consistentShare, positionAShare, positionBShare, labelAgreement } = statistics;
  const labels = labelAgreement === null ? "" : `; says as the rows' labels in ${percent(labelAgreement)}`;
  const gaps = missing === 0 ? "" : `; no verdict on ${formatNumber(missing)} of ${formatNumber(pairs)}`;
  return (
    `${name}: the same answer in both orders in ${percent(consistentShare)} of pairs; ` +
    `by position: always A in ${percent(positionAShare)}, always B in ${percent(positionBShare)}${labels}${gaps}`
  );
}

/** The report as a file. */
export function writeJudgeReport(result: JudgeResult, options: JudgeOptions): string {
  const { judges, agreement, temperature, examples, input } = options;
  const pairs = ratedPairs(result, options);
  const report = {
    command: "data judge",
    temperature,
    examples: examples.length,
    agreement,
    rows: input.rows.length,
    duplicates: input.duplicates,
    equal_answers: input.equalAnswers,
    kept: result.verdicts.filter((verdict) => verdict !== null).length,
    labels_reversed: countFlipped(result, options),
    stopped: result.stopped,
    ...tallyJson(result.tally),
    judges: judges.map((judge, i) => {
      const statistics = judgeStatistics(pairs, i);
      return {
        model: judge.shownModel,
        server: shownUrl(judge.baseUrl),
        pairs: statistics.pairs,
        missing: statistics.missing,
        consistent_share: statistics.consistentShare,
        position_a_share: statistics.positionAShare,
        position_b_share: statistics.positionBShare,
        label_agreement: statistics.labelAgreement,
      };
    }),
    jury: juryJson(pairs, judges.length),
    files: result.written,
    problems: problemsOf(result, options),
    verdicts: input.rows.map(({ line }, i) => ({
      line,
      chosen: result.verdicts[i]?.chosen ?? null,
      rejected: result.verdicts[i]?.rejected ?? null,
      pairs: result.pairsByRow[i]!.map(({ first, second, votes }) => ({ first, second, votes })),
    })),
  };
  return `${JSON.stringify(report, null, 2)}\n`;
}

function juryJson(pairs: readonly { readonly votes: readonly Vote[] }[], judges: number): object | null {
  if (judges < 2) return null;
  const { pairs: rated, unanimousShare, kappa } = disagreement(pairs);
  return { pairs: rated, unanimous_share: unanimousShare, kappa, kappa_of: judges === 2 ? "Cohen" : "Fleiss" };
}

function ratedPairs({ pairsByRow }: JudgeResult, { input }: JudgeOptions) {
  return pairsByRow.flatMap((pairs, i) => pairs.map(({ votes }) => ({ votes, isLabelled: input.rows[i]!.isLabelled })));
}

function countFlipped({ verdicts }: JudgeResult, { input }: JudgeOptions): number {
  return verdicts.filter((verdict, i) => verdict !== null && input.rows[i]!.isLabelled && verdict.chosen !== 0).length;
}

/** What went wrong with a question. */
interface Problem {
  readonly line: number;
  readonly judge: string;
  readonly problem: string;
  readonly reason: string;
}

function problemsOf({ pairsByRow, outcomes }: JudgeResult, { input }: JudgeOptions): Problem[] {
  return pairsByRow.flatMap((pairs, i) =>
    pairs.flatMap(({ questions }) =>
      questions
        .flatMap(({ forward, backward }) => [forward, backward])
        .flatMap(({ hash, server }): Problem[] => {
          const outcome = outcomes.get(hash);
          const place = { line: input.rows[i]!.line, judge: server.shownModel };
          if (outcome?.kind === "failed") return [{ ...place, problem: "failed", reason: outcome.reason }];
          if (outcome?.kind !== "unusable") return [];
          return [{ ...place, problem: outcome.unusable.unusable, reason: outcome.unusable.reason }];
        }),
    ),
  );
}

function percent(part: number | null): string {
  return part === null ? "none" : `${(100 * part).toFixed(1)} %`;
}
