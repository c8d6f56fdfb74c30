import type { RunResult, RunStatus, SweepResults } from "../../src/sweep/results.ts";
import type { RunRecord } from "../../src/train/records.ts";

/** A run that learns as runs do: its loss falls from ln 2, the faster the higher `rate`. */
export function fakeRun(name: string, rate: number, change: Partial<RunResult> = {}, steps = 40): RunResult {
  const lossAt = (step: number) =>
    0.35 + (Math.LN2 - 0.35) * Math.exp((-rate * step) / steps) + 0.02 * Math.sin(step * 1.7 + rate);
  const trainRecords = Array.from({ length: steps }, (_, i): RunRecord => {
    const step = i + 1;
    const gain = Math.LN2 - lossAt(step);
    return {
      step,
      epoch: step / steps,
      loss: lossAt(step),
      "rewards/chosen": gain,
      "rewards/rejected": -gain,
      "rewards/margins": 2 * gain,
      "rewards/accuracies": Math.min(1, 0.5 + gain),
      grad_norm: 2 + Math.cos(step),
      kl: gain / 10,
    };
  });
  const evalRecords = [10, 20, 30, 40]
    .filter((step) => step <= steps)
    .map((step): RunRecord => {
      const { loss, ...rest } = trainRecords[step - 1]!;
      return {
        step,
        epoch: step / steps,
        eval_loss: loss! + 0.03,
        "eval_rewards/margins": rest["rewards/margins"]! * 0.9,
        "eval_rewards/accuracies": rest["rewards/accuracies"]!,
        "eval_kl/chosen": rest.kl! * 1.1,
      };
    });
  const best = evalRecords.reduce<RunRecord | null>(
    (lowest, record) => (lowest === null || record.eval_loss! < lowest.eval_loss! ? record : lowest),
    null,
  );
  return {
    name,
    settings: {},
    status: "done",
    reason: null,
    steps,
    totalSteps: steps,
    seconds: 61.5,
    trainRecords,
    evalRecords,
    final: evalRecords.at(-1) ?? null,
    best,
    ...change,
  };
}

/** A run that has not begun. */
export function pendingRun(name: string, settings: RunResult["settings"], status: RunStatus = "pending"): RunResult {
  return {
    ...{ name, settings, status, reason: null, steps: 0, totalSteps: null, seconds: null },
    ...{ trainRecords: [], evalRecords: [], final: null, best: null },
  };
}

export function fakeSweep(
  runs: readonly RunResult[],
  keys: readonly string[] = ["beta", "learning_rate"],
): SweepResults {
  return { folder: "runs/sweep", keys, metric: { name: "eval_loss", isLowerBetter: true }, runs };
}

/** β by learning rate, with a run of each kind of end. */
export function gridSweep(): SweepResults {
  const runs = [0.1, 0.3, 0.5].flatMap((beta) =>
    [1e-6, 1e-5, 1e-4, 1e-3].map((learningRate, i) => {
      const rate = 0.4 + 1.1 * i - 0.5 * Math.abs(beta - 0.3) * i;
      return fakeRun(`run-${beta}-${learningRate}`, rate, { settings: { beta, learning_rate: learningRate } });
    }),
  );
  const stopped = {
    status: "stopped" as const,
    reason: "eval_loss 0.68 at step 20 lags behind the median 0.55",
    steps: 20,
  };
  runs[0] = { ...runs[0]!, ...stopped, evalRecords: runs[0]!.evalRecords.slice(0, 2), final: runs[0]!.evalRecords[1]! };
  const failed = { status: "failed" as const, reason: "step 3: the gradient is not finite, first in layers.0.q_proj" };
  runs[11] = { ...pendingRun(runs[11]!.name, runs[11]!.settings), ...failed, steps: 2, totalSteps: 40 };
  runs[10] = pendingRun(runs[10]!.name, runs[10]!.settings);
  return fakeSweep(runs);
}
