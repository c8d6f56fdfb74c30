import { expect, test } from "vitest";
import { type PreferenceRow, readPreferenceRows } from "../../src/data/rows.ts";
import { applyPromptTemplate, fillTemplate } from "../../src/data/templates.ts";
import { jsonlFile } from "./folders.ts";

test.each(["plain", "", "{}", "{} and {}", "$& $1 $$ $` \\1", "{0}", " trailing ", "a\r\nb"])(
  "the prompt %j is taken as it is",
  (prompt) => {
    expect(fillTemplate("none", prompt)).toBe(prompt);
    expect(fillTemplate("alpaca", prompt)).toBe(
      "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n" +
        `### Instruction:\n${prompt}\n\n### Response:\n`,
    );
  },
);

const readRow = async (row: object): Promise<PreferenceRow> => (await readPreferenceRows(await jsonlFile([row])))[0]!;
const turn = (role: string, content: string) => ({ role, content });

test("a system message is a turn for a chat template, and text before the prompt for the others", async () => {
  const row = await readRow({ system: "Be brief.", question: "Why?", chosen: "So.", rejected: "No." });
  expect(applyPromptTemplate(row, "chat")).toMatchObject({
    kind: "messages",
    prompt: [turn("system", "Be brief."), turn("user", "Why?")],
    chosen: [turn("assistant", "So.")],
  });
  expect(applyPromptTemplate(row, "none")).toMatchObject({ kind: "text", prompt: "Be brief.\n\nWhy?", chosen: "So." });
  expect(applyPromptTemplate(row, "alpaca").prompt).toContain("### Instruction:\nBe brief.\n\nWhy?\n\n### Response:\n");
  const without = await readRow({ system: "", question: "Why?", chosen: "So.", rejected: "No." });
  expect(applyPromptTemplate(without, "none").prompt).toBe("Why?");
  expect(applyPromptTemplate(without, "chat").prompt).toEqual([turn("user", "Why?")]);
});

test("a text of HH-RLHF's kind is its turns for a chat template, and TRL's common start for none", async () => {
  const start = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Why?\n\nAssistant: ";
  const row = await readRow({ chosen: `${start}So.`, rejected: `${start}Some say` });
  expect(applyPromptTemplate(row, "chat")).toMatchObject({
    kind: "messages",
    prompt: [turn("user", "Hi"), turn("assistant", "Hello"), turn("user", "Why?")],
    chosen: [turn("assistant", "So.")],
    rejected: [turn("assistant", "Some say")],
  });
  expect(applyPromptTemplate(row, "none")).toMatchObject({ prompt: `${start}So`, chosen: ".", rejected: "me say" });
});
