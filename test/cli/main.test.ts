import { closeSync, openSync, readFileSync } from "node:fs";
import { describe, expect, it, onTestFinished } from "vitest";
import { rootPath } from "../model/golden-model.ts";
import { dpoTrain, start } from "./process.ts";

const { version } = JSON.parse(readFileSync(rootPath("package.json"), "utf8"));
const HINT = "(dpo-train --help lists the commands and options)\n";
const hintOf = (command: string) => `(dpo-train ${command} --help lists what it takes)\n`;

describe("help", () => {
  it.each([["--help"], ["-h"], ["help"]])("%s fits a screen of 80 columns and 24 lines", async (option) => {
    const { code, stdout, stderr } = await dpoTrain([option]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const lines = stdout.trimEnd().split("\n");
    expect(lines.length).toBeLessThanOrEqual(23); // And the prompt's.
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(80);
    for (const name of [
      "--config",
      "--set",
      "--device",
      "--dry-run",
      "generate",
      "merge",
      "devices",
      "plan",
      "sweep",
      "report",
      "data",
      "init",
      "Exit codes",
    ]) {
      expect(stdout).toContain(name);
    }
  });

  it.each([
    ["generate", "--prompt-file"],
    ["merge", "--max-shard-size"],
    ["devices", "--json"],
    ["plan", "--shape"],
    ["sweep", "--stop-worse"],
    ["report", "--out"],
    ["init", "--dataset"],
  ])("of %s", async (command, option) => {
    const { code, stdout } = await dpoTrain([command, "--help"]);
    expect(code).toBe(0);
    expect(stdout).toContain(option);
    expect(await dpoTrain(["help", command])).toMatchObject({ code: 0, stdout });
  });

  it("of every command, at every depth, ends in examples of it that name its options", async () => {
    const seen: string[][] = [];
    const walk = async (path: string[]): Promise<void> => {
      const { code, stdout } = await dpoTrain([...path, "--help"]);
      expect(code).toBe(0);
      const [help, listed = ""] = stdout.split("\nCommands:\n");
      if (path.length > 0) {
        seen.push(path);
        const [options, examples = ""] = stdout.split("\nExamples:\n");
        expect(examples).toMatch(new RegExp(`^ .*dpo-train ${path.join(" ")}\\b`));
        const ofOthers = path[0] === "data" && path.length === 1; // What it groups is told by its commands.
        for (const [option] of ofOthers ? [] : examples.matchAll(/(?<= )--[a-z-]+/g)) expect(options).toContain(option);
      }
      const names = path.length > 0 ? listed : help!.split("COMMAND [--help]\n")[1]!;
      for (const [, name] of names.matchAll(/^ {2}([a-z]+) /gm)) {
        if (name !== "help") await walk([...path, name!]);
      }
    };
    await walk([]);
    await walk(["completion"]);
    expect(seen.map((path) => path.join(" "))).toEqual(
      expect.arrayContaining(["generate", "sweep", "init", "data", "data inspect", "data build", "data judge"]),
    );
  }, 60_000);

  it("into a pipe that nobody reads", async () => {
    const child = start(["--help"]);
    child.stdout!.destroy();
    expect(await new Promise((resolve) => child.on("exit", resolve))).toBe(0);
  });
});

it("a full disk behind standard output is told, with exit code 2", async () => {
  const full = openSync("/dev/full", "w");
  onTestFinished(() => closeSync(full));
  for (const command of ["--help", "devices"]) {
    const { code, stderr } = await dpoTrain([command], { stdout: full });
    expect(code).toBe(2);
    expect(stderr).toContain("dpo-train: standard output: cannot write: no space left on device\n");
  }
});

it("--version", async () => {
  expect(await dpoTrain(["--version"])).toMatchObject({ code: 0, stdout: `${version}\n`, stderr: "" });
});

it.each<[string[], string]>([
  [[], "a config is needed: dpo-train --config FILE (dpo-train --help)\n"],
  [
    ["tune"],
    'unknown command "tune": the commands are generate, merge, devices, plan, sweep, eval, report, push, data, init; to train use dpo-train --config FILE\n',
  ],
  [
    ["configs/twin.yaml"],
    'unknown command "configs/twin.yaml": the commands are generate, merge, devices, plan, sweep, eval, report, push, data, init; to train ',
  ],
  [["--config", "configs/twin.yaml", "tune"], 'unknown command "tune": '],
  [["--epochs", "3"], `unknown option '--epochs'\n${HINT}`],
  [["--config"], `option '--config <file>' argument missing\n${HINT}`],
  [["--config", "nowhere.yaml"], "nowhere.yaml: cannot read the config: there is no such file\n"],
  [["--config", "configs"], "configs: a config must be a file, got a folder\n"],
  [["devices", "all"], `too many arguments for 'devices'. Expected 0 arguments but got 1.\n${hintOf("devices")}`],
  [["devices", "--device", "software"], `unknown option '--device'\n${hintOf("devices")}`],
  [["--device", "software", "devices"], `--device must stand behind the command: dpo-train devices --option\n${HINT}`],
  [["merge", "--model", "m"], `required option '--adapter <folder>' not specified\n${hintOf("merge")}`],
  [["data", "build"], `required option '--articles <file>' not specified\n${hintOf("data build")}`],
])("%j is refused with exit code 2", async (args, message) => {
  const { code, stdout, stderr } = await dpoTrain(args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr.startsWith(`dpo-train: ${message}`)).toBe(true);
});
