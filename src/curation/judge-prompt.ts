import { printable } from "../text.ts";
import type { Response } from "./ask/journal.ts";
import type { Unusable } from "./ask/questions.ts";
import type { ChatMessage, ChatRequest } from "./ask/server.ts";
import type { JudgeExample } from "./judge-rows.ts";

/** Room for the reasoning. */
export const VERDICT_MAX_TOKENS = 1000;

export type Letter = "A" | "B";
export interface LetterVerdict {
  readonly best: Letter;
}

/** The pairwise question of the LLM Engineer's Handbook, chapter 6, table 6.2, behind examples where there are some. */
export function judgeRequest(
  question: { readonly instruction: string; readonly answerA: string; readonly answerB: string },
  examples: readonly JudgeExample[],
  temperature: number,
): ChatRequest {
  const shown = examples.flatMap((example): ChatMessage[] => [
    { role: "user", content: prompt(example) },
    { role: "assistant", content: `Reasoning: ${example.reasoning}\nBest answer: ${example.best}` },
  ]);
  return {
    messages: [...shown, { role: "user", content: prompt(question) }],
    temperature,
    maxTokens: VERDICT_MAX_TOKENS,
    schema: null,
  };
}

function prompt({
  instruction,
  answerA,
  answerB,
}: {
  readonly instruction: string;
  readonly answerA: string;
  readonly answerB: string;
}): string {
  return `You are an answer judge. Your goal is to compare answer A and answer B. I want to know which answer does a better job of answering the instruction in terms of relevance, accuracy, completeness, clarity, structure, and conciseness.

Instruction: ${instruction}

Answer A: ${answerA}

Answer B: ${answerB}

Explain your reasoning step by step and output the letter of the best answer using the following structure:
Reasoning: (compare the two answers)
Best answer: (A or B)
`;
}

/** The last "Best answer: X" of a reply, in whatever dress: `**Best answer:** B`, `"best_answer": "A"`, `(A)`. */
const VERDICT =
  /best[\s_]*answer["'*_\s]*(?:is|:)["'*_\s([]*(?:answer\s+)?([AB])\b(?!["'*\s)\]]*(?:or|and|\/|,)\s*[("']*[AB]\b)/gi;

/** Reads a judge's reply. */
export function readVerdict({
  content,
  refusal,
  finishReason,
}: Pick<Response, "content" | "refusal" | "finishReason">): LetterVerdict | Unusable {
  if (refusal !== null || finishReason === "content_filter") {
    return { unusable: "refusal", reason: printable(refusal ?? "stopped by the server's content filter") };
  }
  const letter = Array.from(content.matchAll(VERDICT)).at(-1)?.[1]?.toUpperCase();
  if (letter === "A" || letter === "B") return { best: letter };
  if (finishReason === "length") return { unusable: "cut", reason: "the reply was cut off before its verdict" };
  return {
    unusable: "no verdict",
    reason: `must end with Best answer: A or B, found ${printable(content.slice(-80))}`,
  };
}
