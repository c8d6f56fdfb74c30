import type { Terminal } from "../terminal.ts";
import type { LogRecord, StepReport } from "./loop.ts";
import { formatEvaluation, formatStep } from "./progress.ts";
import type { RunFolder } from "./run-folder.ts";

/** How far a run has come, and in which time: evaluations are left out. */
export interface Progress {
  readonly steps: number;
  readonly pairs: number;
  readonly tokens: number;
  readonly elapsedMs: number;
}

/** What the loop tells on the way, brought to metrics.jsonl and to the terminal. */
export interface RunReporter {
  readonly onStep: (report: StepReport) => void;
  readonly onRecord: (record: LogRecord) => Promise<void>;
  readonly progress: () => Progress;
}

const NOTHING_DONE: Progress = { steps: 0, pairs: 0, tokens: 0, elapsedMs: 0 };

/** @param before what was done of the run before it was interrupted */
export function createRunReporter(
  output: RunFolder,
  totalSteps: number,
  terminal: Terminal,
  before: Progress = NOTHING_DONE,
): RunReporter {
  let { steps, pairs, tokens, elapsedMs } = before;
  let resumedMs = performance.now();
  return {
    onStep: (report) => {
      const nowMs = performance.now();
      elapsedMs += nowMs - resumedMs;
      resumedMs = nowMs;
      steps = report.step;
      pairs += report.pairs;
      tokens += report.tokens;
      terminal.progress(formatStep(report, { totalSteps, elapsedMs, pairs, tokens }));
    },
    onRecord: async (record) => {
      await output.record(record);
      if (record.eval_loss === undefined) return;
      terminal.line(formatEvaluation(record));
      resumedMs = performance.now();
    },
    progress: () => ({ steps, pairs, tokens, elapsedMs }),
  };
}
