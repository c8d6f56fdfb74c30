import { existsSync, readFileSync } from "node:fs";
import { mkdir, readdir, readFile, rename, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { PairTokens } from "../../src/data/pack.ts";
import { cacheFolder } from "../../src/platform/cache-folder.ts";
import type { ReferenceLogps } from "../../src/train/objective.ts";
import {
  type ReferenceKey,
  readReferenceCache,
  referenceCachePath,
  writeReferenceCache,
} from "../../src/train/reference-cache.ts";
import type { Ended } from "../cli/process.ts";
import { prepareTraining, set, train } from "../cli/training.ts";
import { inputErrorOf, temporaryFolder } from "../weights/fixtures.ts";

const PAIRS: PairTokens[] = [
  { promptIds: [1, 2], chosenIds: [3, 4, 5], rejectedIds: [6] },
  { promptIds: [1], chosenIds: [7], rejectedIds: [8, 9] },
];
const LOGPS: ReferenceLogps[] = [
  { chosen: Float64Array.of(-1.5, -2.25, -1e-300), rejected: Float64Array.of(-7) },
  { chosen: Float64Array.of(-0.1), rejected: Float64Array.of(-3, -4) },
];

describe("a kept reference", () => {
  async function written(): Promise<string> {
    const file = join(await temporaryFolder(), "a", "b", "key.safetensors");
    await writeReferenceCache(file, LOGPS);
    return file;
  }

  it("is read back to the last bit", async () => {
    expect(await readReferenceCache(await written(), PAIRS)).toEqual(LOGPS);
  });

  it("is nothing where there is no file", async () => {
    expect(await readReferenceCache(join(await temporaryFolder(), "key.safetensors"), PAIRS)).toBeNull();
  });

  it("is damaged where any bit of it has changed, or reads the same", async () => {
    const file = await written();
    const bytes = await readFile(file);
    const valuesStart = 8 + Number(bytes.readBigUInt64LE(0));
    let harmless = 0;
    for (let bit = 0; bit < 8 * bytes.length; bit++) {
      const flipped = Buffer.from(bytes);
      flipped[bit >>> 3]! ^= 1 << (bit & 7);
      await writeFile(file, flipped);
      const found = await readReferenceCache(file, PAIRS).catch((error: Error) => error);
      if (found instanceof Error) {
        expect(found.name).toBe("InputError");
        continue;
      }
      // Such as a letter of the header's own notes.
      expect(found).toEqual(LOGPS);
      expect(bit).toBeLessThan(8 * valuesStart);
      harmless++;
    }
    expect(harmless).toBeLessThan(150);
  });

  it("is damaged where it is cut short anywhere, or goes on", async () => {
    const file = await written();
    const bytes = await readFile(file);
    for (let length = 0; length < bytes.length; length++) {
      await writeFile(file, bytes.subarray(0, length));
      await inputErrorOf(() => readReferenceCache(file, PAIRS));
    }
    await writeFile(file, Buffer.concat([bytes, Buffer.of(0)]));
    await inputErrorOf(() => readReferenceCache(file, PAIRS));
  });

  it("is damaged under another name, and for pairs of other lengths", async () => {
    const file = await written();
    expect(await inputErrorOf(() => readReferenceCache(file, PAIRS.slice(1)))).toMatch(
      /key\.safetensors: must hold "chosen" as F64 of shape \[1\]$/,
    );
    const other = file.replace("key", "other");
    await rename(file, other);
    expect(await inputErrorOf(() => readReferenceCache(other, PAIRS))).toMatch(
      /not those that were written \(SHA-256\)$/,
    );
  });

  it("that cannot be written is an InputError", async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, "file"), "");
    const message = await inputErrorOf(() => writeReferenceCache(join(folder, "file", "key.safetensors"), LOGPS));
    expect(message).toMatch(/\/file: cannot create: /);
  });
});

describe("the name it is kept under", () => {
  const KEY = {
    config: { layers: 2 },
    weights: { "model.safetensors": "ab" },
    precision: "f32",
    adapter: "card",
    pairs: PAIRS,
  } as unknown as ReferenceKey;
  const name = (changes: object) => referenceCachePath("", { ...KEY, ...changes });

  it.each<[string, object]>([
    ["the model's shape", { config: { layers: 3 } }],
    ["the weights", { weights: { "model.safetensors": "ac" } }],
    ["the precision", { precision: "f16" }],
    ["the adapter", { adapter: "other card" }],
    ["the order of the pairs", { pairs: PAIRS.toReversed() }],
    ["the number of pairs", { pairs: PAIRS.slice(1) }],
    ["a token", { pairs: [{ ...PAIRS[0]!, rejectedIds: [5] }, PAIRS[1]!] }],
    ["where a prompt ends", { pairs: [{ promptIds: [1, 2, 3], chosenIds: [4, 5], rejectedIds: [6] }, PAIRS[1]!] }],
  ])("changes with %s", (_, changes) => {
    expect(name(changes)).not.toBe(name({}));
  });

  it("changes with nothing else", () => {
    expect(name({ beta: 0.5, pairs: PAIRS.map((pair) => ({ ...pair, source: { file: "x", line: 1 } })) })).toBe(
      name({}),
    );
  });
});

describe("a run", () => {
  /** One step of all nine pairs, without an export, that keeps its reference in a folder of its own. */
  async function runOnce(cache: string): Promise<{ output: string } & Ended> {
    const training = await prepareTraining("export: {merged_16bit: false}\n");
    const settings = set({ reference_cache: true, per_device_train_batch_size: 9 });
    const ended = await train(training, settings, { environment: { XDG_CACHE_HOME: cache } });
    return { output: training.output, ...ended };
  }

  /** A cache folder in which SwiftShader need not be unpacked again. */
  async function freshCache(): Promise<string> {
    const cache = await temporaryFolder();
    await mkdir(join(cache, "dpo-train"));
    const names = existsSync(cacheFolder()) ? await readdir(cacheFolder()) : [];
    for (const name of names.filter((known) => known.startsWith("swiftshader-"))) {
      await symlink(join(cacheFolder(), name), join(cache, "dpo-train", name));
    }
    return cache;
  }

  const metricsOf = (output: string) => readFileSync(join(output, "metrics.jsonl"), "utf8");
  const runOf = (output: string) => JSON.parse(readFileSync(join(output, "run.json"), "utf8"));

  it("computes its reference, or takes it from an earlier run if that can be trusted", async () => {
    const cache = await freshCache();
    const first = await runOnce(cache);
    expect(first.code).toBe(0);
    expect(runOf(first.output).reference).toBe("computed");
    const folder = join(cache, "dpo-train", "reference");
    const [name, ...others] = await readdir(folder);
    expect(others).toEqual([]);
    const file = join(folder, name!);
    const good = await readFile(file);

    const expectRun = async (from: "computed" | "cache", line: string) => {
      const { code, stdout, output } = await runOnce(cache);
      expect(code).toBe(0);
      expect(stdout).toContain(line);
      expect(runOf(output).reference).toBe(from);
      expect(metricsOf(output)).toBe(metricsOf(first.output));
      expect((await readFile(file)).equals(good)).toBe(true);
    };
    await expectRun("cache", "\nreference log-probabilities of 13 pairs: from an earlier run\n");

    const flipped = Buffer.from(good);
    flipped[good.length - 1000]! ^= 1;
    await writeFile(file, flipped);
    await expectRun(
      "computed",
      "\nnote: the reference's log-probabilities of an earlier run are damaged, computing them anew: " +
        `${file}: its values are not those that were written (SHA-256)\n`,
    );

    // Wrong values that were written as such: another model's, say.
    const tamper = async (chosenToken: number) => {
      const [logps] = (await readReferenceCache(file, [allTokens(file)]))!;
      logps!.chosen[chosenToken]! += 0.01;
      await writeReferenceCache(file, [logps!]);
    };
    await tamper(0);
    await expectRun(
      "computed",
      "\nreference log-probabilities of an earlier run do not agree with the model: computing them anew\n",
    );

    // Not among those that are computed again, but in step 1.
    await tamper(600); // Of 649 in nine pairs.
    const { code, stderr, output } = await runOnce(cache);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^dpo-train: step-0 proof failed: .* run with --set reference_cache=false$/m);
    expect(metricsOf(output)).toBe("");
    expect(runOf(output)).toMatchObject({ status: "failed", steps_done: 0, reference: "cache" });
    expect(existsSync(join(output, "adapter"))).toBe(false);
  });

  it("goes on where its reference cannot be kept", async () => {
    const cache = await freshCache();
    await writeFile(join(cache, "dpo-train", "reference"), "");
    const { code, stdout } = await runOnce(cache);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^note: the reference's log-probabilities could not be kept: .*\/dpo-train\/reference: /m);
  });
});

/** As many completion tokens as a kept reference has, as if of one pair. */
function allTokens(file: string): PairTokens {
  const bytes = readFileSync(file);
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + Number(bytes.readBigUInt64LE(0))));
  const tokens = (side: string) => new Uint32Array(header[side].shape[0]);
  return { promptIds: [], chosenIds: tokens("chosen"), rejectedIds: tokens("rejected") };
}
