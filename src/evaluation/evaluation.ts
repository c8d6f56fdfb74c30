import type { StyleReport } from "../style/compare-groups.ts";
import { shareInterval } from "../style/estimate.ts";
import type { Metrics } from "../train/metrics.ts";
import { EVAL_PREFIX } from "../train/records.ts";
import { versions } from "../train/versions.ts";
import type { Answer, AskSettings } from "./answer-questions.ts";
import type { Computed } from "./compute.ts";
import type { Judging } from "./judge.ts";
import type { ChosenSource } from "./material.ts";

/** A question, and what was answered. */
export interface AnsweredRow {
  readonly question: string;
  readonly base: Answer;
  readonly trained: Answer;
  /** The answer that was preferred, where the question comes from a pair. */
  readonly chosen: string | null;
}

/** What an evaluation has found. */
export interface Evaluation {
  /** Folders, or ids of the Hub, as they were given. */
  readonly model: string;
  readonly trained: string;
  /** The file of questions; null for the prompts of the held-out pairs. */
  readonly questions: string | null;
  readonly chosenFrom: ChosenSource;
  readonly ask: AskSettings;
  readonly computed: Computed;
  readonly heldOutPairs: number;
  readonly rows: readonly AnsweredRow[];
  readonly style: StyleReport;
  /** Null where no judge was asked. */
  readonly judging: Judging | null;
}

/** Of the pairs, the share whose chosen answer got the higher reward, as far as so many pairs tell it. */
export function accuracyInterval({ computed, heldOutPairs }: Evaluation): readonly [number, number] | null {
  const accuracy = computed.preference?.["rewards/accuracies"];
  return accuracy === undefined ? null : shareInterval(accuracy, heldOutPairs);
}

/** Questions that both models answer alike to the letter. */
export function countIdentical({ rows }: Evaluation): number {
  return rows.filter(({ base, trained }) => base.text === trained.text).length;
}

/** eval.json. The metrics have the names that they have in metrics.jsonl. */
export function evaluationJson(evaluation: Evaluation): object {
  const { model, trained, questions, chosenFrom, ask, computed, heldOutPairs, rows, style, judging } = evaluation;
  return {
    versions: versions(),
    device: computed.device,
    weights: computed.format,
    model,
    trained,
    sha256: computed.sha256,
    questions: { from: questions ?? "held-out pairs", count: rows.length },
    generation: {
      max_new_tokens: ask.maxNewTokens,
      temperature: ask.temperature,
      top_p: ask.topP,
      seed: ask.seed,
    },
    answers: {
      identical: countIdentical(evaluation),
      cut: {
        base: rows.filter(({ base }) => base.isCut).length,
        trained: rows.filter((row) => row.trained.isCut).length,
      },
    },
    preference: computed.preference && {
      pairs: heldOutPairs,
      accuracy_interval: accuracyInterval(evaluation),
      ...withPrefix(computed.preference),
    },
    chosen_answers: chosenFrom,
    style: snakeKeys(style),
    judge: judging && {
      temperature: judging.temperature,
      verdicts: judging.verdicts.map(({ scores: _, ...verdict }) => verdict),
    },
  };
}

/** answers.jsonl: a line a question. */
export function answersJsonl({ rows, judging }: Evaluation): string {
  const lines = rows.map(({ question, base, trained, chosen }, i) => {
    const scores = judging?.verdicts.map(({ judge, scores }) => ({ judge, ...scores[i]! }));
    return JSON.stringify({
      question,
      base: base.text,
      base_is_cut: base.isCut,
      trained: trained.text,
      trained_is_cut: trained.isCut,
      ...(chosen === null ? {} : { chosen }),
      ...(scores ? { scores } : {}),
    });
  });
  return lines.map((line) => `${line}\n`).join("");
}

function withPrefix(metrics: Metrics): Metrics {
  return Object.fromEntries(Object.entries(metrics).map(([name, value]) => [`${EVAL_PREFIX}${name}`, value]));
}

/** Names as JSON has them: `p_value` for `pValue`. What is counted under names of its own is a value here, not a key. */
function snakeKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(snakeKeys);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value);
  return Object.fromEntries(
    entries.map(([name, item]) => [name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), snakeKeys(item)]),
  );
}
