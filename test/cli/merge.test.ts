import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { TEST_DEVICE } from "../device.ts";
import { rootPath } from "../model/golden-model.ts";
import { temporaryFolder } from "../weights/fixtures.ts";
import { dpoTrain, pretendTerminal, signalAt } from "./process.ts";

const MODEL = rootPath("test/golden/models/gqa-llama3");
const ADAPTER = rootPath("test/golden/merge/gqa-llama3-tiny/adapter");
const MERGE = ["merge", "--device", TEST_DEVICE];

function run(...args: string[]) {
  return dpoTrain([...MERGE, ...args]);
}

describe("dpo-train merge", () => {
  it("writes a model folder, and says how much of the adapter the rounding kept", async () => {
    const output = join(await temporaryFolder(), "merged");
    const { code, stdout, stderr } = await run("--model", MODEL, "--adapter", ADAPTER, "--output", output);
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /^merge fidelity in bfloat16 \(.*\)\n +fidelity +kept +error +in float16\n {2}q_proj +0\.006 /,
    );
    expect(stdout).toMatch(/\nadvice: rounding to bfloat16 lost 100% of what was learnt: .*\n$/);
    expect(stderr).toMatch(/^wrote .*\/merged: 1 weight file, 0\.3 MB in bfloat16, in \d+\.\d s\n$/m);
    expect((await readdir(output)).sort()).toEqual(
      [...(await readdir(MODEL)).filter((name) => !name.startsWith("model")), "model.safetensors"].sort(),
    );
  });

  it("takes dtype and shard size, and prints JSON", async () => {
    const output = join(await temporaryFolder(), "merged");
    const options = ["--dtype", "float32", "--max-shard-size", "300KB", "--json"];
    const { code, stdout } = await run("--model", MODEL, "--adapter", ADAPTER, "--output", output, ...options);
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({
      output,
      files: [{ name: "model-00001-of-00002.safetensors" }, { name: "model-00002-of-00002.safetensors" }],
      fidelity: { dtype: "float32", overall: { float16: { fidelity: expect.closeTo(0.031, 3) } }, advice: null },
    });
    expect(report.adapter_sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(report.fidelity.modules).toHaveLength(21);
    expect(JSON.parse(await readFile(join(output, "config.json"), "utf8"))).toMatchObject({ torch_dtype: "float32" });
  });

  it("refuses an output folder that holds something, before anything else", async () => {
    const output = await temporaryFolder();
    await writeFile(join(output, "notes.txt"), "mine");
    const { code, stdout, stderr } = await run("--model", "none/none/none", "--adapter", ADAPTER, "--output", output);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toBe(
      `dpo-train: the output folder ${output} must not exist, or be empty, found notes.txt; choose another, or remove it\n`,
    );
  });

  it.each([
    [["--model", "no/such/model", "--adapter", ADAPTER], /^dpo-train: --model "no\/such\/model" does not exist: /],
    [["--model", MODEL, "--adapter", "nowhere"], /^dpo-train: --adapter: nowhere: cannot open a PEFT adapter folder: /],
    [
      ["--model", MODEL, "--adapter", MODEL],
      /^dpo-train: --adapter: .* must be a PEFT adapter folder with adapter_config\.json/,
    ],
    [
      ["--model", rootPath("test/golden/models/mha-tied"), "--adapter", ADAPTER],
      /^dpo-train: --adapter: .*\n.*must have the shapes that r and the model require/,
    ],
    [
      ["--model", MODEL, "--adapter", ADAPTER, "--max-shard-size", "5 GB"],
      /max-shard-size must be a size .*, found "5 GB"/,
    ],
    [
      ["--model", MODEL, "--adapter", ADAPTER, "--dtype", "int8"],
      /int8.*Allowed choices are bfloat16, float16, float32/,
    ],
    [["--adapter", ADAPTER], /required option '--model/],
  ])("refuses %j", async (args, message) => {
    const folder = await temporaryFolder();
    await mkdir(join(folder, "output"));
    const { code, stdout, stderr } = await run("--output", join(folder, "output"), ...args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(message);
    expect(await readdir(join(folder, "output"))).toEqual([]);
    expect(await readdir(folder)).toEqual(["output"]);
  });

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("stops at %s with exit code %i, and leaves nothing", async (signal, exitCode) => {
    const folder = await temporaryFolder();
    const output = join(folder, "merged");
    const { code, stdout, stderr } = await dpoTrain(
      [...MERGE, "--model", MODEL, "--adapter", ADAPTER, "--output", output],
      { node: [pretendTerminal("stderr"), signalAt("stderr", ["merging: "], signal)] },
    );
    expect({ code, stdout }).toEqual({ code: exitCode, stdout: "" });
    expect(stderr).toMatch(new RegExp(`${signal}: stopping [\\s\\S]*dpo-train: interrupted; nothing was written\\n$`));
    expect(stderr).not.toContain("100%");
    expect(await readdir(folder)).toEqual([]);
  });
});
