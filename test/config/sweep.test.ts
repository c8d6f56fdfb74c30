import { describe, expect, it, test } from "vitest";
import { parseConfig } from "../../src/config/load.ts";
import { parseSweep, type Sweep } from "../../src/config/sweep.ts";
import { InputError } from "../../src/errors.ts";

const BASE = "model: m\ndataset: d.jsonl\neval_dataset: e.jsonl\noutput_dir: out\n";

function sweepOf(section: string, ...set: string[]): Sweep {
  return parseSweep(`${BASE}sweep:\n  ${section.split("\n").join("\n  ")}\n`, "s.yaml", set);
}

function problemsOf(section: string, ...set: string[]): string[] {
  try {
    sweepOf(section, ...set);
  } catch (error) {
    if (error instanceof InputError) return error.message.split("\n");
    throw error;
  }
  return [];
}

describe("a grid", () => {
  it("is every combination, the last setting changing fastest, each run in a folder of its own", () => {
    const { runs, keys, folder } = sweepOf("grid:\n  beta: [0.1, 0.5]\n  lora.r: [8, 16, 32]");
    expect(keys).toEqual(["beta", "lora.r"]);
    expect(folder).toBe("out");
    expect(runs.map(({ name }) => name)).toEqual([
      "beta=0.1,lora.r=8",
      "beta=0.1,lora.r=16",
      "beta=0.1,lora.r=32",
      "beta=0.5,lora.r=8",
      "beta=0.5,lora.r=16",
      "beta=0.5,lora.r=32",
    ]);
    expect(runs.map(({ config }) => [config.beta, config.lora.r])).toEqual([
      [0.1, 8],
      [0.1, 16],
      [0.1, 32],
      [0.5, 8],
      [0.5, 16],
      [0.5, 32],
    ]);
    expect(runs.map(({ config }) => config.output_dir)).toEqual(runs.map(({ name }) => `out/${name}`));
  });

  it("gives runs the config's other settings, and leaves merging to the best of them", () => {
    const [run] = sweepOf("grid: {beta: [0.1]}", "learning_rate=0.003").runs;
    const plain = parseConfig(BASE, "s.yaml", ["learning_rate=0.003", "beta=0.1"]);
    expect(run!.config).toEqual({
      ...plain,
      output_dir: "out/beta=0.1",
      export: { ...plain.export, merged_16bit: false },
    });
    expect(run!.export.merged_16bit).toBe(true);
  });

  it("takes texts, lists and null, and a setting in place of its alternative", () => {
    const grid = "{lora.target_modules: [[q_proj], [q_proj, v_proj]], max_steps: [null, 5]}";
    const { runs } = parseSweep(`${BASE}num_train_epochs: 2\nsweep: {grid: ${grid}}\n`, "s.yaml");
    expect(runs.map(({ config }) => [config.lora.target_modules.length, config.max_steps])).toEqual([
      [1, undefined],
      [1, 5],
      [2, undefined],
      [2, 5],
    ]);
  });

  it("names folders so that every file system takes them, and no two alike", () => {
    const { runs } = sweepOf('grid: {init_adapter: ["a/b", "a\\\\b", "a b", "ü", "é"]}');
    const names = runs.map(({ name }) => name);
    expect(new Set(names).size).toBe(5);
    for (const name of names) expect(name).toMatch(/^[\w.,=+-]{1,110}$/);
    const [long] = sweepOf(`grid: {init_adapter: ["${"x".repeat(500)}"]}`).runs;
    expect(long!.name.length).toBeLessThan(120);
  });
});

describe("a random search", () => {
  const section = (count: number, seed = 1) =>
    `random:\n  beta: {log_uniform: [0.01, 1]}\n  weight_decay: {uniform: [0.1, 0.2]}\n  lora.r: {choice: [8, 16]}\ncount: ${count}\nseed: ${seed}`;

  it("draws as many runs as asked for, within the bounds", () => {
    const { runs } = sweepOf(section(200));
    expect(runs).toHaveLength(200);
    expect(new Set(runs.map(({ name }) => name)).size).toBe(200);
    for (const { config } of runs) {
      expect(config.beta).toBeGreaterThanOrEqual(0.01);
      expect(config.beta).toBeLessThanOrEqual(1);
      expect(config.weight_decay).toBeGreaterThanOrEqual(0.1);
      expect(config.weight_decay).toBeLessThanOrEqual(0.2);
    }
    // Half of a logarithmic range lies below its geometric mean, an eighth of it would in a uniform one.
    const below = runs.filter(({ config }) => config.beta < 0.1).length;
    expect(below).toBeGreaterThan(70);
    expect(below).toBeLessThan(130);
    const small = runs.filter(({ config }) => config.lora.r === 8).length;
    expect(small).toBeGreaterThan(70);
    expect(small).toBeLessThan(130);
    const low = runs.filter(({ config }) => config.weight_decay < 0.15).length;
    expect(low).toBeGreaterThan(70);
    expect(low).toBeLessThan(130);
  });

  it("is the same with the same seed, another with another, and begins the same however long it is", () => {
    const names = (text: string) => sweepOf(text).runs.map(({ name }) => name);
    expect(names(section(8))).toEqual(names(section(8)));
    expect(names(section(12)).slice(0, 8)).toEqual(names(section(8)));
    expect(names(section(8, 2))).not.toEqual(names(section(8)));
  });

  it("says when there are not so many different runs", () => {
    expect(problemsOf("random: {lora.r: [8, 16]}\ncount: 3")).toEqual([
      "s.yaml:6:11: sweep.random has only 2 different runs, and sweep.count is 3",
    ]);
  });
});

it("a list of runs is taken as it is", () => {
  const { runs, keys } = sweepOf("runs:\n  - {beta: 0.1}\n  - {beta: 0.5, seed: 7}");
  expect(keys).toEqual(["beta", "seed"]);
  expect(runs.map(({ name }) => name)).toEqual(["beta=0.1", "beta=0.5,seed=7"]);
});

it("written as YAML loads back to the same runs", () => {
  const sections = [
    "grid:\n  beta: [0.1, 0.5]\n  lora.target_modules: [[q_proj], [k_proj]]\nmetric: eval_rewards/margins",
    "random:\n  learning_rate: {log_uniform: [1.0e-8, 1.0e-5]}\n  max_steps: [null, 7]\ncount: 5",
  ];
  for (const section of sections) {
    const sweep = sweepOf(section, "label_smoothing=0.1", "sample_prompt='a: b'");
    const again = parseSweep(sweep.yaml, "again.yaml");
    expect(again.runs).toEqual(sweep.runs);
    expect(again.metric).toEqual(sweep.metric);
    expect(again.yaml).toBe(sweep.yaml);
  }
});

it("the command line can give the whole sweep, and take it away", () => {
  expect(parseSweep(BASE, "s.yaml", ["sweep={grid: {beta: [0.1, 0.2]}}"]).runs).toHaveLength(2);
  const text = `${BASE}sweep: {grid: {beta: [0.1]}}\n`;
  expect(parseConfig(text, "s.yaml", ["sweep=null"]).beta).toBe(0.1);
  expect(() => parseConfig(text, "s.yaml")).toThrow(
    "s.yaml:5:1: sweep describes many runs: start them with dpo-train sweep --config FILE, or leave it out of a single one with --set sweep=null",
  );
});

describe("the metric", () => {
  it("is the evaluation's loss, or what is named, or the loss where nothing is evaluated", () => {
    expect(sweepOf("grid: {beta: [1]}").metric).toEqual({ name: "eval_loss", isLowerBetter: true });
    expect(sweepOf("grid: {beta: [1]}\nmetric: eval_rewards/accuracies").metric.isLowerBetter).toBe(false);
    expect(sweepOf("grid: {beta: [1]}", "eval_dataset=null").metric.name).toBe("loss");
  });

  it("needs what it measures", () => {
    expect(problemsOf("grid: {beta: [1]}\nmetric: eval_loss", "eval_dataset=null")).toEqual([
      "s.yaml:5:1: sweep.metric eval_loss needs evaluations in every run: set eval_dataset or test_size, and no eval_strategy: no",
    ]);
  });
});

describe("mistakes are told with their place", () => {
  test.each([
    ["beta: [0.1]", "s.yaml:6:3: unknown key sweep.beta; it takes grid, random, runs, count, seed and metric"],
    ["gird: {beta: [0.1]}", "s.yaml:6:3: unknown key sweep.gird; did you mean grid?"],
    [
      "grid: {beta: [0.1]}\nrandom: {beta: [0.1]}\ncount: 1",
      "s.yaml:6:3: sweep must have one of grid, random and runs, got grid and random",
    ],
    ["grid: []", "s.yaml:6:9: sweep.grid must be a map of settings, got an empty list"],
    ["grid: {beta: 0.1}", "s.yaml:6:16: beta must be a list of values to try, got 0.1"],
    ["grid: {beta: []}", "s.yaml:6:16: beta must be a list of values to try, got an empty list"],
    ["grid: {beta: [0.1, 0.5, 0.1]}", "s.yaml:6:27: beta lists 0.1 twice"],
    ["grid: {beta: [0.1, -1]}", "s.yaml:6:22: beta must be a number above 0, got -1"],
    ["grid: {bta: [0.1]}", "s.yaml:6:10: unknown key bta; did you mean beta?"],
    ["grid: {lora: {r: [8]}}", "s.yaml:6:10: in a sweep write lora.r instead of lora"],
    [
      "grid: {output_dir: [a, b]}",
      "s.yaml:6:10: output_dir cannot be swept: each run has its own folder in output_dir",
    ],
    [
      "grid: {warmup_steps: [1], warmup_ratio: [0.1]}",
      "s.yaml:6:29: warmup_ratio and warmup_steps exclude each other: sweep one of them",
    ],
    ["grid: {beta: [1]}\ncount: 3", "s.yaml:7:10: sweep.count has no effect with grid: remove it"],
    [
      "random: {beta: {log_uniform: [0.1, 1]}}",
      "s.yaml:6:11: sweep.count must be a whole number from 1 to 1000, got nothing",
    ],
    [
      "random: {beta: {log_uniform: [0, 1]}}\ncount: 2",
      "s.yaml:6:32: beta: log_uniform must be [low, high] with low below high, both above 0, got [0, 1]",
    ],
    [
      "random: {beta: {uniform: [1, 0.5]}}\ncount: 2",
      "s.yaml:6:28: beta: uniform must be [low, high] with low below high, got [1, 0.5]",
    ],
    [
      "random: {beta: {normal: [1, 2]}}\ncount: 2",
      "s.yaml:6:18: beta must be a list, or a map with one of choice, uniform or log_uniform, such as {log_uniform: [1.0e-7, 1.0e-5]}, got a map",
    ],
    ["random: {beta: [1]}\ncount: 2.5", "s.yaml:7:10: sweep.count must be a whole number from 1 to 1000, got 2.5"],
    ["runs: [{beta: 1}, {beta: 1}]", "s.yaml:6:21: sweep.runs lists this run twice"],
    [
      "grid: {beta: [1]}\nmetric: loss",
      's.yaml:7:11: sweep.metric must be one of eval_loss, eval_rewards/accuracies or eval_rewards/margins, got "loss"',
    ],
  ])("%s", (section, message) => {
    expect(problemsOf(section)).toContain(message);
  });

  it("once, also where every run has them, and those of the config beside those of the sweep", () => {
    const text = `${BASE}bata: 1\nsweep:\n  grid:\n    beta: [0.1, 0.2, x]\n    max_length: [1, 8]\n`;
    expect(() => parseSweep(text, "s.yaml")).toThrow(
      new InputError(
        [
          "s.yaml:5:1: unknown key bata; did you mean beta?",
          's.yaml:8:22: beta must be a number above 0, got "x"',
          "s.yaml:9:18: max_length must be a whole number of at least 2, got 1",
        ].join("\n"),
      ),
    );
  });

  it("and a config without a sweep", () => {
    expect(() => parseSweep(BASE, "s.yaml")).toThrow(
      /^s\.yaml:1:1: sweep is required: a map with grid, random or runs/,
    );
  });

  it("and a grid of more runs than a night has room for", () => {
    const values = Array.from({ length: 40 }, (_, i) => i + 1).join(", ");
    expect(problemsOf(`grid: {seed: [${values}], lora.r: [${values}]}`)).toEqual([
      "s.yaml:6:9: sweep.grid makes 1600 runs, and may make 1000 at most",
    ]);
  });
});
