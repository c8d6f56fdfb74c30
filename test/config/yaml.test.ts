import { describe, expect, test } from "vitest";
import { parsed, problems, REQUIRED } from "./problems.ts";

describe("line and column", () => {
  test.each([
    ["a nested map", "model: m\ndataset: d\nlora:\n  r: 0\n", "4:6"],
    ["a flow map", "model: m\ndataset: d\nlora: {r: 0}\n", "3:11"],
    ["a flow map over two lines", "model: m\ndataset: d\nlora: {lora_alpha: 8,\n       r: 0}\n", "4:11"],
    ["a root flow map", "{model: m, dataset: d, lora: {r: 0}}", "1:34"],
    ["a root flow map in JSON", '{"model": "m", "dataset": "d",\n "lora": {"r": 0}}', "2:16"],
    ["an item of a block list", "model: m\ndataset: d\nlora:\n  target_modules:\n    - q_proj\n    - x\n", "6:7"],
    ["Windows line ends", "model: m\r\ndataset: d\r\nlora:\r\n  r: 0\r\n", "4:6"],
    ["comments and empty lines", "# a\n\nmodel: m # b\n\ndataset: d\nlora: # c\n  # d\n  r: 0 # e\n", "8:6"],
    ["no line end at the end", "model: m\ndataset: d\nlora: {r: 0}", "3:11"],
    ["tabs before a value and a comment", "model: m\ndataset: d\nlora:\t{r:\t0}\t# tab\n", "3:11"],
    ["text beyond ASCII", "model: модель\ndataset: d\nlora: {lora_alpha: 8, r: 0} # ключ\n", "3:26"],
    ["a character of two UTF-16 units", 'model: m\ndataset: d\nlora: {"lora_alpha": 8, r: 0} # 🦙\n', "3:28"],
    ["a document start", "---\nmodel: m\ndataset: d\nlora: {r: 0}\n...\n", "4:11"],
    ["a quoted key", "model: m\ndataset: d\n\"lora\": {'r': 0}\n", "3:15"],
    ["an explicit key", "model: m\ndataset: d\n? lora\n: {r: 0}\n", "4:7"],
    ["an alias", "model: m\ndataset: d\nmax_tokens_per_batch: &n 2048\nlora: {r: *n}\n", "4:11"],
  ])("in %s", (_, text, position) => {
    expect(problems(text)).toEqual([
      expect.stringMatching(new RegExp(`^c\\.yaml:${position}: lora\\.(r|target_modules) must be`)),
    ]);
  });
});

test.each([
  ["an open quote", 'beta: "0.1\nseed: 2', "3:7: this quote is never closed"],
  ["an open single quote", "beta: '0.1\nseed: 2", "3:7: this quote is never closed"],
  [
    "an open list",
    "loss_type: [sigmoid\nseed: 2",
    "4:1: not valid YAML: Flow sequence in block collection must be sufficiently indented and end with a ]",
  ],
  [
    "two keys in a line",
    "beta: 0.1 seed: 2",
    '3:7: unexpected second "key: value" here; put a text with a colon in quotes, or check the indentation',
  ],
  [
    "a value with a colon",
    "sample_prompt: What is: this",
    '3:16: unexpected second "key: value" here; put a text with a colon in quotes, or check the indentation',
  ],
  ["a line without a colon", "beta 0.1\nseed: 2", '3:1: this line is not of the form "key: value"'],
  ["a tab as indentation", "lora:\n\tr: 8", "4:1: a tab indents this line; YAML is indented with spaces"],
  ["an unknown tag", "beta: !number 0.1", "3:7: unknown tag: !number; a config needs none"],
  ["a binary tag", "sample_prompt: !!binary aGk=", "3:16: unknown tag: tag:yaml.org,2002:binary; a config needs none"],
  [
    "a JavaScript tag",
    "beta: !!js/function 'x'",
    "3:7: unknown tag: tag:yaml.org,2002:js/function; a config needs none",
  ],
  ["an unset alias", "beta: *b", "3:7: the alias *b has no anchor before it"],
  ["an alias before its anchor", "beta: *b\nld_alpha: &b 0.5", "3:7: the alias *b has no anchor before it"],
  [
    "an alias of a list",
    "loss_type: &l [sigmoid]\nlora: {target_modules: *l}",
    "4:24: the alias *l stands for a map or a list: write it out",
  ],
  ["an alias of its own map", "lora: &l {r: *l}", "3:14: the alias *l stands for a map or a list: write it out"],
  ["a merge key", "lora: {<<: {r: 8}}", "3:8: merge keys (<<) are not supported: write the keys out"],
  ["a duplicate key", "beta: 0.1\nbeta: 0.1", "4:1: duplicate key beta: already set on line 3"],
  ["a duplicate nested key", "lora: {r: 8,\n  r: 8}", "4:3: duplicate key r: already set on line 3"],
  [
    "a duplicate key written otherwise",
    'beta: 0.1\n"b\\u0065ta": 0.1',
    "4:1: duplicate key beta: already set on line 3",
  ],
  ["a key that is a list", "? [beta]\n: 0.1", "3:3: not valid YAML: With stringKeys, all keys must be strings"],
  ["a second document", "---\nbeta: 0.1", "3:1: a second YAML document starts here; a config is a single one"],
  ["a bad escape", 'sample_prompt: "\\q"', "3:17: not valid YAML: Invalid escape sequence \\q"],
])("%s is refused", (_, lines, message) => {
  expect(problems(`${REQUIRED}${lines}\n`)).toEqual([`c.yaml:${message}`]);
});

test.each([
  ["%YAML 1.3\n---\n", "not valid YAML: Unsupported YAML version 1.3"],
  ["%TOKEN x\n---\n", "not valid YAML: Unknown directive %TOKEN"],
])("the directive %j is refused", (directive, message) => {
  expect(problems(directive + REQUIRED)).toEqual([expect.stringContaining(message)]);
});

test("broken YAML hides neither what stands before the break nor a break further on, and adds nothing to it", () => {
  expect(problems("beta: x\nunknown_key_here: 1\nseed 3\nlearning_rate: 1\nbeta: y\nlora: [\n")).toEqual([
    'c.yaml:1:7: beta must be a number above 0, got "x"',
    "c.yaml:2:1: unknown key unknown_key_here",
    'c.yaml:3:1: this line is not of the form "key: value"',
    expect.stringMatching(/^c\.yaml:7:1: not valid YAML: /),
  ]);
});

test.each([
  ["a list", "- model: m\n", "c.yaml:1:1: a config must be a map of settings, got a list"],
  ["a text", "hello\n", 'c.yaml:1:1: a config must be a map of settings, got "hello"'],
  ["a number", "\n\n  42\n", "c.yaml:3:3: a config must be a map of settings, got 42"],
])("a config that is %s is refused", (_, text, message) => {
  expect(problems(text)).toEqual([message]);
  expect(problems(text, "seed=1")).toEqual([message]);
});

test.each(["", "\n\n", "# nothing\n", "---\n", "null\n", "{}\n", "~", "\ufeff"])(
  "an empty config, %j, lacks what is required",
  (text) => {
    expect(problems(text).map((line) => line.replace(/^c\.yaml:\d+:\d+: /, ""))).toEqual([
      "model is required: a model folder or a Hugging Face Hub id",
      "dataset is required: a .jsonl, .json, .csv or .parquet file, a folder of these, or a Hugging Face Hub id",
    ]);
  },
);

test("an alias of a scalar stands for it", () => {
  expect(parsed(`${REQUIRED}lora: {r: &r 32, lora_alpha: *r}\n`).lora).toMatchObject({ r: 32, lora_alpha: 32 });
  expect(parsed(`${REQUIRED}seed: &n 1\nmax_length: &n 64\nmax_steps: *n\n`).max_steps).toBe(64);
});

test("YAML 1.2, also where the file says 1.1: yes and no are text, 5e-6 and 012 are decimal numbers", () => {
  const lines = `${REQUIRED}learning_rate: 5e-6\ntest_size: 0.1\neval_strategy: no\nmax_steps: 012\n`;
  for (const text of [lines, `%YAML 1.1\n---\n${lines}`]) {
    expect(parsed(text)).toMatchObject({ learning_rate: 0.000005, eval_strategy: "no", max_steps: 12 });
  }
});

test("block texts, quoted texts and core tags are read as YAML has them", () => {
  expect(parsed(`${REQUIRED}sample_prompt: |\n  two\n  lines: yes\n`).sample_prompt).toBe("two\nlines: yes\n");
  expect(parsed(`${REQUIRED}sample_prompt: "\\u00e9\\n🦙"\n`).sample_prompt).toBe("é\n🦙");
  expect(parsed(`${REQUIRED}output_dir: !!str 2026\n`).output_dir).toBe("2026");
});

test("-0 is 0", () => {
  expect(parsed(`${REQUIRED}seed: -0\nweight_decay: -0.0\n`)).toMatchObject({ seed: 0, weight_decay: 0 });
});

const LARGE = 100_000;

test.each([
  [
    "a bomb of aliases",
    `a0: &a0 [x]\n${Array.from({ length: 1000 }, (_, i) => `a${i + 1}: &a${i + 1} [*a${i}, *a${i}]\n`).join("")}`,
  ],
  [
    "a bomb of merge keys",
    `a0: &a0 {x: 1}\n${Array.from({ length: 1000 }, (_, i) => `a${i + 1}: &a${i + 1} {<<: [*a${i}, *a${i}]}\n`).join("")}`,
  ],
  ["many aliases of one scalar", `seed: &s 1\nloss_weights: [${"*s ,".repeat(LARGE / 4)}]`],
  ["an endless list", `loss_weights: [${"0,".repeat(LARGE / 2)}]`],
  ["an endless list of duplicates", `loss_type: [${"sft,".repeat(LARGE / 4)}]`],
  ["many keys", Array.from({ length: LARGE / 10 }, (_, i) => `k${i}: 1\n`).join("")],
  ["many duplicates", "beta: 1\n".repeat(LARGE / 8)],
  ["many tags", `beta: [${"!a 1,".repeat(LARGE / 5)}]`],
  ["many documents", "---\n".repeat(LARGE / 4)],
  ["many directives", "%A\n".repeat(130_000)],
  ["many anchors", `beta: ${"&a ".repeat(LARGE / 3)}x`],
  ["many quotes", '"'.repeat(LARGE)],
  ["a long key", "k".repeat(LARGE)],
])("%s ends with an InputError", (_, text) => {
  expect(problems(text).length).toBeGreaterThan(0);
});

test.each([
  ["lists", "[".repeat(LARGE), "c.yaml:1:22: "],
  ["closed lists", "[".repeat(LARGE) + "]".repeat(LARGE), "c.yaml:1:22: "],
  ["maps", "{a: ".repeat(LARGE / 4), "c.yaml:1:67: "],
])("%s nested without end are refused before they are read", (_, nested, place) => {
  expect(problems(`beta: ${nested}`)).toEqual([expect.stringContaining("lists and maps are nested more than 16 deep")]);
  expect(problems(`beta: ${nested}`)[0]).toContain(place);
});

test.each(["- ", "? ", ": "])("blocks of %j nested without end are refused before they are read", (indicator) => {
  expect(problems(indicator.repeat(LARGE / 2))).toEqual(["c.yaml:1:33: lists and maps are nested more than 16 deep"]);
});
