import type { Terminal } from "../terminal.ts";
import type { LogRecord, StepReport } from "./loop.ts";
import { type MemoryUse, type Progress, performanceRecord } from "./performance.ts";
import { formatEvaluation, formatStep } from "./progress.ts";
import type { RunFolder } from "./run-folder.ts";

/** What the loop tells on the way, brought to the files that grow and to the terminal. */
export interface RunReporter {
  readonly onStep: (report: StepReport) => void;
  readonly onRecord: (record: LogRecord) => Promise<void>;
  readonly progress: () => Progress;
}

const NOTHING_DONE: Progress = { steps: 0, pairs: 0, tokens: 0, elapsedMs: 0 };

/**
 * @param memoryUse asked at each record
 * @param before what was done of the run before it was interrupted
 */
export function createRunReporter(
  output: Pick<RunFolder, "record" | "recordPerformance">,
  totalSteps: number,
  terminal: Terminal,
  memoryUse: () => MemoryUse,
  before: Progress = NOTHING_DONE,
): RunReporter {
  let { steps, pairs, tokens, elapsedMs } = before;
  let resumedMs = performance.now();
  let measured = before;
  const progress = (): Progress => ({ steps, pairs, tokens, elapsedMs });
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
      if (record.eval_loss === undefined) {
        const now = progress();
        await output.recordPerformance(performanceRecord(now, measured, memoryUse()));
        measured = now;
        return;
      }
      terminal.line(formatEvaluation(record));
      resumedMs = performance.now();
    },
    progress,
  };
}
