import { InputError } from "../errors.ts";
import type { Terminal } from "../terminal.ts";
import { writeFileAtomically } from "../weights/atomic-file.ts";
import { type AskSettings, askAll } from "./ask/ask.ts";
import { type BudgetLimits, createBudget, type Prices } from "./ask/budget.ts";
import { type JournalEntry, readJournal } from "./ask/journal.ts";
import { hashRequest, type Outcome, type Question, settleAll } from "./ask/questions.ts";
import { type ChatServer, shownUrl } from "./ask/server.ts";
import { estimateCalls, formatEstimate, formatLimits, formatNumber, tallyCalls, usageOf } from "./ask/tally.ts";
import type { CurationFiles } from "./files.ts";
import { judgeRequest, type LetterVerdict, readVerdict } from "./judge-prompt.ts";
import { formatJudging, type JudgeResult, writeJudgeReport } from "./judge-report.ts";
import type { JudgeExample, JudgeInput, JudgeRow } from "./judge-rows.ts";
import { type Agreement, bestAndWorst, juryVerdict, type Vote, voteOf } from "./jury.ts";
import { type OutputRow, writeRows } from "./rows-out.ts";
import { withJournal } from "./session.ts";

export interface JudgeOptions {
  readonly input: JudgeInput;
  readonly examples: readonly JudgeExample[];
  readonly files: CurationFiles;
  readonly judges: readonly ChatServer[];
  readonly agreement: Agreement;
  readonly temperature: number;
  readonly ask: AskSettings;
  readonly limits: BudgetLimits;
  readonly prices: Prices | null;
  readonly terminal: Terminal;
}

const TASK = "data judge";
/** Of a verdict with its reasoning. */
const EXPECTED_TOKENS_PER_VERDICT = 250;

/** Two answers of a row, and what each judge is asked about them. */
export interface JudgePair {
  /** Index of the row. */
  readonly row: number;
  /** Indices of its answers. */
  readonly first: number;
  readonly second: number;
  /** For each judge the question with `first` as answer A, and that with `second`. */
  readonly questions: readonly {
    readonly forward: Question<LetterVerdict>;
    readonly backward: Question<LetterVerdict>;
  }[];
}

export interface JudgedPair extends JudgePair {
  /** One of each judge. */
  readonly votes: readonly Vote[];
}

/** Says what `judgeRows` would ask. Asks nothing and writes nothing. */
export async function planJudging(options: JudgeOptions): Promise<void> {
  announce(options, questionsOf(pairsOf(options)), await readJournal(options.files.journal, TASK));
  options.terminal.line("nothing was asked (--dry-run)");
}

/**
 * Has every pair of answers judged by every judge in both orders, and writes a row for each prompt on whose answers the
 * jury agrees, with a report. What the journal beside the output holds is not asked again.
 *
 * @throws InputError where the jury agrees on no row or a server refuses every call; the signal's reason
 */
export async function judgeRows(options: JudgeOptions, signal: AbortSignal): Promise<JudgeResult> {
  const { files, terminal, prices, input } = options;
  const pairs = pairsOf(options);
  const questions = questionsOf(pairs);
  return withJournal(files, [files.out], TASK, terminal, signal, async (journal) => {
    announce(options, questions, journal.entries);
    const past = usageOf(journal.entries);
    const budget = createBudget(options.limits, prices, past);
    const asked = await askAll(questions, {
      ...options.ask,
      journal,
      budget,
      signal,
      onProgress: (done, total, failedCalls) =>
        terminal.status(`verdicts ${done}/${total}${failedCalls > 0 ? `  ${failedCalls} calls failed` : ""}`),
    });
    const judged = pairs.map((pair) => ({ ...pair, votes: votesOn(pair, asked.outcomes) }));
    const pairsByRow = input.rows.map((): JudgedPair[] => []);
    for (const pair of judged) pairsByRow[pair.row]!.push(pair);
    const verdicts = input.rows.map((row, i) => rowVerdict(row, pairsByRow[i]!, options.agreement));
    const rows = input.rows.flatMap((row, i) => outputRow(row, verdicts[i]!));
    const written = rows.length === 0 ? [] : await writeRows({ all: rows, split: null }, files);
    const result: JudgeResult = {
      pairsByRow,
      outcomes: asked.outcomes,
      verdicts,
      stopped: asked.stopped,
      tally: tallyCalls(journal.entries, past.length, budget.spent, prices),
      written,
    };
    await writeFileAtomically(files.report, writeJudgeReport(result, options));
    for (const line of formatJudging(result, options)) terminal.line(line);
    if (rows.length === 0) throw new InputError("the jury agrees on no row, so there is none to write: see the report");
    return result;
  });
}

function pairsOf({ input, judges, examples, temperature }: JudgeOptions): JudgePair[] {
  const names = judgeNames(judges);
  return input.rows.flatMap(({ prompt, answers }, row) =>
    answers.flatMap((_, first) =>
      answers.slice(first + 1).map((_, offset): JudgePair => {
        const second = first + 1 + offset;
        const ask = (judge: number, a: number, b: number): Question<LetterVerdict> => {
          const texts = { instruction: prompt, answerA: answers[a]!, answerB: answers[b]! };
          const request = judgeRequest(texts, examples, temperature);
          return { server: judges[judge]!, request, hash: hashRequest(names[judge]!, request), read: readVerdict };
        };
        const questions = judges.map((_, judge) => ({
          forward: ask(judge, first, second),
          backward: ask(judge, second, first),
        }));
        return { row, first, second, questions };
      }),
    ),
  );
}

/** The judges' models; a model that judges twice is told apart from itself by its place. */
function judgeNames(judges: readonly ChatServer[]): string[] {
  return judges.map(({ model }, i) => {
    const before = judges.slice(0, i).filter((judge) => judge.model === model).length;
    return before === 0 ? model : `${model} ${before + 1}`;
  });
}

function questionsOf(pairs: readonly JudgePair[]): Question<LetterVerdict>[] {
  return pairs.flatMap(({ questions }) => questions.flatMap(({ forward, backward }) => [forward, backward]));
}

function announce(
  { input, judges, examples, ask, prices, limits, temperature, terminal }: JudgeOptions,
  questions: readonly Question<LetterVerdict>[],
  entries: readonly JournalEntry[],
): void {
  const { rows, duplicates, equalAnswers } = input;
  const left = [
    ...(duplicates > 0 ? [`${formatNumber(duplicates)} that come again`] : []),
    ...(equalAnswers > 0 ? [`${formatNumber(equalAnswers)} whose answers are equal`] : []),
  ];
  terminal.line(
    `${formatNumber(rows.length)} rows to judge${left.length > 0 ? `, without ${left.join(" and ")}` : ""}`,
  );
  for (const judge of judges) terminal.line(`judge ${judge.shownModel} at ${shownUrl(judge.baseUrl)}`);
  const { open } = settleAll(questions, entries, ask.askAgain);
  const balance = examples.filter(({ best }) => best === "A").length;
  terminal.line(
    `temperature ${temperature}, ${examples.length} examples${examples.length > 0 ? ` (${balance} for A, ${examples.length - balance} for B)` : ""}, both orders asked; ` +
      `${formatNumber(questions.length - open.length)} of ${formatNumber(questions.length)} verdicts are there already`,
  );
  const requests = open.map(({ question }) => question.request);
  terminal.line(formatEstimate(estimateCalls(requests, EXPECTED_TOKENS_PER_VERDICT, prices)));
  terminal.line(formatLimits(limits));
}

function votesOn({ questions }: JudgePair, outcomes: ReadonlyMap<string, Outcome<LetterVerdict>>): Vote[] {
  const letterOf = ({ hash }: Question<LetterVerdict>) => {
    const outcome = outcomes.get(hash);
    return outcome?.kind === "answer" ? outcome.value.best : null;
  };
  return questions.map(({ forward, backward }) => voteOf(letterOf(forward), letterOf(backward)));
}

/** Indices of the answers that a row's verdict chooses and rejects; null where the jury does not agree. */
export interface RowVerdict {
  readonly chosen: number;
  readonly rejected: number;
}

function rowVerdict({ answers }: JudgeRow, pairs: readonly JudgedPair[], agreement: Agreement): RowVerdict | null {
  const verdicts = pairs.flatMap(({ first, second, votes }) => {
    const verdict = juryVerdict(votes, agreement);
    if (verdict === null) return [];
    return [verdict === "first" ? { winner: first, loser: second } : { winner: second, loser: first }];
  });
  const best = bestAndWorst(answers.length, verdicts);
  return best && { chosen: best.winner, rejected: best.loser };
}

function outputRow({ prompt, answers }: JudgeRow, verdict: RowVerdict | null): OutputRow[] {
  if (verdict === null) return [];
  return [{ prompt, chosen: answers[verdict.chosen]!, rejected: answers[verdict.rejected]! }];
}
