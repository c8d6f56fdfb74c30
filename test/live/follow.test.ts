import { appendFile, rename, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { BEGINNING, readNew, sizeOf, stampOf } from "../../src/live/follow.ts";
import { temporaryFolder } from "../weights/fixtures.ts";

const line = (step: number) => `${JSON.stringify({ step, loss: step / 10 })}\n`;
const stepsOf = ({ records }: Awaited<ReturnType<typeof readNew>>) => records.map(({ step }) => step);

async function newFile(text: string): Promise<string> {
  const file = join(await temporaryFolder(), "metrics.jsonl");
  await writeFile(file, text);
  return file;
}

describe("a file that grows", () => {
  it("is read once, line by whole line", async () => {
    const file = await newFile(line(1) + line(2).slice(0, 5));
    const first = await readNew(file, BEGINNING);
    expect(first.records).toEqual([{ step: 1, loss: 0.1 }]);
    expect(stepsOf(await readNew(file, first.end))).toEqual([]);
    await appendFile(file, line(2).slice(5) + line(3));
    const second = await readNew(file, first.end);
    expect(stepsOf(second)).toEqual([2, 3]);
    expect(second.end.offsetBytes).toBe(await sizeOf(file));
    expect(stepsOf(await readNew(file, second.end))).toEqual([]);
  });

  it.each([
    ["a place inside of a line is its beginning", line(1).length + 3, [2, 3]],
    ["a place behind a line is the next one's", line(1).length, [2, 3]],
    ["a place behind the end is the beginning", 10_000, [1, 2, 3]],
  ])("%s", async (_, offsetBytes, steps) => {
    const file = await newFile(line(1) + line(2) + line(3));
    expect(stepsOf(await readNew(file, { offsetBytes, inode: null }))).toEqual(steps);
  });

  it("that became shorter, or another one, is read anew", async () => {
    const file = await newFile(line(1) + line(2) + line(3));
    const { end } = await readNew(file, BEGINNING);
    await truncate(file, line(1).length);
    expect(stepsOf(await readNew(file, end))).toEqual([1]);
    await writeFile(`${file}.new`, line(1) + line(2) + line(3) + line(4));
    await rename(`${file}.new`, file);
    expect(stepsOf(await readNew(file, end))).toEqual([1, 2, 3, 4]);
  });

  it("may be missing, and come", async () => {
    const file = join(await temporaryFolder(), "later.jsonl");
    const before = await readNew(file, BEGINNING);
    expect(before).toEqual({ records: [], end: BEGINNING });
    expect([await sizeOf(file), await stampOf(file)]).toEqual([0, ""]);
    await writeFile(file, line(7));
    expect(stepsOf(await readNew(file, before.end))).toEqual([7]);
    expect(await stampOf(file)).not.toBe("");
  });

  it("holds lines that are no records: they are left out", async () => {
    const file = await newFile(`${line(1)}not JSON\n\n[1]\n{"step":"2"}\n${line(3)}`);
    expect(stepsOf(await readNew(file, BEGINNING))).toEqual([1, 3]);
  });

  it("is read in parts where it is long", async () => {
    const count = 200_000;
    const file = await newFile(Array.from({ length: count }, (_, i) => line(i)).join(""));
    const steps: number[] = [];
    for (let place = BEGINNING; ; ) {
      const { records, end } = await readNew(file, place);
      if (records.length === 0) break;
      for (const { step } of records) steps.push(step);
      place = end;
    }
    expect(steps).toEqual(Array.from({ length: count }, (_, i) => i));
  });
});
