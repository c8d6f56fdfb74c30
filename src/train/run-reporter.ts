import type { Terminal } from "../terminal.ts";
import type { LogRecord, StepReport } from "./loop.ts";
import { formatEvaluation, formatStep } from "./progress.ts";
import type { RunFolder } from "./run-folder.ts";

/** What the loop tells on the way, brought to metrics.jsonl and to the terminal. */
export interface RunReporter {
  readonly onStep: (report: StepReport) => void;
  readonly onRecord: (record: LogRecord) => Promise<void>;
  /** Steps done, the pairs and tokens of them, and the time that took: evaluations are left out. */
  readonly pace: () => { steps: number; pairs: number; tokens: number; stepsSeconds: number };
}

export function createRunReporter(output: RunFolder, totalSteps: number, terminal: Terminal): RunReporter {
  let steps = 0;
  let pairs = 0;
  let tokens = 0;
  let elapsedMs = 0;
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
    pace: () => ({ steps, pairs, tokens, stepsSeconds: elapsedMs / 1000 }),
  };
}
