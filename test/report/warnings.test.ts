import { describe, expect, it } from "vitest";
import { findDataWarnings } from "../../src/report/data-warnings.ts";
import { findWarnings } from "../../src/report/warnings.ts";
import type { RunRecord } from "../../src/train/records.ts";
import { RUN, readRun } from "./run-folders.ts";
import { fakeRun } from "./sweeps.ts";

const STEPS = 40;

/** Training records with these values at each step. */
function records(valuesAt: (step: number) => Readonly<Record<string, number | null>>, count = STEPS): RunRecord[] {
  return Array.from({ length: count }, (_, i) => ({ step: i + 1, ...valuesAt(i + 1) }));
}

const titles = (train: readonly RunRecord[], rest: Parameters<typeof readRun>[1] = {}) =>
  findWarnings(readRun(train, { run: { schedule: { total_steps: STEPS } }, ...rest })).map(({ title }) => title);

const healthy = fakeRun("healthy", 3, {}, STEPS);

it("a healthy run has no warning, nor has one without records", () => {
  expect(titles(healthy.trainRecords, { evaluation: healthy.evalRecords })).toEqual([]);
  expect(titles([])).toEqual([]);
});

describe("the loss at ln 2", () => {
  const stuckUntil = (end: number) => records((step) => ({ loss: step <= end ? 0.694 : 0.5, learning_rate: 2e-9 }));

  it("is told of where it lasts for a third of the run, with the learning rate", () => {
    expect(titles(stuckUntil(13))).toEqual([]);
    const [warning] = findWarnings(readRun(stuckUntil(20), { run: { schedule: { total_steps: STEPS } } }));
    expect(warning).toMatchObject({ title: "The loss stays at ln 2", found: expect.stringContaining("step 20") });
    expect(warning?.advice).toContain("2.000e-9");
  });

  it("is no sign in a run that has just begun, or with another loss", () => {
    expect(titles(stuckUntil(STEPS).slice(0, 8))).toEqual([]);
    expect(titles(stuckUntil(STEPS), { config: { loss_type: ["ipo"] } })).toEqual([]);
    expect(titles(stuckUntil(STEPS), { config: { loss_type: ["sigmoid", "sft"] } })).toEqual([]);
  });

  it("names the rows whose answers are equal", () => {
    const run = { schedule: { total_steps: STEPS }, data: { train: { equalAnswers: { rows: 7 } } } };
    expect(findWarnings(readRun(stuckUntil(STEPS), { run }))[0]?.advice).toContain("in 7 rows they are equal");
  });
});

describe("accuracy 1.0", () => {
  const perfectFrom = (start: number) => records((step) => ({ "rewards/accuracies": step >= start ? 1 : 0.8 }));

  it("is told of where it comes in the first third", () => {
    expect(titles(perfectFrom(5))).toEqual(["Accuracy 1.0 early"]);
    expect(titles(perfectFrom(12))).toEqual([]);
  });

  it("of two records is chance", () => {
    expect(titles(records((step) => ({ "rewards/accuracies": step === 5 || step === 6 ? 1 : 0.8 })))).toEqual([]);
  });
});

describe("the chosen answers' reward", () => {
  const moving = (chosen: number, rejected: number) =>
    records((step) => ({
      "rewards/chosen": (chosen * step) / STEPS,
      "rewards/margins": ((chosen - rejected) * step) / STEPS,
    }));

  it("is told of where it falls while the margin grows", () => {
    expect(titles(moving(-1, -3))).toEqual(["The chosen answers become less likely"]);
  });

  it.each([
    ["rises", 1, -1],
    ["holds", -0.01, -2],
    ["falls with the margin", -1, 0],
  ])("is well where it %s", (_, chosen, rejected) => expect(titles(moving(chosen, rejected))).toEqual([]));
});

describe("evaluation", () => {
  const evaluated = (losses: readonly (number | null)[]) =>
    losses.map((loss, i): RunRecord => ({ step: 10 * (i + 1), eval_loss: loss }));
  const training = records((step) => ({ loss: step > 30 ? 0.3 : 0.6 }));

  it("is told of where its loss rises again", () => {
    expect(titles([], { evaluation: evaluated([0.6, 0.5, 0.55, 0.6]) })).toEqual(["The evaluation loss rises again"]);
    expect(titles([], { evaluation: evaluated([0.6, 0.5, 0.505, 0.51]) })).toEqual([]);
    expect(titles([], { evaluation: evaluated([0.5, 0.9]) }), "two points are no course").toEqual([]);
    expect(titles([], { evaluation: evaluated([null, null, null]) })).toEqual(["Values that are not finite"]);
  });

  it("is told of where it stays far above training", () => {
    expect(titles(training, { evaluation: evaluated([0.6, 0.5]) })).toEqual(["Evaluation lags behind training"]);
    expect(titles(training, { evaluation: evaluated([0.6, 0.4]) })).toEqual([]);
  });
});

describe("spikes of the gradient", () => {
  it("are told of by their steps", () => {
    const train = records((step) => ({ grad_norm: step === 12 || step === 30 ? 30 : 2 + (step % 3) }));
    const [warning] = findWarnings(readRun(train));
    expect(warning?.found).toContain("30 at step 12, 30 at step 30.");
  });

  it("are not seen in the first steps, nor in a norm that falls from high", () => {
    expect(titles(records((step) => ({ grad_norm: step === 3 ? 100 : 100 / step })))).toEqual([]);
  });
});

it("values that are not finite are counted", () => {
  const train = records((step) => ({ loss: step > 38 ? null : 0.6, grad_norm: step === 38 ? Number.NaN : 1 }));
  expect(findWarnings(readRun(train))[0]).toMatchObject({
    title: "Values that are not finite",
    found: "3 of the recorded values, the first at step 38: grad_norm.",
  });
});

describe("warnings of the data", () => {
  const found = (train: object) =>
    findDataWarnings({ run: { ...RUN, data: { train: { ...RUN.data.train, ...train } } } }).map(({ title }) => title);

  it("are none where it is well, or not known", () => {
    expect(found({})).toEqual([]);
    expect(findDataWarnings({ run: {} })).toEqual([]);
    expect(findDataWarnings({ run: { data: "no", merge: [1] } })).toEqual([]);
  });

  it("tell of equal answers, of cut ones and of lengths", () => {
    expect(found({ equalAnswers: { rows: 3, first: "data.jsonl:7" } })).toEqual(["Pairs that teach nothing"]);
    expect(found({ cut: { chosen: 2, rejected: 50 } })).toEqual(["Many answers are cut"]);
    expect(found({ chosenLongerShare: 0.93 })).toEqual(["Length gives the chosen answer away"]);
  });

  it("hold the merge's advice", () => {
    expect(findDataWarnings({ run: { merge: { fidelity: { advice: "export in float16" } } } })[0]?.advice).toBe(
      "export in float16",
    );
  });
});
