import { stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { makeFolder } from "../../src/weights/make-folder.ts";
import { inputErrorOf, temporaryFolder } from "./fixtures.ts";

it("makes a folder with those it lies in, and takes one that is there", async () => {
  const folder = join(await temporaryFolder(), "a", "b", "c");
  for (let again = 0; again < 2; again++) {
    await makeFolder(folder);
    expect((await stat(folder)).isDirectory()).toBe(true);
  }
});

it("a file in the way is an InputError that names the folder", async () => {
  const file = join(await temporaryFolder(), "file");
  await writeFile(file, "");
  for (const folder of [file, join(file, "a"), join(file, "a", "b")]) {
    expect(await inputErrorOf(() => makeFolder(folder))).toMatch(new RegExp(`^${folder}: cannot create: `));
  }
});

it("a file system that makes no folders is one too", async () => {
  expect(await inputErrorOf(() => makeFolder("/proc/dpo-train/a/b"))).toMatch(
    /^\/proc\/dpo-train\/a\/b: cannot create: /,
  );
});
