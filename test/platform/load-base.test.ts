import { createHash } from "node:crypto";
import { appendFileSync } from "node:fs";
import { cp, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { InputError } from "../../src/errors.ts";
import { tensorRanges } from "../../src/model/base-weights.ts";
import { type LoadOptions, loadBaseWeights, type Precision } from "../../src/platform/load-base.ts";
import { type ModelFolder, openModelFolder } from "../../src/weights/model-folder.ts";
import { useDevice } from "../device.ts";
import { rootPath } from "../model/golden-model.ts";
import { convertElements } from "../reference/convert.ts";
import { inputErrorOf, temporaryFolder } from "../weights/fixtures.ts";

const device = useDevice();

const SHARDED = "examples/twin-tiny/model";
const F16 = "test/golden/models/f16-one-kv";

/** A copy of a model that a test may change, opened. */
async function modelCopy(
  model: string,
  change: (folder: string) => void | Promise<void> = () => {},
): Promise<ModelFolder> {
  const folder = join(await temporaryFolder(), "model");
  await cp(rootPath(model), folder, { recursive: true });
  await change(folder);
  const opened = await openModelFolder(folder);
  onTestFinished(() => opened.close());
  return opened;
}

function load(folder: ModelFolder, precision: Precision, options: LoadOptions = {}) {
  return loadBaseWeights(device.gpu, folder, precision, options);
}

describe.each([SHARDED, F16])("%s", (model) => {
  it.each(["f32", "f16"] as const)(
    "in %s: every element, the files' hashes and what was rounded",
    async (precision) => {
      const folder = await modelCopy(model);
      const progress: [number, number][] = [];
      const base = await load(folder, precision, { onProgress: (...bytes) => progress.push(bytes) });

      let inexact = 0;
      for (const [name, target] of base.weights.tensors) {
        const tensor = folder.tensors.get(name)!;
        const dtype = tensor.dtype as "F16" | "BF16";
        const source = await tensor.file.readTensor(name);
        if (target.kind === "vector") {
          const [found] = await device.gpu.read(target.range);
          const wanted = convertElements(dtype, source, "F32").bytes;
          expect(Buffer.compare(new Uint8Array(found!, 0, wanted.byteLength), wanted), name).toBe(0);
          continue;
        }
        if (target.kind === "nf4") throw new Error("nothing is kept in 4 bits here");
        const { format, cols, parts } = target.weight;
        expect(cols % 8).toBe(0);
        const wanted = convertElements(dtype, source, format.toUpperCase() as "BF16" | "F16" | "F32");
        inexact += wanted.inexact;
        const [found] = await device.gpu.read(parts[0]!.range);
        expect(Buffer.compare(new Uint8Array(found!, 0, wanted.bytes.byteLength), wanted.bytes), name).toBe(0);
      }
      const hashes = folder.files.map(async ({ path }) => {
        return [
          path.split("/").at(-1),
          createHash("sha256")
            .update(await readFile(path))
            .digest("hex"),
        ];
      });
      expect(base.sha256).toEqual(Object.fromEntries(await Promise.all(hashes)));
      const sizeBytes = folder.files.reduce((sum, file) => sum + file.sizeBytes, 0);
      expect(base).toMatchObject({ precision, from: "files", rounded: inexact, sizeBytes, readBytes: sizeBytes });
      expect(base.loadMs).toBeGreaterThan(0);
      expect(progress.map(([done]) => done)).toEqual(progress.map(([done]) => done).sort((a, b) => a - b));
      expect(progress.every(([, total]) => total === sizeBytes)).toBe(true);
    },
  );
});

it("leaves nothing but the weights on the GPU, not even when it is stopped", async () => {
  const folder = await modelCopy(SHARDED);
  const before = device.gpu.memory.liveBytes;
  const { weights } = await load(folder, "f32");
  const weightBytes = device.gpu.memory.liveBytes - before;
  const expected = [...weights.tensors.values()]
    .flatMap(tensorRanges)
    .reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  expect(weightBytes).toBe(expected);
  const stop = new InputError("stop");
  const stopped = load(folder, "f32", {
    onProgress: () => {
      throw stop;
    },
  });
  await expect(stopped).rejects.toBe(stop);
  expect(device.gpu.memory.liveBytes).toBe(before + weightBytes);
});

it("names the tensor that f16 does not hold, and how many of its elements", async () => {
  const folder = await modelCopy(SHARDED);
  const [name, tensor] = [...folder.tensors].find(([key]) => key.includes("down_proj"))!;
  const bytes = await readFile(tensor.file.path);
  for (const [element, bits] of [0x4780, 0x7f80, 0x7fc1].entries())
    bytes.writeUInt16LE(bits, tensor.offsetBytes + 10 * element);
  await writeFile(tensor.file.path, bytes);
  await folder.close();
  const changed = await openModelFolder(folder.path);
  onTestFinished(() => changed.close());
  const message = await inputErrorOf(() => load(changed, "f16"));
  expect(message).toContain(
    `${tensor.file.path}: on the f16 path every weight must lie within ±65504, but 3 elements of ${name} do not`,
  );
  expect((await load(changed, "f32")).rounded).toBe(0);
});

it.each([
  ["truncated", (path: string) => truncate(path, 100_000), "the file became shorter while it was read"],
  ["written to", (path: string) => appendFileSync(path, "x"), "the file was changed while it was read"],
])("a shard that is %s while another is read", async (_, change, expected) => {
  const folder = await modelCopy(SHARDED);
  const message = await inputErrorOf(async () => {
    await change(folder.files[1]!.path); // It was opened before.
    await load(folder, "f32");
  });
  expect(message).toContain(expected);
});
