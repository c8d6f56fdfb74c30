import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseHubReference, resolveModel } from "../../src/hub/resolve.ts";
import { type Fixture, QUICK, REPOSITORY, startFixture } from "./fixture.ts";

let fixture: Fixture;
beforeAll(async () => {
  fixture = await startFixture();
  await mkdir(join(fixture.home, "models/owner/name"), { recursive: true });
  await mkdir(join(fixture.home, "plain"));
  await mkdir(join(fixture.home, "owner@v1"));
  await writeFile(join(fixture.home, "config.json"), "{}");
});
afterAll(() => fixture.close());

const find = (reference: string) =>
  resolveModel(reference, { place: "configs/a.yaml:3:8: model", env: fixture.env, timing: QUICK });

describe("a local folder", () => {
  it.each(["models/owner/name", "plain", "plain/", "owner@v1", "./plain/../plain"])("%s wins", async (path) => {
    const folder = join(fixture.home, path).replace(/\/$/, "");
    expect(await find(`${fixture.home}/${path}`)).toEqual({ source: "local", folder });
    expect(fixture.hub.seen).toEqual([]);
  });

  it("may be named from the user's home", async () => {
    expect(await find("~/plain")).toEqual({ source: "local", folder: join(fixture.home, "plain") });
  });

  it("wins over a Hub id of the same name", async () => {
    const before = process.cwd();
    process.chdir(join(fixture.home, "models"));
    try {
      expect(await find("owner/name")).toEqual({ source: "local", folder: join(process.cwd(), "owner/name") });
    } finally {
      process.chdir(before);
    }
  });

  it("is a folder, not a file", async () => {
    await expect(find(join(fixture.home, "config.json"))).rejects.toThrow(
      /^configs\/a.yaml:3:8: model ".*config.json" is a file: give the folder that holds config.json$/,
    );
  });
});

describe("a reference that leads nowhere", () => {
  it.each([
    "./missing",
    "../missing",
    "/missing/model",
    "~/missing",
    "a/b/c",
    "models/",
    "C:\\models\\llama",
    "owner/model.safetensors",
    "model.gguf",
    "owner/model.bin@main",
    "./plain@v1",
  ])("%s looks like a path, and is said not to exist", async (reference) => {
    await expect(find(reference)).rejects.toThrow(/^configs\/a.yaml:3:8: model ".*" does not exist: give an existing/);
    expect(fixture.hub.seen).toEqual([]);
  });

  it.each([
    "",
    " ",
    "gpt2",
    "owner/",
    "owner name/model",
    "owner/nämé",
    "owner--x/name",
    "owner/na..me",
    "owner/name.git",
    "-owner/name",
    "owner/name-",
    "https://huggingface.co",
    `owner/${"n".repeat(97)}`,
    "owner/na\u0000me",
    "owner/na\u001b[31mme",
    "@main",
  ])("%o is neither a path nor a Hub id", async (reference) => {
    const error = await find(reference).catch((reason: unknown) => reason);
    expect(String(error)).toMatch(/^InputError: configs\/a.yaml:3:8: model ".*" (is neither|does not exist)/);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the message must hold none.
    expect(String(error)).not.toMatch(/[\u0000-\u001f]/);
    expect(fixture.hub.seen).toEqual([]);
  });

  it.each([
    "",
    "../../evil",
    "/etc",
    "a//b",
    "-x",
    "a b",
    "a\u0000",
    "a\\b",
    "a:b",
    "x.lock",
    "a@{1}",
    ".hidden",
    "a/",
  ])("the revision %o is refused", async (revision) => {
    await expect(find(`owner/name@${revision}`)).rejects.toThrow('has no usable revision after "@"');
    expect(fixture.hub.seen).toEqual([]);
  });
});

describe("a Hub id", () => {
  it.each([
    ["mlabonne/TwinLlama-3.1-8B", "mlabonne/TwinLlama-3.1-8B", "main"],
    ["Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B", "main"],
    ["a/b", "a/b", "main"],
    ["_x/y_", "_x/y_", "main"],
    ["owner/name@refs/pr/12", "owner/name", "refs/pr/12"],
    ["owner/name@v1.0+a_b-c", "owner/name", "v1.0+a_b-c"],
    ["owner/name@model.bin", "owner/name", "model.bin"],
    ["owner/name@fé", "owner/name", "fé"],
  ])("%s is read as %s at %s", (reference, name, revision) => {
    expect(parseHubReference(reference, "model")).toEqual({ repo: { type: "model", name }, revision });
  });

  it("that the Hub does not know is said to be no folder either", async () => {
    await expect(find("ada/nothing")).rejects.toThrow(
      /^configs\/a.yaml:3:8: model ada\/nothing is no local folder, and .* has no such repository/,
    );
    await expect(find(`${REPOSITORY}@v9`)).rejects.toThrow('has no revision "v9" (404)');
  });
});
