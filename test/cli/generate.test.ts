import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { describe, expect, it } from "vitest";
import { readPrompt } from "../../src/cli/prompt-source.ts";
import { printableLines } from "../../src/text.ts";
import { TEST_DEVICE } from "../device.ts";
import { type GreedyAnswer, greedyAnswers } from "../golden/greedy.ts";
import { temporaryFolder } from "../weights/fixtures.ts";
import { dpoTrain, ended, type ProcessOptions, pretendTerminal, start } from "./process.ts";

const GENERATE = ["generate", "--device", TEST_DEVICE];

function run(args: readonly string[], options: ProcessOptions = {}) {
  return dpoTrain([...GENERATE, ...args], options);
}

async function temporaryFile(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(await temporaryFolder(), name);
  await writeFile(path, content);
  return path;
}

const { cases, max_new_tokens: maxNewTokens } = greedyAnswers();
const f16 = cases.filter(({ name }) => name === "f16-one-kv");
const MODEL = f16[0]!.model;
const TWIN = cases.find(({ name }) => name === "twin-tiny")!.model;
const GREEDY = ["--temperature", "0", "--max-new-tokens", String(maxNewTokens)];

const argumentsOf = ({ model, adapter, prompt_template: template }: GreedyAnswer) => [
  ...["--model", model, "--prompt-template", template],
  ...(adapter === null ? [] : ["--adapter", adapter]),
];

describe("the answer on standard output is transformers'", () => {
  const [base, , longBase] = f16;
  const adapted = f16.find(({ adapter }) => adapter !== null)!;

  it("with --prompt", async () => {
    const { code, stdout, stderr } = await run([...argumentsOf(base!), "--prompt", base!.prompt, ...GREEDY]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: base!.text });
    expect(stderr).toMatch(
      new RegExp(`^${base!.model} on .+: \\d+\\.\\d MiB, of which \\d+\\.\\d MiB for a context of \\d+ tokens`, "m"),
    );
    expect(stderr).toMatch(
      /^24 tokens at \d+\.\d tokens\/s, cut at --max-new-tokens; prompt of 141 tokens in \d+\.\d\d s$/m,
    );
  });

  it("with an adapter, from standard input whose last line end does not count, until the model ends it", async () => {
    const { code, stdout, stderr } = await run([...argumentsOf(adapted), ...GREEDY], { input: `${adapted.prompt}\n` });
    expect({ code, stdout }).toEqual({ code: 0, stdout: adapted.text });
    expect(stderr).toMatch(/^16 tokens at .*, ended by the model; /m);
  });

  it("with --compare behind the base's own", async () => {
    const alone = await run(["--model", MODEL, "--prompt", adapted.prompt, ...GREEDY]);
    const args = ["--model", MODEL, "--adapter", adapted.adapter!, "--prompt", adapted.prompt, "--compare", ...GREEDY];
    const trained = await run(args.filter((argument) => argument !== "--compare"));
    const { code, stdout } = await run(args);
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: `base:\n${alone.stdout}\n\nwith ${adapted.adapter}:\n${trained.stdout}\n`,
    });
    const side = await run(args, { node: [pretendTerminal("stdout")] });
    expect(side.code).toBe(0);
    const rows = side.stdout.trimEnd().split("\n");
    expect(rows[0]).toMatch(/^base +│ with the adapter$/);
    for (const row of rows) expect([...row].length).toBeLessThanOrEqual(79);
    const columnOf = (i: number) => rows.slice(2).map((row) => /^(.*?) │ ?(.*)$/su.exec(row)![i + 1]!);
    const letters = (text: string) => printableLines(text).replace(/\s/g, "");
    expect(letters(columnOf(0).join(""))).toBe(letters(alone.stdout));
    expect(letters(columnOf(1).join(""))).toBe(letters(trained.stdout));

    const without = await run(["--model", MODEL, "--prompt", "a", "--compare"]);
    expect(without).toMatchObject({ code: 2, stderr: expect.stringContaining("--compare needs --adapter") });
  });

  it("with --chat --compare of both, each going on with its own answers", async () => {
    const input = "Who are you?\nAnd then?\n";
    const chat = [...["--model", MODEL, "--chat"], ...["--temperature", "0", "--max-new-tokens", "3"]];
    const adapter = ["--adapter", adapted.adapter!];
    const [base, trained] = [await run(chat, { input }), await run([...chat, ...adapter], { input })];
    const both = await run([...chat, ...adapter, "--compare"], { input });
    const answersOf = ({ stdout }: { stdout: string }) => stdout.trimEnd().split("\n");
    const expected = answersOf(base).map(
      (answer, i) => `base:\n${answer}\n\nwith ${adapted.adapter}:\n${answersOf(trained)[i]}\n`,
    );
    expect(both).toMatchObject({ code: 0, stdout: expected.join("") });
    expect(expected).toHaveLength(2);
    expect(base.stdout).not.toBe(trained.stdout);
    expect(both.stderr).toMatch(/ for two contexts of \d+ tokens$/m);
  });

  it("with --prompt-file, longer than a chunk", async () => {
    const file = await temporaryFile("prompt.txt", `${longBase!.prompt}\r\n`);
    const { code, stdout } = await run([...argumentsOf(longBase!), "--prompt-file", file, ...GREEDY]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: longBase!.text });
  });

  it("with model and prompt_template of a training config, unless options say otherwise", async () => {
    const config = await temporaryFile("run.yaml", `model: ${MODEL}\ndataset: rows.jsonl\nprompt_template: alpaca\n`);
    const args = ["--config", config, "--prompt", base!.prompt, ...GREEDY];
    expect(await run(args)).toMatchObject({ code: 0, stdout: base!.text });
    const other = await run([...args, "--prompt-template", "none"]);
    expect(other.code).toBe(0);
    expect(other.stdout).not.toBe(base!.text);
  });

  it("and on a terminal without what a terminal obeys", async () => {
    const bell = cases.find(({ name, text }) => name === "gqa-llama3" && text.includes("\u0014"))!;
    const args = [...argumentsOf(bell), "--prompt", bell.prompt, ...GREEDY];
    const { code, stdout } = await run(args, { node: [pretendTerminal("stdout")] });
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${printableLines(bell.text)}\n` });
    expect(stdout).toContain("\\u0014");
  });
});

it("a sampled answer is the same with the same seed", async () => {
  const args = ["--model", MODEL, "--prompt", "a", "--max-new-tokens", "12", "--temperature", "1.5", "--top-p", "1"];
  const [first, again, other] = [
    await run([...args, "--seed", "3"]),
    await run([...args, "--seed", "3"]),
    await run([...args, "--seed", "4", "--top-k", "200"]),
  ];
  expect(first.code).toBe(0);
  expect(again.stdout).toBe(first.stdout);
  expect(other.code).toBe(0);
  expect(other.stdout).not.toBe(first.stdout);
});

it("min_p at its highest leaves the likeliest token alone", async () => {
  const [base] = f16;
  const args = [...argumentsOf(base!), "--prompt", base!.prompt, "--max-new-tokens", String(maxNewTokens)];
  const { code, stdout } = await run([...args, "--temperature", "2", "--top-p", "1", "--min-p", "1"]);
  expect({ code, stdout }).toEqual({ code: 0, stdout: base!.text });
});

it("with --weights-cache the second answer is the first one, from what that has kept", async () => {
  const [base] = f16;
  const environment = { XDG_CACHE_HOME: await temporaryFolder() };
  const args = [...argumentsOf(base!), "--prompt", base!.prompt, ...GREEDY, "--weights-cache", "--precision", "f32"];
  const [first, second] = [await run(args, { environment }), await run(args, { environment })];
  expect(first).toMatchObject({ code: 0, stdout: base!.text });
  expect(second).toMatchObject({ code: 0, stdout: base!.text });
  expect(first.stderr).not.toContain("an earlier run kept");
  expect(second.stderr).toContain("from the converted weights that an earlier run kept");
});

it("the end of the context ends the answer", async () => {
  const prompt = "\u0001".repeat(1018); // And the BOS: 5 positions are left of 1024, and one token needs none.
  const args = ["--model", MODEL, "--prompt", prompt, "--temperature", "0"];
  const { code, stderr } = await run(args);
  expect(code).toBe(0);
  expect(stderr).toMatch(/^6 tokens at .*, cut at the end of the model's context; prompt of 1019 tokens/m);
});

describe("an answer that is not read to its end", () => {
  const args = ["--model", TWIN, "--prompt", "Once", "--max-new-tokens", "1900", "--temperature", "1", "--top-p", "1"];

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("stops at %s with exit code %i", async (signal, exitCode) => {
    const child = start([...GENERATE, ...args]);
    child.stdout!.once("data", () => child.kill(signal));
    const { code, stderr } = await ended(child);
    expect(code).toBe(exitCode);
    expect(stderr).toMatch(
      new RegExp(`^${signal}: stopping .*\\n\\d+ tokens .*broken off; .*\\ndpo-train: interrupted\\n$`, "m"),
    );
  });

  it("stops when its reader leaves, without a complaint", async () => {
    const child = start([...GENERATE, ...args]);
    child.stdout!.once("data", () => child.stdout!.destroy());
    const { code, stderr } = await ended(child);
    expect(code).toBe(0);
    expect(stderr).toMatch(/broken off; prompt of \d+ tokens in \d+\.\d\d s\n$/);
  });
});

it("a signal ends the wait for a prompt that does not come", async () => {
  const stopping = new AbortController();
  const reading = readPrompt({}, stopping.signal, new PassThrough());
  stopping.abort(new Error("stopped"));
  await expect(reading).rejects.toThrow("stopped");
});

describe("a mistake ends with exit code 2 and one sentence", () => {
  const model = ["--model", MODEL];
  const prompt = ["--prompt", "a"];
  it.each<[string, string[], string]>([
    ["no model", prompt, "a model is needed: give --model FOLDER, --model OWNER/NAME or --config FILE"],
    ["two prompts", [...model, ...prompt, "--prompt-file", "x"], "--prompt and --prompt-file must not both be given"],
    [
      "no such prompt file",
      [...model, "--prompt-file", "no/such"],
      "--prompt-file: no/such: cannot open: no such file",
    ],
    [
      "a template",
      [...model, ...prompt, "--prompt-template", "llama"],
      "--prompt-template must be one of none, alpaca, chat",
    ],
    ["no chat template", [...model, ...prompt, "--prompt-template", "chat"], "need a model with a chat template"],
    [
      "a temperature",
      [...model, ...prompt, "--temperature", "-1"],
      "--temperature must be a number of at least 0, got",
    ],
    ["top_p", [...model, ...prompt, "--top-p", "1.5"], '--top-p must be a number from 0 to 1, got "1.5"'],
    ["top_k", [...model, ...prompt, "--top-k", "1.5"], '--top-k must be a whole number of at least 0, got "1.5"'],
    ["min_p", [...model, ...prompt, "--min-p", "1.1"], '--min-p must be a number from 0 to 1, got "1.1"'],
    ["a precision", [...model, ...prompt, "--precision", "f8"], '--precision must be auto, f32 or f16, got "f8"'],
    ["a seed", [...model, ...prompt, "--seed", "0x1\u001b[2J"], 'least 0, got "0x1\\u001b[2J"'],
    [
      "no token",
      [...model, ...prompt, "--max-new-tokens", "0"],
      "--max-new-tokens must be a whole number of at least 1",
    ],
    ["no such model", ["--model", "./no/such", ...prompt], '--model "./no/such" does not exist'],
    [
      "no such adapter",
      [...model, ...prompt, "--adapter", "no/such"],
      "--adapter: no/such: cannot open a PEFT adapter",
    ],
    [
      "another model's adapter",
      [...model, ...prompt, "--adapter", "test/golden/twin-tiny/final_adapter"],
      "--adapter: test/",
    ],
    ["a prompt too long", [...model, "--prompt", "\u0001".repeat(1024)], "--prompt: must make at most 1024 tokens"],
  ])("%s", async (_, args, message) => {
    const { code, stderr } = await run(args);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^dpo-train: /);
    expect(stderr).toContain(message);
    expect(stderr).not.toContain("    at ");
  });

  it("an empty standard input, or none", async () => {
    for (const input of ["", "\n"]) {
      const { code, stdout, stderr } = await run(model, { input });
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
      expect(stderr).toBe("dpo-train: standard input: must hold the prompt, found nothing\n");
    }
  });

  it("bytes that are no text", async () => {
    const file = await temporaryFile("prompt.txt", Uint8Array.of(0x61, 0xff));
    const { code, stderr } = await run([...model, "--prompt-file", file]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^dpo-train: --prompt-file: .*must be UTF-8 text/);
  });

  it("a device that is not there has an exit code of its own", async () => {
    const { code, stderr } = await run([...model, ...prompt, "--device", "no such card"]);
    expect(code).toBe(3);
    expect(stderr).toContain("--device no such card matches no adapter");
  });
});
