import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import { InputError } from "../../src/errors.ts";
import { REQUIRED } from "./problems.ts";

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "dpo-train-config-"));
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

function write(name: string, bytes: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

function message(path: string): string {
  try {
    loadConfig(path);
  } catch (error) {
    if (error instanceof InputError) return error.message.replaceAll(folder, "FOLDER");
    throw error;
  }
  throw new Error("it loaded");
}

test("the config, its path and its text come back", () => {
  const path = write("ok.yaml", REQUIRED);
  expect(loadConfig(path, ["beta=0.3"])).toMatchObject({
    path,
    sourceText: REQUIRED,
    config: { model: "m", beta: 0.3 },
  });
});

test("a byte order mark counts neither as text nor as a column", () => {
  const path = write("bom.yaml", `\ufeffmodel: 5\r\ndataset: d\r\n`);
  expect(message(path)).toBe(
    "FOLDER/bom.yaml:1:8: model must be a model folder or a Hugging Face Hub id, got 5; put it in quotes",
  );
});

test("what is not a readable text file is refused", () => {
  mkdirSync(join(folder, "sub"));
  symlinkSync("loop.yaml", join(folder, "loop.yaml"));
  const file = write("file.yaml", REQUIRED);
  expect(message(join(folder, "missing.yaml"))).toBe(
    "FOLDER/missing.yaml: cannot read the config: there is no such file",
  );
  expect(message(join(folder, "sub"))).toBe("FOLDER/sub: a config must be a file, got a folder");
  expect(message(join(file, "below"))).toContain("FOLDER/file.yaml/below: cannot read the config: ENOTDIR");
  expect(message(join(folder, "loop.yaml"))).toContain("cannot read the config: ELOOP");
  expect(message(join(folder, "x".repeat(300)))).toContain("cannot read the config: ENAMETOOLONG");
  expect(message(`${folder}/nul\0.yaml`)).toContain("FOLDER/nul\\u0000.yaml: cannot read the config: ");
  expect(message("")).toContain("cannot read the config: there is no such file");
  expect(message(`${folder}/\u001b[31m.yaml`)).toBe(
    "FOLDER/\\u001b[31m.yaml: cannot read the config: there is no such file",
  );
});

test.each([
  ["utf-16.yaml", Uint8Array.of(0xff, 0xfe, 0x6d, 0x00)],
  ["latin-1.yaml", Uint8Array.of(0x6d, 0x3a, 0x20, 0xe9, 0x0a)],
  ["cut.yaml", Uint8Array.of(0x6d, 0x3a, 0x20, 0xe2, 0x82)],
])("%s is not UTF-8", (name, bytes) => {
  expect(message(write(name, bytes))).toBe(`FOLDER/${name}: a config must be UTF-8 text, which this file is not`);
});

test("1 MiB is read, one byte more is not", () => {
  const filled = (sizeBytes: number) => `${REQUIRED.padEnd(sizeBytes - 1, "#")}\n`;
  const full = filled(1024 * 1024).replace(/#/, "\n#");
  expect(loadConfig(write("full.yaml", `${full.slice(0, -2)}\n`)).config.model).toBe("m");
  expect(message(write("large.yaml", filled(1024 * 1024 + 1)))).toBe(
    "FOLDER/large.yaml: a config must not be larger than 1048576 bytes",
  );
});

test("a device without an end is not read to its end", () => {
  expect(message("/dev/zero")).toBe("/dev/zero: a config must not be larger than 1048576 bytes");
});
