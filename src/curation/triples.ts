import { z } from "zod";
import type { Response } from "./ask/journal.ts";
import { describeJson, readJsonAnswer } from "./ask/json-answer.ts";
import type { Unusable } from "./ask/questions.ts";
import type { ChatRequest } from "./ask/server.ts";

export const TRIPLES_PER_EXTRACT = 5;
/** Longest answer of the server in tokens, as in the chapter. */
export const TRIPLES_MAX_TOKENS = 2000;

const TRIPLE = z.object({ instruction: z.string(), generated_answer: z.string(), extracted_answer: z.string() });
const ANSWER = { name: "preference_triples", schema: z.object({ preference_triples: z.array(TRIPLE) }) };

export interface Triple {
  readonly instruction: string;
  /** By the server's model: the answer to be rejected. */
  readonly generated: string;
  /** Copied from the extract, or so the model was told: the answer to be chosen. */
  readonly extracted: string;
}

export interface TripleSet {
  readonly triples: readonly Triple[];
  /** Elements that were no triples. */
  readonly malformed: number;
}

/** What is asked for an extract. The prompts are those of the LLM Engineer's Handbook, chapter 6. */
export function triplesRequest(extract: string, temperature: number): ChatRequest {
  return {
    messages: [
      {
        role: "system",
        content:
          "You are a helpful assistant who generates instruction-answer triples based on the given context. Each triple should " +
          "include an instruction, a generated answer, and an extracted answer from the context. Provide your response in JSON format.",
      },
      { role: "user", content: `${TASK}\n\nExtract:\n${extract}\n` },
    ],
    temperature,
    maxTokens: TRIPLES_MAX_TOKENS,
    schema: ANSWER,
  };
}

const TASK = `Based on the following extract, generate five instruction-answer triples. Each triple should consist of:
1. An instruction asking about a specific topic in the context.
2. A generated answer that attempts to answer the instruction based on the context.
3. An extracted answer that is a relevant excerpt directly from the given context.

Instructions must be self-contained and general, without explicitly mentioning a context, system, course, or extract.

Important:
- Ensure that the extracted answer is a verbatim copy from the context, including all punctuation and apostrophes.
- Do not add any ellipsis (...) or [...] to indicate skipped text in the extracted answer.
- If the relevant text is not continuous, use two separate sentences from the context instead of skipping text.

Provide your response in JSON format with the following structure:
{
    "preference_triples": [
        {
            "instruction": "...",
            "generated_answer": "...",
            "extracted_answer": "..."
        },
        ...
    ]
}`;

/** Reads what the server answered. */
export function readTriples(response: Pick<Response, "content" | "refusal" | "finishReason">): TripleSet | Unusable {
  const answer = readJsonAnswer(response);
  if ("unusable" in answer) return answer;
  const list = z.object({ preference_triples: z.array(z.unknown()) }).safeParse(answer.json);
  if (!list.success) {
    return { unusable: "wrong shape", reason: `must hold preference_triples, found ${describeJson(answer.json)}` };
  }
  const elements = list.data.preference_triples;
  const triples = elements.flatMap((element) => {
    const { success, data } = TRIPLE.safeParse(element);
    if (!success) return [];
    return [{ instruction: data.instruction, generated: data.generated_answer, extracted: data.extracted_answer }];
  });
  if (triples.length === 0) {
    return { unusable: "wrong shape", reason: `must hold triples, found ${describeJson(elements)}` };
  }
  return { triples, malformed: elements.length - triples.length };
}
