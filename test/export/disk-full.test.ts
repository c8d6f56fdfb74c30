import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished, vi } from "vitest";
import { mergeModel } from "../../src/export/merge.ts";
import { useDevice } from "../device.ts";
import { inputErrorOf } from "../weights/fixtures.ts";
import { ODD_CONFIG, openModel, randomAdapter, randomWeights } from "./fixtures.ts";

/** How many more writes the disk takes. */
const disk = vi.hoisted(() => ({ writesLeft: Number.POSITIVE_INFINITY }));

vi.mock("node:fs/promises", async (importOriginal) => {
  const original = await importOriginal<typeof import("node:fs/promises")>();
  const open: typeof original.open = async (path, flags, mode) => {
    const handle = await original.open(path, flags, mode);
    if (flags !== "wx") return handle;
    const write = handle.write.bind(handle) as (bytes: Uint8Array, offset: number) => Promise<{ bytesWritten: number }>;
    const limited = async (bytes: Uint8Array, offset: number) => {
      if (disk.writesLeft-- > 0) return write(bytes, offset);
      throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
    };
    return Object.assign(handle, { write: limited });
  };
  return { ...original, open };
});

const device = useDevice();

it("a full disk, at whatever file, is an InputError and leaves nothing behind", async () => {
  const config = { ...ODD_CONFIG, num_hidden_layers: 1 };
  const base = await openModel(randomWeights(config, "BF16").tensors, config, { "tokenizer.json": "{}" });
  const adapter = randomAdapter(base.config);
  const parent = await mkdtemp(join(tmpdir(), "dpo-train-full-"));
  onTestFinished(() => rm(parent, { recursive: true }));
  const outputFolder = join(parent, "merged");
  const merge = () =>
    mergeModel({ gpu: device.gpu, base, adapter, outputFolder, dtype: "bfloat16", maxShardBytes: 9_000 });

  const failed = new Set<string>();
  for (let writes = 0; ; writes++) {
    disk.writesLeft = writes;
    const error: unknown = await merge().then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    if (error === undefined) break;
    const message = await inputErrorOf(() => Promise.reject(error));
    const [, file] = /([^/]+): cannot write: no space left on device$/.exec(message) ?? [];
    failed.add(file!);
    expect(await readdir(parent)).toEqual([]);
  }
  const shards = [1, 2, 3, 4].map((shard) => `model-0000${shard}-of-00004.safetensors`);
  expect([...failed].sort()).toEqual(["config.json", ...shards, "model.safetensors.index.json", "tokenizer.json"]);
  expect(await readdir(parent)).toEqual(["merged"]);
});
