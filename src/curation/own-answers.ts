import type { Journal } from "./ask/journal.ts";
import { sha256Hex } from "./ask/questions.ts";
import type { Candidate } from "./curate.ts";
import { strip } from "./python-text.ts";

/** A model of ours that writes the rejected answers, so that the data is on-policy. */
export interface OwnModel {
  /** As it may be shown. */
  readonly name: string;
  /** All that its answers depend on: files, template, sampling. Where it changes, all is answered anew. */
  readonly identity: string;
  /** Called once, and only where there is something to answer. */
  readonly open: () => Promise<OpenModel>;
}

export interface OpenModel {
  /** The same prompt and seed give the same answer on the same device. Throws the signal's reason when aborted. */
  readonly answer: (prompt: string, seed: number) => Promise<{ readonly text: string; readonly isCut: boolean }>;
  readonly close: () => Promise<void>;
}

export interface OwnAnswersOptions {
  readonly journal: Journal;
  readonly signal: AbortSignal;
  readonly onProgress: (done: number, total: number) => void;
}

/** The rows with the model's own answers as rejected ones, and how many of these ended at their longest length. */
export async function answerOwn(
  rows: readonly Candidate[],
  model: OwnModel,
  { journal, signal, onProgress }: OwnAnswersOptions,
): Promise<{ readonly rows: Candidate[]; readonly cut: number }> {
  const answers = new Map<string, { text: string; isCut: boolean }>();
  for (const entry of journal.entries) if (entry.kind === "generation") answers.set(entry.request, entry);
  const keyOf = ({ prompt, chosen }: Candidate) => sha256Hex(JSON.stringify([model.identity, prompt, chosen]));
  const open = rows.filter((row) => !answers.has(keyOf(row)));

  if (open.length > 0) {
    const opened = await model.open();
    try {
      for (const [done, row] of open.entries()) {
        signal.throwIfAborted();
        const request = keyOf(row);
        const at = new Date().toISOString();
        const startMs = performance.now();
        const { text, isCut } = await opened.answer(row.prompt, Number.parseInt(request.slice(0, 8), 16));
        const elapsedMs = Math.round(performance.now() - startMs);
        await journal.append({ kind: "generation", request, at, elapsedMs, text, isCut });
        answers.set(request, { text, isCut });
        onProgress(done + 1, open.length);
      }
    } finally {
      await opened.close();
    }
  }
  const answered = rows.map((row) => ({ row, answer: answers.get(keyOf(row))! }));
  return {
    rows: answered.map(({ row, answer }) => ({ ...row, rejected: strip(answer.text) })),
    cut: answered.filter(({ answer }) => answer.isCut).length,
  };
}
