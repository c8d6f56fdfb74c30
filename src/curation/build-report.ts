import { basename } from "node:path";
import { printable } from "../text.ts";
import { type EarlyStop, formatStop } from "./ask/ask.ts";
import type { Outcome } from "./ask/questions.ts";
import { shownUrl } from "./ask/server.ts";
import { formatNumber, formatTally, type Tally, tallyJson } from "./ask/tally.ts";
import type { BuildOptions, Extract } from "./build.ts";
import type { Sieve, VerbatimCounts } from "./curate.ts";
import type { WrittenFile } from "./rows-out.ts";
import { TRIPLES_PER_EXTRACT, type TripleSet } from "./triples.ts";
import { VERBATIM_RULE } from "./verbatim.ts";

export interface BuildResult {
  readonly extracts: readonly Extract[];
  /** One for each extract. */
  readonly outcomes: readonly Outcome<TripleSet>[];
  readonly stopped: EarlyStop | null;
  readonly sieve: Sieve;
  readonly verbatim: VerbatimCounts;
  /** Answers of our own model that ended at their longest length. */
  readonly cutOwnAnswers: number;
  readonly tally: Tally;
  readonly written: readonly WrittenFile[];
}

/** What went wrong with an extract. */
interface Problem {
  readonly article: number;
  /** From 1. */
  readonly extract: number;
  readonly problem: string;
  readonly reason: string;
}

const SHOWN_PROBLEMS = 10;

/** What the command prints at its end. */
export function formatBuild(result: BuildResult, { files, ownModel }: BuildOptions): string[] {
  const { outcomes, sieve, verbatim, tally, written } = result;
  const problems = problemsOf(result);
  const counts = countOutcomes(outcomes);
  const otherCounts = outcomes.filter(
    (outcome) => outcome.kind === "answer" && outcome.value.triples.length !== TRIPLES_PER_EXTRACT,
  ).length;
  return [
    formatTally(tally),
    `extracts: ${Object.entries(counts)
      .filter(([, count]) => count > 0)
      .map(([name, count]) => `${formatNumber(count)} ${name}`)
      .join(", ")}`,
    ...(otherCounts > 0 ? [`${formatNumber(otherCounts)} answers did not hold ${TRIPLES_PER_EXTRACT} triples`] : []),
    ...problems.slice(0, SHOWN_PROBLEMS).map(formatProblem),
    ...(problems.length > SHOWN_PROBLEMS
      ? [`  and ${formatNumber(problems.length - SHOWN_PROBLEMS)} more, in ${printable(basename(files.report))}`]
      : []),
    ...sieve.stages.map(
      ({ name, kept, dropped }) =>
        `${formatNumber(kept).padStart(9)}  ${name}${dropped > 0 ? ` (${formatNumber(dropped)} dropped)` : ""}`,
    ),
    `verbatim: ${formatNumber(verbatim.exact)} to the character, ${formatNumber(verbatim.restored)} by this rule: ${VERBATIM_RULE}`,
    ...(ownModel === null
      ? []
      : [`rejected answers by ${ownModel.name}, ${formatNumber(result.cutOwnAnswers)} cut at their longest length`]),
    ...written.map(({ name, rows }) => `wrote ${printable(name)}: ${formatNumber(rows)} rows`),
    ...formatStop(result.stopped),
    ...(counts.failed > 0 ? ["the same command asks again for what failed"] : []),
    `report: ${printable(basename(files.report))}; every answer: ${printable(basename(files.journal))}`,
  ];
}

/** The report as a file. */
export function writeBuildReport(
  result: Omit<BuildResult, "written">,
  { server, temperature, ownModel, articles, testSize, seed }: BuildOptions,
  written: readonly WrittenFile[],
): string {
  const { sieve } = result;
  const extractAt = (index: number) => ({ article: result.extracts[index]!.article, extract: index + 1 });
  const report = {
    command: "data build",
    model: server.shownModel,
    server: shownUrl(server.baseUrl),
    temperature,
    rejected_from: ownModel?.name ?? null,
    rejected_cut: ownModel === null ? null : result.cutOwnAnswers,
    articles: articles.length,
    extracts: { all: result.extracts.length, ...countOutcomes(result.outcomes) },
    stopped: result.stopped,
    ...tallyJson(result.tally),
    stages: sieve.stages,
    verbatim: { ...result.verbatim, rule: VERBATIM_RULE },
    malformed_triples: result.outcomes.reduce(
      (sum, outcome) => sum + (outcome.kind === "answer" ? outcome.value.malformed : 0),
      0,
    ),
    test_size: testSize,
    seed: testSize === null ? null : seed,
    files: written,
    problems: problemsOf(result),
    dropped: sieve.dropped.map(({ extract, ...row }) => ({ ...row, ...extractAt(extract) })),
  };
  return `${JSON.stringify(report, null, 2)}\n`;
}

function countOutcomes(outcomes: readonly Outcome<TripleSet>[]) {
  const counts = { answered: 0, refused: 0, cut: 0, "invalid JSON": 0, "wrong shape": 0, failed: 0, "not asked": 0 };
  for (const outcome of outcomes) {
    if (outcome.kind === "answer") counts.answered++;
    else if (outcome.kind === "failed") counts.failed++;
    else if (outcome.kind === "unasked") counts["not asked"]++;
    else if (outcome.unusable.unusable === "refusal") counts.refused++;
    else if (outcome.unusable.unusable !== "no verdict") counts[outcome.unusable.unusable]++;
  }
  return counts;
}

function problemsOf({ extracts, outcomes }: Pick<BuildResult, "extracts" | "outcomes">): Problem[] {
  return outcomes.flatMap((outcome, i) => {
    const place = { article: extracts[i]!.article, extract: i + 1 };
    if (outcome.kind === "failed") return [{ ...place, problem: "failed", reason: outcome.reason }];
    if (outcome.kind !== "unusable") return [];
    return [{ ...place, problem: outcome.unusable.unusable, reason: outcome.unusable.reason }];
  });
}

function formatProblem({ article, extract, problem, reason }: Problem): string {
  return `  extract ${extract} (article ${article}): ${problem}: ${printable(reason, 120)}`;
}
