import { z } from "zod";
import type { Response } from "../curation/ask/journal.ts";
import { describeJson, readJsonAnswer } from "../curation/ask/json-answer.ts";
import type { Unusable } from "../curation/ask/questions.ts";
import type { ChatRequest } from "../curation/ask/server.ts";

/** What a judge says of an answer, each from 1 (poor) to 3 (excellent). */
export interface Scores {
  readonly accuracy: number;
  readonly style: number;
}

const CRITERION = z.object({ analysis: z.string(), score: z.union([z.literal(1), z.literal(2), z.literal(3)]) });
const SCORES = { name: "evaluation", schema: z.object({ accuracy: CRITERION, style: CRITERION }) };

/** As in the chapter. */
const MAX_TOKENS = 1000;

/** What a judge is asked about an answer: the two criteria and scales of the LLM Engineer's Handbook, chapter 7. */
export function scoreRequest(instruction: string, answer: string, temperature: number): ChatRequest {
  return {
    messages: [
      { role: "system", content: "You score answers for accuracy and style, and reply in JSON." },
      { role: "user", content: `${CRITERIA}\n\nInstruction: ${instruction}\n\nAnswer: ${answer}\n\n${FORM}\n` },
    ],
    temperature,
    maxTokens: MAX_TOKENS,
    schema: SCORES,
  };
}

const CRITERIA = `Score the answer to the instruction below from 1 to 3 on each of two criteria. You know the topic as an expert does.

Accuracy: is what the answer says true?
1 (poor): it has errors, or misleads
2 (good): mostly right, with small errors or gaps
3 (excellent): right throughout, and complete

Style: does it read like a good blog post or social media text, with plain words and exact terms, and not like a formal or academic paper?
1 (poor): too formal, or its words are needlessly hard
2 (good): technical and readable, with some stiff phrases left
3 (excellent): easy to read all through, technical terms only where they are needed

"The model constitutes a noteworthy advancement over its predecessor across a multitude of evaluations." has style 1; "The model beats the one before it in most tests." has style 3.`;

const FORM = `Reply with JSON of this form, a sentence or two in each analysis:
{"accuracy": {"analysis": "...", "score": 1}, "style": {"analysis": "...", "score": 1}}`;

/** Reads a judge's reply. */
export function readScores(response: Pick<Response, "content" | "refusal" | "finishReason">): Scores | Unusable {
  const answer = readJsonAnswer(response);
  if ("unusable" in answer) return answer;
  const { data } = SCORES.schema.safeParse(answer.json);
  if (data) return { accuracy: data.accuracy.score, style: data.style.score };
  return {
    unusable: "wrong shape",
    reason: `must hold accuracy and style with an analysis and a score of 1, 2 or 3 each, found ${describeJson(answer.json)}`,
  };
}
