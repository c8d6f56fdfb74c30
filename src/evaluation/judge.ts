import { type AskSettings, askAll, formatStop } from "../curation/ask/ask.ts";
import { type BudgetLimits, createBudget, type Prices } from "../curation/ask/budget.ts";
import type { Journal } from "../curation/ask/journal.ts";
import { hashRequest, type Question, settleAll } from "../curation/ask/questions.ts";
import { type ChatServer, shownUrl } from "../curation/ask/server.ts";
import {
  estimateCalls,
  formatEstimate,
  formatLimits,
  formatTally,
  type Tally,
  tallyCalls,
  usageOf,
} from "../curation/ask/tally.ts";
import { type Estimate, estimateMean } from "../style/estimate.ts";
import type { Terminal } from "../terminal.ts";
import { readScores, type Scores, scoreRequest } from "./judge-prompt.ts";

export interface JudgeSettings {
  readonly judges: readonly ChatServer[];
  readonly temperature: number;
  readonly ask: AskSettings;
  readonly limits: BudgetLimits;
  readonly prices: Prices | null;
}

/** A question with both models' answers. */
export interface AnsweredQuestion {
  readonly question: string;
  readonly base: string;
  readonly trained: string;
}

export interface JudgedCriterion {
  readonly base: Estimate | null;
  readonly trained: Estimate | null;
  /** Of the questions whose two answers both have a score: the trained model's less the base's. */
  readonly difference: Estimate | null;
}

export interface JudgeVerdict {
  /** As it may be shown. */
  readonly judge: string;
  readonly accuracy: JudgedCriterion;
  readonly style: JudgedCriterion;
  /** Answers without a score, whatever kept the judge from giving one. */
  readonly unscored: number;
  /** Of each question, in their order; null where the judge gave none. */
  readonly scores: readonly { readonly base: Scores | null; readonly trained: Scores | null }[];
}

export interface Judging {
  readonly temperature: number;
  readonly verdicts: readonly JudgeVerdict[];
  readonly tally: Tally;
}

/** Of two short analyses. */
const EXPECTED_TOKENS = 200;

/**
 * Has every answer scored by every judge, without telling whose it is. What the journal holds is not asked again.
 *
 * @throws InputError where no call to a server can succeed; the signal's reason
 */
export async function judgeAnswers(
  answered: readonly AnsweredQuestion[],
  { judges, temperature, ask, limits, prices }: JudgeSettings,
  journal: Journal,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<Judging> {
  const questionsOf = judges.map((server) => {
    const about = (question: string, answer: string): Question<Scores> => {
      const request = scoreRequest(question, answer, temperature);
      return { server, request, hash: hashRequest(server.model, request), read: readScores };
    };
    return answered.map(({ question, base, trained }) => ({
      base: about(question, base),
      trained: about(question, trained),
    }));
  });
  const questions = questionsOf.flat().flatMap(({ base, trained }) => [base, trained]);
  for (const { shownModel, baseUrl } of judges) terminal.line(`judge ${shownModel} at ${shownUrl(baseUrl)}`);
  const { open } = settleAll(questions, journal.entries, ask.askAgain);
  const requests = open.map(({ question }) => question.request);
  terminal.line(formatEstimate(estimateCalls(requests, EXPECTED_TOKENS, prices)));
  terminal.line(formatLimits(limits));

  const past = usageOf(journal.entries);
  const budget = createBudget(limits, prices, past);
  const onProgress = (done: number, total: number, failedCalls: number) =>
    terminal.status(`scores: ${done} of ${total}${failedCalls > 0 ? `  ${failedCalls} calls failed` : ""}`);
  const { outcomes, stopped } = await askAll(questions, { ...ask, journal, budget, signal, onProgress });
  const tally = tallyCalls(journal.entries, past.length, budget.spent, prices);
  for (const line of [...formatStop(stopped), formatTally(tally)]) terminal.line(line);

  const scoresOf = ({ hash }: Question<Scores>): Scores | null => {
    const outcome = outcomes.get(hash);
    return outcome?.kind === "answer" ? outcome.value : null;
  };
  const verdicts = judges.map(({ shownModel }, judge) => {
    const scores = questionsOf[judge]!.map(({ base, trained }) => ({
      base: scoresOf(base),
      trained: scoresOf(trained),
    }));
    return describeVerdict(shownModel, scores);
  });
  return { temperature, verdicts, tally };
}

function describeVerdict(judge: string, scores: JudgeVerdict["scores"]): JudgeVerdict {
  const criterion = (name: keyof Scores): JudgedCriterion => ({
    base: estimateMean(scores.flatMap(({ base }) => (base ? [base[name]] : []))),
    trained: estimateMean(scores.flatMap(({ trained }) => (trained ? [trained[name]] : []))),
    difference: estimateMean(
      scores.flatMap(({ base, trained }) => (base && trained ? [trained[name] - base[name]] : [])),
    ),
  });
  const unscored = scores.flatMap(({ base, trained }) => [base, trained]).filter((found) => found === null).length;
  return { judge, accuracy: criterion("accuracy"), style: criterion("style"), unscored, scores };
}
