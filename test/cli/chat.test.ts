import { spawn } from "node:child_process";
import { describe, expect, it, onTestFinished } from "vitest";
import { AnswerInterrupt } from "../../src/cli/chat.ts";
import { TEST_DEVICE } from "../device.ts";
import { rootPath } from "../model/golden-model.ts";
import { dpoTrain, ended, start } from "./process.ts";

const TWIN = ["--model", "examples/twin-tiny/model", "--prompt-template", "alpaca"];
const CHAT = ["generate", "--device", TEST_DEVICE, ...TWIN, "--temperature", "0", "--max-new-tokens", "8", "--chat"];
const [FIRST, SECOND] = ["What is the main theme?", "And what else?"];

/** The answers, a line each: the model's own line ends are told apart by their absence in so short ones. */
async function answers(input: string, args: readonly string[] = CHAT): Promise<string[]> {
  const { code, stdout } = await dpoTrain(args, { input });
  expect(code).toBe(0);
  return stdout.trimEnd().split("\n");
}

describe("a chat", () => {
  it("answers each line with what was said before, until /exit or the end", async () => {
    const [one, two, ...others] = await answers(`${FIRST}\n\n${SECOND}\n/exit\nmore\n`);
    expect(others).toEqual([]);
    const alone = CHAT.filter((option) => option !== "--chat");
    const asked = await dpoTrain([...alone, "--prompt", FIRST]);
    expect(one).toBe(asked.stdout);
    expect(two).not.toBe("");
    // The second answer is that to a conversation: without the first turn there is another.
    expect(await answers(`${FIRST}\n${SECOND}`)).toEqual([one, two]);
    const [again, reset] = await answers(`${FIRST}\n/reset\n${FIRST}\n`);
    expect([again, reset]).toEqual([one, one]);
  }, 60_000);

  it("tells its commands, and what is wrong with a message, and goes on", async () => {
    const { code, stdout, stderr } = await dpoTrain(CHAT, { input: `/what\n${"word ".repeat(5000)}\n${FIRST}\n` });
    expect(code).toBe(0);
    expect(stdout.trimEnd().split("\n")).toHaveLength(1);
    expect(stderr.match(/^\/reset begins anew/gm)).toHaveLength(2);
    expect(stderr).toMatch(/^a message must make at most \d+ tokens, to leave room for an answer, found \d+/m);
    expect(stderr).toMatch(/^8 tokens at \d+\.\d tokens\/s, cut at --max-new-tokens; /m);
  });

  it("takes no other prompt, and no chat template where there is none", async () => {
    const both = await dpoTrain([...CHAT, "--prompt", FIRST]);
    expect(both).toMatchObject({ code: 2, stdout: "" });
    expect(both.stderr).toContain("--chat reads its messages from standard input");
    const chat = await dpoTrain([...CHAT, "--prompt-template", "chat"]);
    expect(chat.code).toBe(2);
    expect(chat.stderr).toContain("needs a model with a chat template, and this one has none");
  });
});

describe("Ctrl-C", () => {
  const endless = [...CHAT, "--max-new-tokens", "1500", "--temperature", "1", "--top-p", "1"];

  it("ends the answer at hand, and the chat goes on", async () => {
    const child = start(endless, { input: `${FIRST}\n/exit\n` });
    child.stdout!.once("data", () => child.kill("SIGINT"));
    const { code, stderr } = await ended(child);
    expect(code).toBe(0);
    expect(stderr).toMatch(/broken off; /);
    expect(stderr).not.toContain("interrupted");
  });

  it("where no answer is at hand ends the program", async () => {
    const child = spawn(process.execPath, [rootPath("dist/cli/main.js"), ...CHAT], { cwd: rootPath(".") });
    onTestFinished(() => void child.kill("SIGKILL"));
    child.stderr.on("data", (text) => String(text).includes("/reset begins anew") && child.kill("SIGINT"));
    const { code, stdout, stderr } = await ended(child); // Its standard input stays open.
    expect({ code, stdout }).toEqual({ code: 130, stdout: "" });
    expect(stderr).toMatch(/dpo-train: interrupted\n$/);
  });

  it("a second time is not the answer's any more", () => {
    const interrupt = new AnswerInterrupt();
    expect(interrupt.interrupt()).toBe(false);
    const signal = interrupt.begin();
    expect([signal.aborted, interrupt.interrupt(), signal.aborted, interrupt.interrupt()]).toEqual([
      false,
      true,
      true,
      false,
    ]);
    interrupt.end();
    expect(interrupt.begin().aborted).toBe(false);
  });
});
