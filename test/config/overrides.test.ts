import { describe, expect, test } from "vitest";
import { parsed, problems, REQUIRED } from "./problems.ts";

describe("--set", () => {
  test.each([
    ["beta=0.3", { beta: 0.3 }],
    ["learning_rate=5e-7", { learning_rate: 5e-7 }],
    ["shuffle=false", { shuffle: false }],
    ["loss_type=hinge", { loss_type: ["hinge"] }],
    ["loss_type=[sigmoid, sft]", { loss_type: ["sigmoid", "sft"] }],
    ["lora.r=4", { lora: { r: 4, lora_alpha: 64 } }],
    ["lora.target_modules=[q_proj]", { lora: { r: 32, target_modules: ["q_proj"] } }],
    ["lora={r: 4}", { lora: { r: 4, lora_alpha: 8 } }],
    ["lora={}", { lora: { r: 8, lora_alpha: 8 } }],
    ["lora=null", { lora: { r: 8, lora_alpha: 8 } }],
    ["lora.r=null", { lora: { r: 8, lora_alpha: 64 } }],
    ["export.dtype=float16", { export: { dtype: "float16", merged_16bit: true } }],
    ["seed=null", { seed: 42 }],
    ["seed=~", { seed: 42 }],
    ["output_dir=runs/a=b", { output_dir: "runs/a=b" }],
    ['sample_prompt="What is: this?"', { sample_prompt: "What is: this?" }],
    ["sample_prompt=Qu'est-ce que DPO ?", { sample_prompt: "Qu'est-ce que DPO ?" }],
    ["model=null\n", undefined],
  ])("%s", (option, expected) => {
    const text = `${REQUIRED}seed: 7\nlora: {r: 32, lora_alpha: 64}\n`;
    if (expected === undefined) expect(problems(text, option)).toHaveLength(1);
    else expect(parsed(text, option)).toMatchObject(expected);
  });

  test("mends the file's mistakes before they are checked, also a required key that is missing", () => {
    expect(parsed("model: m\nbeta: x\n", "dataset=d", "beta=0.2")).toMatchObject({ dataset: "d", beta: 0.2 });
    expect(parsed("", "dataset=d", "model=m")).toMatchObject({ dataset: "d", model: "m" });
  });

  test.each([
    ["max_steps=5", "num_train_epochs: 3", { max_steps: 5, num_train_epochs: 3 }],
    ["num_train_epochs=2", "max_steps: 5", { num_train_epochs: 2, max_steps: undefined }],
    ["test_size=0.1", "eval_dataset: e", { test_size: 0.1, eval_dataset: undefined }],
    ["warmup_ratio=0.1", "warmup_steps: 5", { warmup_ratio: 0.1, warmup_steps: 0 }],
  ])("%s replaces %s of the file", (option, line, expected) => {
    const config = parsed(`${REQUIRED}${line}\n`, option);
    expect(Object.fromEntries(Object.keys(expected).map((key) => [key, config[key as keyof typeof config]]))).toEqual(
      expected,
    );
  });

  test("null for one of two alternatives leaves the other alone", () => {
    expect(parsed(`${REQUIRED}max_steps: 5\n`, "num_train_epochs=null").max_steps).toBe(5);
  });

  test.each([
    ["beta", "--set beta: must be KEY=VALUE"],
    ["", "--set : must be KEY=VALUE"],
    ["=", "--set =: must be KEY=VALUE"],
    ["=0.1", "--set =0.1: must be KEY=VALUE"],
    ["beta=", '--set beta: needs a value after "="; to remove the key write beta=null'],
    ["beta=  ", '--set beta: needs a value after "="; to remove the key write beta=null'],
    ["beta=# no", '--set beta: needs a value after "="; to remove the key write beta=null'],
    ["beta=0", "--set beta: beta must be a number above 0, got 0"],
    ["lora.r=0", "--set lora.r: lora.r must be a whole number from 1 to 1024, got 0"],
    ["lora={r: 0}", "--set lora: lora.r must be a whole number from 1 to 1024, got 0"],
    ["lora={alpha: 1}", "--set lora: unknown key lora.alpha; did you mean lora.lora_alpha?"],
    ["lora={r: 1, r: 2}", "--set lora: duplicate key r: already set"],
    ["betta=0.1", "--set betta: unknown key betta; did you mean beta?"],
    ["beta =0.1", "--set beta : unknown key beta ; did you mean beta?"],
    ["lora.alpha=8", "--set lora.alpha: unknown key lora.alpha; did you mean lora.lora_alpha?"],
    ["lora.r.x=8", "--set lora.r.x: unknown key lora.r.x; did you mean lora.r?"],
    ["target_modules=[q_proj]", "--set target_modules: unknown key target_modules; did you mean lora.target_modules?"],
    ["beta.x=1", "--set beta.x: unknown key beta.x; did you mean beta?"],
    ["__proto__=1", "--set __proto__: unknown key __proto__"],
    ["__proto__.polluted=1", "--set __proto__.polluted: unknown key __proto__.polluted"],
    ["lora.__proto__=1", "--set lora.__proto__: unknown key lora.__proto__"],
    ["constructor=1", "--set constructor: unknown key constructor"],
    ["\u001b[31m=1", "--set \\u001b[31m: unknown key \\u001b[31m"],
    ["eval_steps=[1", "--set eval_steps: not valid YAML: Flow sequence must end with a ]"],
    ["beta=*x", "--set beta: the alias *x has no anchor before it"],
    ["sample_prompt=What is: this", "--set sample_prompt: sample_prompt must be text, got a map; put it in quotes"],
    ["max_steps=5\n---\n6", "--set max_steps: a second YAML document starts here; a config is a single one"],
    [
      "discopop_tau=0.1",
      "--set discopop_tau: discopop_tau has no effect with loss_type sigmoid: it needs loss_type discopop",
    ],
  ])("%j is refused", (option, message) => {
    expect(problems(REQUIRED, option)).toEqual([message]);
    expect(Object.hasOwn(Object.prototype, "polluted")).toBe(false);
  });

  test("an option that a later one undoes is an error", () => {
    expect(problems(REQUIRED, "beta=1", "seed=1", "beta=1")).toEqual([
      "--set beta: has no effect: beta is set again after it",
    ]);
    expect(problems(REQUIRED, "lora.r=1", "lora={r: 2}")).toEqual([
      "--set lora.r: has no effect: lora is set again after it",
    ]);
    expect(parsed(REQUIRED, "lora={r: 2}", "lora.lora_alpha=3").lora).toMatchObject({ r: 2, lora_alpha: 3 });
  });

  test("both of two alternatives set by options exclude each other", () => {
    expect(problems(`${REQUIRED}num_train_epochs: 1\n`, "max_steps=5", "num_train_epochs=2")).toEqual([
      "--set max_steps: max_steps and num_train_epochs exclude each other: remove one of them",
    ]);
  });

  test("a key of a section that the file broke reports the section", () => {
    expect(problems(`${REQUIRED}lora: 5\n`, "lora.r=4")).toEqual([
      "c.yaml:3:7: lora must be a map of r, lora_alpha, lora_dropout and target_modules, got 5",
    ]);
  });

  test("mistakes of the file come first, those of the options in their order", () => {
    expect(problems(`${REQUIRED}beta: x\n`, "foo=1", "seed=-1", "bar=1").map((line) => line.split(":")[0])).toEqual([
      "c.yaml",
      "--set foo",
      "--set seed",
      "--set bar",
    ]);
  });
});
