import { mkdir, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, it } from "vitest";
import { InputError } from "../../src/errors.ts";
import { candidateShapes } from "../../src/ops/fragment-shapes.ts";
import { decisionsFile, readDecisions, writeDecisions } from "../../src/platform/kept-decisions.ts";
import { readKernel } from "../../src/platform/kernels.ts";
import { temporaryFolder } from "../weights/fixtures.ts";

const UNIT = {
  matrixM: 16,
  matrixN: 16,
  matrixK: 16,
  subgroupSize: 32,
  workgroupBytes: 48 * 1024,
  workgroupInvocations: 1024,
};
const ADAPTER = { name: "Card (driver 1.0)", vendor: "maker", architecture: "kind" };
const [WIDE, NARROW] = ["matmul nt 8192 x 4096 x 4096", "matmul tn 32 x 4096 x 8192"];

it("are read as they were written", async () => {
  const folder = await temporaryFolder();
  const file = decisionsFile(ADAPTER, UNIT, { folder });
  expect(path.dirname(file)).toBe(path.join(folder, "tuning"));
  const decisions = new Map([
    [WIDE!, 3],
    [NARROW!, 0],
  ]);
  await writeDecisions(file, decisions);
  expect(await readDecisions(file, UNIT)).toEqual(decisions);
  await writeDecisions(file, new Map([[WIDE!, 1]]));
  expect(await readDecisions(file, UNIT)).toEqual(new Map([[WIDE, 1]]));
  expect(await readdir(path.dirname(file))).toEqual([path.basename(file)]);
});

it("are another driver's, adapter's, kernel's or list's in another file", () => {
  const names = [
    decisionsFile(ADAPTER, UNIT, { folder: "/cache" }),
    decisionsFile({ ...ADAPTER, name: "Card (driver 1.1)" }, UNIT, { folder: "/cache" }),
    decisionsFile({ ...ADAPTER, vendor: "other" }, UNIT, { folder: "/cache" }),
    decisionsFile({ ...ADAPTER, architecture: "other" }, UNIT, { folder: "/cache" }),
    decisionsFile(ADAPTER, { ...UNIT, workgroupInvocations: 128 }, { folder: "/cache" }),
    ...["matmul/tensor", "matmul/tensor_tn"].map((changed) =>
      decisionsFile(ADAPTER, UNIT, {
        folder: "/cache",
        kernelSource: (name) => `${readKernel(name)}${name === changed ? " " : ""}`,
      }),
    ),
  ];
  expect(new Set(names).size).toBe(names.length);
  expect(decisionsFile({ ...ADAPTER }, { ...UNIT }, { folder: "/cache" })).toBe(names[0]);
});

it("are none where the file is missing, damaged or something else", async () => {
  const folder = await temporaryFolder();
  const file = path.join(folder, "file");
  expect(await readDecisions(file, UNIT)).toEqual(new Map());
  for (const text of ["", "{", `{"${WIDE}": 1`, "null", "7", '"text"', "[1, 2]", '{"__proto__": 1}', "\0\0\0\0"]) {
    await writeFile(file, text);
    expect(await readDecisions(file, UNIT), text).toEqual(new Map());
  }
  await mkdir(path.join(folder, "folder"));
  expect(await readDecisions(path.join(folder, "folder"), UNIT)).toEqual(new Map());
});

it("leave out numbers that are no candidate's", async () => {
  const file = path.join(await temporaryFolder(), "file");
  const candidates = candidateShapes(UNIT, { kind: "tn", m: 32, n: 4096, k: 8192 }).length;
  for (const wrong of [-1, candidates, 1.5, 1e300, "0", null, [0], {}]) {
    await writeFile(file, JSON.stringify({ [NARROW!]: wrong, "matmul of something": 0, [WIDE!]: 2 }));
    expect(await readDecisions(file, UNIT), JSON.stringify(wrong)).toEqual(new Map([[WIDE, 2]]));
  }
});

it("cannot be written into a folder that is a file", async () => {
  const folder = await temporaryFolder();
  await writeFile(path.join(folder, "tuning"), "");
  const file = decisionsFile(ADAPTER, UNIT, { folder });
  await expect(writeDecisions(file, new Map())).rejects.toThrow(InputError);
});
