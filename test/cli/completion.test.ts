import { execFileSync, spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { SETTING_KEYS } from "../../src/config/keys.ts";
import { rootPath } from "../model/golden-model.ts";
import { temporaryFolder } from "../weights/fixtures.ts";
import { dpoTrain } from "./process.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;
const INSTALLED = SHELLS.filter((shell) => !spawnSync(shell, ["--version"]).error);

const scripts = new Map(
  SHELLS.map((shell) => {
    const main = rootPath("dist/cli/main.js");
    return [shell as string, execFileSync(process.execPath, [main, "completion", shell], { encoding: "utf8" })];
  }),
);

it.each(INSTALLED)("the script for %s is one that it can read", async (shell) => {
  const file = join(await temporaryFolder(), "completion");
  await writeFile(file, scripts.get(shell)!);
  execFileSync(shell, ["-n", file]);
});

it("every shell is told of every command, and of every option of one that is deep down", async () => {
  const { stdout } = await dpoTrain(["data", "judge", "--help"]);
  const options = [...stdout.matchAll(/^ +(?:-\w, )?--([\w-]+)/gm)].map(([, name]) => name!);
  expect(options.length).toBeGreaterThan(10);
  for (const script of scripts.values()) {
    for (const name of [
      "generate",
      "merge",
      "devices",
      "plan",
      "sweep",
      "report",
      "data",
      "inspect",
      "build",
      "init",
    ]) {
      expect(script).toContain(name);
    }
    for (const option of options) expect(script).toMatch(new RegExp(`(--| -l )${option}\\b`));
    for (const key of SETTING_KEYS) expect(script).toContain(`${key}=`);
  }
});

it("is not in the program's help, and refuses other shells", async () => {
  expect((await dpoTrain(["--help"])).stdout).not.toContain("completion");
  expect(await dpoTrain(["completion", "cmd"])).toMatchObject({ code: 2, stdout: "" });
  expect(await dpoTrain(["completion"])).toMatchObject({ code: 2, stdout: "" });
});

/** What bash offers for a line with the cursor at its end. Readline breaks words at "=" too. */
function offered(line: string): string[] {
  const words = line.split(/(?<= ) *|(?==)|(?<==)/).map((word) => word.trim());
  if (line.endsWith(" ")) words.push("");
  const program = `${scripts.get("bash")}
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _dpo_train; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const output = execFileSync("bash", ["--noprofile", "--norc", "-c", program, "bash", ...words], {
    cwd: rootPath("."),
    encoding: "utf8",
  });
  return output.split("\n").filter((word) => word !== "");
}

describe("bash offers", () => {
  it.each([
    ["dpo-train ", ["generate", "merge", "devices", "plan", "sweep", "report", "data", "init"]],
    ["dpo-train ge", ["generate"]],
    ["dpo-train --prof", ["--profile"]],
    ["dpo-train generate --prompt-", ["--prompt-file", "--prompt-template"]],
    ["dpo-train generate --prompt-template ", ["none", "alpaca", "chat"]],
    ["dpo-train generate --prompt-template=al", ["alpaca"]],
    ["dpo-train generate --prompt-template=", ["none", "alpaca", "chat"]],
    ["dpo-train --precision f", ["f32", "f16"]],
    ["dpo-train data ", ["inspect", "build", "judge"]],
    ["dpo-train data inspect --ma", ["--max-length"]],
    ["dpo-train --config data --set adam_b", ["adam_beta1=", "adam_beta2="]],
    ["dpo-train --config data pl", ["plan"]],
    [
      "dpo-train --set beta=0.5 --set lora.",
      ["lora.r=", "lora.lora_alpha=", "lora.lora_dropout=", "lora.target_modules="],
    ],
    ["dpo-train --config configs/twin", ["configs/twin.yaml", "configs/twin-tiny.yaml"]],
    ["dpo-train --config=configs/twin-", ["configs/twin-tiny.yaml"]],
    ["dpo-train data inspect examples/twin-tiny/mo", ["examples/twin-tiny/model"]],
    ["dpo-train report ex", ["examples"]],
    ["dpo-train push ex", ["examples"]],
    ["dpo-train push examples --what ", ["adapter", "merged"]],
    ["dpo-train sweep --executor ", ["local", "slurm", "kubernetes"]],
    ["dpo-train plan --shape 8", ["8b"]],
  ])("for %j", (line, expected) => {
    expect(offered(line).sort()).toEqual(expect.arrayContaining([...expected].sort()));
    if (!line.endsWith(" ")) expect(offered(line).sort()).toEqual([...expected].sort());
  });

  it.each([
    "dpo-train --set beta=",
    "dpo-train --set beta=0",
    "dpo-train generate --temperature ",
    "dpo-train generate --prompt ge",
    "dpo-train nothing",
    "dpo-train devices ",
  ])("nothing for %j", (line) => {
    expect(offered(line)).toEqual([]);
  });
});
