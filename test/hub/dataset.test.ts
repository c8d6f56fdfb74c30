import { mkdir, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type DatasetReference, findDatasetFiles } from "../../src/data/dataset-files.ts";
import { readPreferenceRows } from "../../src/data/rows.ts";
import { InputError } from "../../src/errors.ts";
import type { ResolveOptions } from "../../src/hub/resolve.ts";
import { goldenFile } from "../data/golden-datasets.ts";
import { type Fixture, pattern, QUICK, startFixture, text } from "./fixture.ts";
import { answer, COMMIT, cutAfter, gitHash, sha256 } from "./loopback-hub.ts";

const NAME = "ada/pairs";
const CONVERTED = "c".repeat(40);

let fixture: Fixture;
let files: Map<string, Buffer>;
let repositoryPath: string;
beforeEach(async () => {
  fixture = await startFixture();
  repositoryPath = join(fixture.home, "hub", "datasets--ada--pairs");
  files = new Map([
    ["README.md", text("---\nlicense: mit\n---\n# Pairs\n")],
    [".gitattributes", text("*.parquet filter=lfs")],
    ["data/train-00000-of-00002.parquet", await readFile(goldenFile("text-zstd.parquet"))],
    ["data/train-00001-of-00002.parquet", await readFile(goldenFile("text-v2.parquet"))],
    ["data/test-00000-of-00001.parquet", await readFile(goldenFile("text-none.parquet"))],
    ["pictures/train.png", pattern(1000, 1)],
  ]);
  fixture.hub.repositories.set(`datasets/${NAME}`, files);
});
afterEach(() => fixture.close());

const DATASET: DatasetReference = {
  key: "dataset",
  reference: NAME,
  config: undefined,
  split: undefined,
  splitKey: "dataset_train_split",
  defaultSplit: "train",
};

function find(changes: Partial<DatasetReference> = {}, options: ResolveOptions = {}) {
  return findDatasetFiles({ ...DATASET, ...changes }, { env: fixture.env, timing: QUICK, ...options });
}

async function failure(changes: Partial<DatasetReference> = {}, options: ResolveOptions = {}): Promise<string> {
  const error: unknown = await find(changes, options).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(InputError);
  return (error as InputError).message;
}

const offline = () => ({ env: { ...fixture.env, HF_HUB_OFFLINE: "1" } });
const downloads = () => fixture.hub.seen.filter(({ path }) => path.includes("/resolve/")).map(({ path }) => path);
const snapshot = (path = "") => join(repositoryPath, "snapshots", COMMIT, path);

describe("the files of a split", () => {
  it("are downloaded alone, into the layout that Python reads", async () => {
    const { files: found, hub } = await find();
    expect(hub).toEqual({ repository: NAME, revision: "main", commit: COMMIT });
    expect(found).toEqual(
      ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"].map((path) => ({
        path: snapshot(path),
        name: `${NAME}/${path}`,
      })),
    );
    expect((await readdir(snapshot(), { recursive: true })).sort()).toEqual([
      "README.md",
      "data",
      "data/train-00000-of-00002.parquet",
      "data/train-00001-of-00002.parquet",
    ]);
    expect(await readFile(join(repositoryPath, "refs/main"), "utf8")).toBe(COMMIT);
    const [first, readme] = [files.get("data/train-00000-of-00002.parquet")!, files.get("README.md")!];
    expect(await readlink(snapshot("data/train-00000-of-00002.parquet"))).toBe(`../../../blobs/${sha256(first)}`);
    expect(await readlink(snapshot("README.md"))).toBe(`../../blobs/${gitHash(readme)}`);
    const rows = await readPreferenceRows(found);
    expect(rows).toHaveLength(24);
    expect(rows[12]?.source).toEqual({ file: `${NAME}/data/train-00001-of-00002.parquet`, line: 1, unit: "row" });
  });

  it("come from the cache the second time, and without the network", async () => {
    const first = await find();
    fixture.hub.seen.length = 0;
    expect(await find()).toEqual(first);
    expect(await find({}, offline())).toEqual(first);
    expect(fixture.hub.seen).toEqual([]);
  });

  it("of another split are added to what is there, without asking for it again", async () => {
    await find();
    fixture.hub.seen.length = 0;
    const test = { key: "eval_dataset", splitKey: "dataset_test_split", defaultSplit: "test" };
    expect(await failure(test, offline())).toBe(
      `eval_dataset ada/pairs is no local file or folder, HF_HUB_OFFLINE forbids the network, and the cache ` +
        `${join(fixture.home, "hub")} has not all of its files at revision "main": unset HF_HUB_OFFLINE, or give local files`,
    );
    expect((await find(test)).files.map(({ name }) => name)).toEqual([`${NAME}/data/test-00000-of-00001.parquet`]);
    expect(downloads()).toEqual([`/datasets/${NAME}/resolve/${COMMIT}/data/test-00000-of-00001.parquet`]);
  });

  it("are those of a revision, a configuration and a split", async () => {
    fixture.hub.revisions.set("v1.0", "d".repeat(40)).set("d".repeat(40), "d".repeat(40));
    fixture.hub.repositories.set(
      `datasets/${NAME}@${"d".repeat(40)}`,
      new Map([
        [
          "README.md",
          text(
            "---\nconfigs:\n- config_name: a\n  data_files: [{split: prefs, path: 'a b/ü #1.jsonl'}]\n- config_name: b\n  data_files: x.jsonl\n---\n",
          ),
        ],
        ["a b/ü #1.jsonl", text('{"prompt": "p", "chosen": "c", "rejected": "r"}\n')],
        ["x.jsonl", text("")],
      ]),
    );
    const reference = `${NAME}@v1.0`;
    const found = await find({ reference, config: "a", split: "prefs" });
    expect(found.hub).toEqual({ repository: NAME, revision: "v1.0", commit: "d".repeat(40) });
    expect(await readPreferenceRows(found.files)).toHaveLength(1);
    expect(await failure({ reference })).toContain("set dataset_config to a or b");
    expect(await failure({ reference, config: "a" })).toContain(
      'has no split "train": set dataset_train_split to prefs',
    );
    expect(await failure({ reference: `${NAME}@v2` })).toContain('dataset ada/pairs has no revision "v2" (404): see ');
  });

  it("may be gzip, in folders that stand for configurations", async () => {
    const rows = gzipSync(
      '{"chosen": "\\n\\nHuman: a\\n\\nAssistant: b", "rejected": "\\n\\nHuman: a\\n\\nAssistant: c"}\n',
    );
    files.clear();
    files.set("helpful/train.jsonl.gz", rows).set("helpful/test.jsonl.gz", rows).set("harmless/train.jsonl.gz", rows);
    expect((await find({ config: "helpful" })).files.map(({ name }) => name)).toEqual([
      `${NAME}/helpful/train.jsonl.gz`,
    ]);
    expect((await find()).files).toHaveLength(2);
  });

  it("that another program has put into the cache are taken offline", async () => {
    await find();
    await rm(join(repositoryPath, ".dpo-train"), { recursive: true });
    expect((await find({}, offline())).files).toHaveLength(2);
    fixture.hub.seen.length = 0;
    expect((await find()).files).toHaveLength(2);
    expect(downloads()).toEqual([]);
  });

  it("that are damaged in the cache are mended", async () => {
    const { files: found } = await find();
    await rm(found[0]!.path);
    await writeFile(found[1]!.path, "short");
    await writeFile(join(repositoryPath, ".dpo-train", `${COMMIT}.json`), '[["../x", 1');
    expect(await readPreferenceRows((await find()).files)).toHaveLength(24);
  });
});

describe("the network", () => {
  const large = () => files.get("data/train-00000-of-00002.parquet")!;

  it("may cut: the download is resumed and checked", async () => {
    fixture.hub.fault = (request, response, nth) =>
      request.server === "cdn" &&
      request.path === `/${sha256(large())}` &&
      nth === 1 &&
      cutAfter(response, large(), 4000);
    expect(await readPreferenceRows((await find()).files)).toHaveLength(24);
    const ranges = fixture.hub.seen.filter(({ path }) => path === `/${sha256(large())}`).map(({ range }) => range);
    expect(ranges).toHaveLength(2);
    expect(ranges[1]).toMatch(/^bytes=[1-9]\d*-$/);
  });

  it("may alter what it carries: that is refused", async () => {
    fixture.hub.fault = (request, response) => {
      if (request.path !== `/${sha256(large())}`) return false;
      response.end(Buffer.from(large()).fill(7, 100, 200));
      return true;
    };
    expect(await failure()).toContain(`data/train-00000-of-00002.parquet must have sha256 ${sha256(large())}`);
    expect(await failure({}, offline())).toContain("has not all of its files");
  });

  it("may refuse: the message names the page and the way", async () => {
    const env = { ...fixture.env, HF_TOKEN: "hf_s3cretT0ken" };
    await find({}, { env });
    expect(
      fixture.hub.seen
        .filter(({ server }) => server === "hub")
        .every(({ authorization }) => authorization === "Bearer hf_s3cretT0ken"),
    ).toBe(true);
    expect(
      fixture.hub.seen
        .filter(({ server }) => server === "cdn")
        .every(({ authorization }) => authorization === undefined),
    ).toBe(true);
    fixture.hub.fault = (_, response) => answer(response, 401, { "x-error-code": "GatedRepo" });
    const gated = await failure({ reference: `${NAME}@gated` });
    expect(gated).toContain(`accept its licence on ${fixture.hub.endpoint}/datasets/ada/pairs, then set HF_TOKEN`);
    fixture.hub.fault = (_, response) => answer(response, 401);
    expect(await failure({ reference: "ada/nothing" })).toContain(
      "dataset ada/nothing is no local file or folder, and on the Hub",
    );
    fixture.hub.fault = (_, response) => answer(response, 500);
    expect(await failure({ reference: "ada/other" })).toContain(
      "(hf download ada/other --repo-type dataset --local-dir FOLDER)",
    );
  });

  it.each(["../../escape.jsonl", "/etc/escape.jsonl", "data/../../escape.jsonl"])(
    "is not trusted where it lists %s",
    async (path) => {
      fixture.hub.editListing = (entries) => [{ ...entries[0], path }];
      expect(await failure()).toContain("would leave the repository's folder");
    },
  );
});

describe("a repository without a file that we read", () => {
  const CONVERSION = "refs/convert/parquet";
  beforeEach(() => {
    files.clear();
    files.set("pairs.py", text("import datasets")).set("rows.zip", pattern(100, 3));
  });

  async function convert(paths: readonly string[]): Promise<void> {
    const parquet = await readFile(goldenFile("text-zstd.parquet"));
    fixture.hub.revisions.set(CONVERSION, CONVERTED).set(CONVERTED, CONVERTED);
    fixture.hub.repositories.set(`datasets/${NAME}@${CONVERTED}`, new Map(paths.map((path) => [path, parquet])));
  }

  it("is read from the Hub's own conversion to Parquet", async () => {
    await convert(["default/train/0001.parquet", "default/train/0000.parquet", "default/partial-test/0000.parquet"]);
    const found = await find();
    expect(found.hub).toEqual({ repository: NAME, revision: CONVERSION, commit: CONVERTED });
    expect(found.files.map(({ name }) => name)).toEqual([0, 1].map((i) => `${NAME}/default/train/000${i}.parquet`));
    expect((await find({ split: "test" })).files).toHaveLength(1);
    expect((await find({}, offline())).files).toEqual(found.files);
    expect(await failure({ split: "dev" })).toContain("set dataset_train_split to test or train");
  });

  it("may have several configurations there", async () => {
    await convert(["a/train/0000.parquet", "b/train/0000.parquet"]);
    expect(await failure()).toContain("set dataset_config to a or b");
    expect((await find({ config: "b" })).files.map(({ name }) => name)).toEqual([`${NAME}/b/train/0000.parquet`]);
    expect(await failure({ config: "c" })).toContain('has no configuration "c": set dataset_config to a or b');
  });

  it("and without a conversion is refused with what it has", async () => {
    expect(await failure()).toBe(
      "dataset ada/pairs holds no .jsonl, .json, .csv, .tsv and .parquet files (the text ones also as .gz); it has pairs.py, " +
        'rows.zip: convert it in Python with datasets.load_dataset(…, split="train").to_json("rows.jsonl"), and give that file',
    );
    await convert(["notes.txt"]);
    expect(await failure()).toContain("holds no .jsonl");
  });
});

describe("local files and folders", () => {
  it("a file is taken whole, and has no splits", async () => {
    const reference = goldenFile("text.csv");
    expect(await find({ reference })).toEqual({
      files: [{ path: reference, name: reference }],
      isOneFile: true,
      hub: undefined,
    });
    expect(await failure({ reference, split: "train" })).toContain(
      "is one file, which dataset_train_split cannot choose from",
    );
  });

  it("a folder has the splits that its names tell; without any it is one set, also for evaluation", async () => {
    const folder = join(fixture.home, "folder");
    await mkdir(join(folder, "sub"), { recursive: true });
    for (const name of ["b.jsonl", "sub/a.jsonl"])
      await writeFile(join(folder, name), '{"chosen": "a b", "rejected": "a c"}\n');
    const evaluation = { reference: folder, defaultSplit: "test", splitKey: "dataset_test_split", key: "eval_dataset" };
    expect((await find(evaluation)).files.map(({ path }) => path)).toEqual(
      ["b.jsonl", "sub/a.jsonl"].map((name) => join(folder, name)),
    );
    expect(await failure({ ...evaluation, split: "test" })).toContain(
      'has no split "test": set dataset_test_split to train',
    );
    await writeFile(join(folder, "train.jsonl"), "");
    expect(await failure(evaluation)).toContain('has no split "test": set dataset_test_split to train');
    expect((await find({ reference: folder })).files.map(({ path }) => path)).toEqual([join(folder, "train.jsonl")]);
  });

  it("a folder without data, and a path without anything", async () => {
    expect(await failure({ reference: join(fixture.home) })).toContain("holds no .jsonl");
    expect(await failure({ reference: "./nothing/here" })).toContain(
      'dataset "./nothing/here" does not exist: give an existing file or folder',
    );
    expect(await failure({ reference: "rows.jsonl" })).toContain("does not exist");
    expect(await failure({ reference: "nothing" })).toContain("is neither an existing file or folder nor a Hub id");
  });
});
