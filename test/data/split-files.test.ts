import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { trainTestSplit } from "../../src/data/split.ts";
import { filesOfSplit, findSplits } from "../../src/data/split-files.ts";
import { goldenDatasets } from "./golden-datasets.ts";

const find = (paths: string[], readme?: string, config?: string) => findSplits({ paths, readme }, config, "dataset x");

describe("the splits of a folder, as datasets finds them", () => {
  test.each(goldenDatasets("splits"))("$paths, configuration $config", ({ paths, readme, config, expected }) => {
    const all = readme === null ? paths : [...paths, "README.md"];
    const found = find(all, readme ?? undefined, config ?? undefined);
    expect(Object.fromEntries(found?.splits ?? [])).toEqual(expected);
  });

  test("names that tell no split are known as such", () => {
    expect(find(["a.jsonl", "b.jsonl"])).toEqual({
      splits: new Map([["train", ["a.jsonl", "b.jsonl"]]]),
      areNamed: false,
    });
    expect(find(["train.jsonl"])?.areNamed).toBe(true);
  });

  test("code and pictures beside the data tell no split", () => {
    expect(find(["rows.jsonl", "train.py", "test/test_rows.py", "test.png"])?.splits).toEqual(
      new Map([["train", ["rows.jsonl"]]]),
    );
  });

  test("nothing that we read is undefined", () => {
    expect(find([])).toBeUndefined();
    expect(find(["x.py", "README.md", ".gitattributes"])).toBeUndefined();
    expect(find(["data-00000-of-00001.arrow", "state.json", "dataset_info.json"])).toBeUndefined();
    expect(find(["train.txt", "rows.zip"])).toBeUndefined();
  });

  test("without configurations, dataset_config is a folder", () => {
    const paths = ["helpful/train.jsonl.gz", "helpful/test.jsonl.gz", "harmless/train.jsonl.gz"];
    expect(find(paths, undefined, "helpful")?.splits.get("train")).toEqual(["helpful/train.jsonl.gz"]);
    expect(() => find(paths, undefined, "helpfull")).toThrow(
      'dataset x has no configuration and no folder "helpfull": its README names no configuration, and its folders are harmless and helpful',
    );
  });
});

describe("what cannot be chosen", () => {
  const CONFIGS = (configs: string) => `---\nconfigs:\n${configs}---\ntext`;

  test("a split that is not there", () => {
    const found = find(["train.csv", "test.csv"])!;
    expect(() => filesOfSplit(found, "val\u001b", "dataset_test_split", "eval_dataset x")).toThrow(
      'eval_dataset x has no split "val\\u001b": set dataset_test_split to train or test',
    );
  });

  test("a configuration among several, or one that is not there", () => {
    const readme = CONFIGS("- config_name: a\n  data_files: a.csv\n- config_name: b\n  data_files: b.csv\n");
    expect(() => find(["a.csv", "b.csv"], readme)).toThrow(
      "dataset x has several configurations and no default: set dataset_config to a or b",
    );
    expect(() => find(["a.csv", "b.csv"], readme, "c")).toThrow(
      'dataset x has no configuration "c": set dataset_config to a or b',
    );
  });

  test.each([
    "- data_files: a.csv\n",
    "- config_name: 5\n",
    "- config_name: a\n  data_files: 5\n",
    "- config_name: a\n  data_files: []\n",
    "- config_name: a\n  data_files: [{split: train}]\n",
    "- config_name: a\n  data_files: [{split: t, path: a}, {split: t, path: b}]\n",
    "  a: b\n",
    "- [\n",
    "- &a [x, x]\n- &b [*a, *a, *a, *a, *a, *a, *a, *a]\n- &c [*b, *b, *b, *b, *b, *b, *b, *b]\n- [*c, *c, *c, *c, *c, *c, *c, *c]\n",
  ])("a README's head that is not as datasets wants it: %j", (configs) => {
    expect(() => find(["a.csv"], CONFIGS(configs))).toThrow(
      "dataset x: the head of its README.md cannot be understood",
    );
  });

  test("a README without a head, or without configs, says nothing", () => {
    for (const readme of ["", "# text", "---\n", "---\nlicense: mit\n---\n", "---\nconfigs:\n---\n"]) {
      expect(find(["a.csv"], readme)?.splits.get("train")).toEqual(["a.csv"]);
    }
  });

  test("a pattern that leads out of the repository finds nothing", () => {
    const readme = CONFIGS("- config_name: a\n  data_files: ../../etc/*\n");
    expect(find(["a.csv"], readme)).toBeUndefined();
  });
});

test.each(goldenDatasets("permutation"))(
  "test_size $test_size of $rows rows with seed $seed is datasets' own",
  ({ rows, test_size: testSize, seed, train, test: held }) => {
    const split = trainTestSplit(rows, testSize, seed);
    const sha256 = (numbers: Uint32Array) => createHash("sha256").update(numbers).digest("hex");
    expect([sha256(split.train), sha256(split.test)]).toEqual([train, held]);
  },
);
