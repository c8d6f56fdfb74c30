import { cp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { findCheckpoint } from "../../../src/train/checkpoint/find-checkpoint.ts";
import { inputErrorOf } from "../../weights/fixtures.ts";
import { temporaryFolder } from "../whole-run.ts";
import { train } from "./runs.ts";

vi.mock("../../../src/platform/dawn.ts", () => import("../shared-device.ts"));

const folder = temporaryFolder();
const whole = join(folder, "whole");
const NEWEST = "checkpoints/step-000008";

const FILES = [
  "adapter_config.json",
  "adapter_model.safetensors",
  "manifest.json",
  "metrics.jsonl",
  "optimizer.safetensors",
  "state.json",
];

/** A bit at the beginning, in the middle and at the end of a file, and at two places between. */
const flipAt = (share: number) => async (file: string) => {
  const bytes = await readFile(file);
  const at = Math.min(bytes.length - 1, Math.floor(share * bytes.length));
  bytes[at] = bytes[at]! ^ (1 << (at % 8));
  await writeFile(file, bytes);
};
const truncateTo = (share: number) => async (file: string) => {
  const bytes = await readFile(file);
  await writeFile(file, bytes.subarray(0, Math.floor(share * bytes.length)));
};

const DAMAGES: readonly (readonly [name: string, damage: (file: string) => Promise<void>])[] = [
  ["deleted", (file) => rm(file)],
  ["emptied", truncateTo(0)],
  ["cut in the middle", truncateTo(0.5)],
  ["cut by a byte", async (file) => writeFile(file, (await readFile(file)).subarray(0, -1))],
  ["longer by a byte", async (file) => writeFile(file, Buffer.concat([await readFile(file), Buffer.of(0x0a)]))],
  ["a folder", async (file) => rename(await rmAndMake(file), file)],
  ...[0, 0.27, 0.5, 0.77, 1].map((share) => [`with a bit flipped at ${share}`, flipAt(share)] as const),
];

async function rmAndMake(file: string): Promise<string> {
  await rm(file);
  await cp(join(file, "../../step-000004"), `${file}.folder`, { recursive: true });
  return `${file}.folder`;
}

async function find(output: string, choice: string | true = true) {
  const said: string[] = [];
  const terminal = { line: (text: string) => void said.push(text), status: () => {}, progress: () => {} };
  return { found: await findCheckpoint(output, choice, terminal), said };
}

async function copy(name: string): Promise<string> {
  const output = join(folder, name.replaceAll("/", " "));
  await cp(whole, output, { recursive: true });
  return output;
}

beforeAll(async () => {
  expect(await train(whole, { stopAt: "step  8/11" })).toMatchObject({ error: { exitCode: 130 } });
  const { found, said } = await find(whole);
  expect({ step: found?.state.loop.step, said }).toEqual({ step: 8, said: [] });
  expect((await readdir(join(whole, NEWEST))).sort()).toEqual(FILES);
});

describe.each(FILES)("a checkpoint whose %s is", (file) => {
  it.each(DAMAGES)("%s is named and the one before is taken", async (name, damage) => {
    const output = await copy(`${file} ${name}`);
    await damage(join(output, NEWEST, file));
    const { found, said } = await find(output);
    expect(found).toMatchObject({ path: join(output, "checkpoints/step-000004"), state: { loop: { step: 4 } } });
    expect(said).toEqual([
      expect.stringContaining(`note: ${join(output, NEWEST)} is damaged and is not used: ${join(output, NEWEST)}`),
    ]);
    expect(await inputErrorOf(() => find(output, "step-000008"))).toMatch(
      /^--resume step-000008: the checkpoint is damaged: .*; --resume alone takes the newest one that is whole$/,
    );
  });
});

it("of two checkpoints whose files were exchanged neither is used", async () => {
  const output = await copy("exchanged");
  await rename(join(output, NEWEST), join(output, "aside"));
  await rename(join(output, "checkpoints/step-000004"), join(output, NEWEST));
  await rename(join(output, "aside"), join(output, "checkpoints/step-000004"));
  expect(await inputErrorOf(() => find(output))).toBe(
    `--resume: every checkpoint in ${output}/checkpoints is damaged; to train from the beginning choose another output_dir, or remove it`,
  );
});

it("an empty newer folder, one of another name and a file are no checkpoints to use", async () => {
  const output = await copy("others");
  const checkpoints = join(output, "checkpoints");
  await cp(join(output, NEWEST), join(checkpoints, "step-9"), { recursive: true });
  await cp(join(output, NEWEST), join(checkpoints, ".step-000012.0123456789ab.partial"), { recursive: true });
  await writeFile(join(checkpoints, "step-000009"), "");
  await cp(join(folder, "whole"), join(checkpoints, "step-000010"), { recursive: true });
  const { found, said } = await find(output);
  expect(found?.state.loop.step).toBe(8);
  expect(said.map((line) => line.match(/step-\d+/)?.[0])).toEqual(["step-000010", "step-000009"]);
});

it("they are ordered by their steps, not by their times", async () => {
  const output = await copy("order");
  const old = join(output, "checkpoints/step-000004");
  await cp(old, `${old}.again`, { recursive: true });
  await rm(old, { recursive: true });
  await rename(`${old}.again`, old);
  expect((await find(output)).found?.state.loop.step).toBe(8);
});

it("a name that is not there is refused with those that are", async () => {
  expect(await inputErrorOf(() => find(whole, "step-000007"))).toBe(
    `--resume step-000007: there is no such checkpoint; ${whole}/checkpoints holds step-000008, step-000004`,
  );
  expect(await inputErrorOf(() => find(join(folder, "nowhere"), "/no/such\u202e/place"))).toContain(
    "--resume /no/such\\u202e/place: there is no such checkpoint; ",
  );
  const other = await copy("the output of another run");
  expect(await inputErrorOf(() => find(other, join(whole, NEWEST)))).toContain("holds the checkpoints of a run");
});
