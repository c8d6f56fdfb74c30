import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { PreferenceRow } from "../../src/data/rows.ts";
import type { TokenizedPair } from "../../src/data/tokenize.ts";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { encodeQuestions, questionsOfPairs } from "../../src/evaluation/held-out.ts";
import { readQuestions } from "../../src/evaluation/questions.ts";
import { openModelFolder } from "../../src/weights/model-folder.ts";
import { rootPath } from "../model/golden-model.ts";
import { inputErrorOf, temporaryFolder } from "../weights/fixtures.ts";

async function write(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(await temporaryFolder(), name);
  await writeFile(path, content);
  return path;
}

async function textsOf(name: string, content: string | Uint8Array): Promise<string[]> {
  return (await readQuestions(await write(name, content))).map(({ text }) => text);
}

describe("questions are read", () => {
  it.each([
    [
      "rows.jsonl",
      '{"instruction":"a","output":"x","input":""}\n\n{"prompt":"b"}\n{"question":"c 🦙"}\n',
      ["a", "b", "c 🦙"],
    ],
    ["rows.json", '["a", {"prompt": "b", "instruction": "not this"}]', ["a", "b"]],
    ["lines.txt", "a\r\n\r\n  b  \n{not json\n", ["a", "  b  ", "{not json"]],
    ["lines", "one", ["one"]],
  ])("from %s", async (name, content, texts) => {
    expect(await textsOf(name, content)).toEqual(texts);
  });

  it("with their line", async () => {
    const [, second] = await readQuestions(await write("q.txt", "a\n\nb\n"));
    expect(second!.source.line).toBe(3);
  });
});

describe("refused by file and line:", () => {
  it.each<[string, string, string | Uint8Array, string]>([
    ["no question", "q.txt", " \n\n", "must hold at least one question, found none"],
    ["no row", "q.jsonl", "", "must hold at least one question, found none"],
    ["no JSON", "q.jsonl", '"a"\n{"prompt": \n', "q.jsonl:2: must be JSON in UTF-8, and is not"],
    ["no UTF-8", "q.jsonl", Uint8Array.of(0x22, 0xff, 0x22), "q.jsonl:1: must be JSON in UTF-8, and is not"],
    ["no UTF-8 in lines", "q.txt", Uint8Array.of(0x61, 0xff), "must be UTF-8 text"],
    ["another format", "q.csv", "prompt\na\n", "questions must be in a .jsonl or .json file"],
    ["a byte order mark", "q.txt", "\ufeffa", "byte order mark"],
    ["other names", "q.jsonl", '{"text\\u001b":1}', "must have prompt, instruction, question, found text\\u001b"],
    ["names of Object's", "q.jsonl", '{"__proto__": {"prompt": "a"}}', "must have prompt, instruction, question"],
    ["a number", "q.jsonl", "7", "must be a text, or an object with"],
    ["a list", "q.jsonl", "[]", "must be a text, or an object with"],
    ["messages", "q.jsonl", '{"prompt":[{"role":"user","content":"a"}]}', "prompt must be text"],
    ["an empty text", "q.jsonl", '{"prompt":" \\n"}', "prompt must not be empty"],
    ["half a character", "q.jsonl", '{"prompt":"\\ud800"}', "half of a surrogate pair"],
    [
      "an input of Alpaca's",
      "q.jsonl",
      '{"instruction":"Translate","input":"Hallo"}',
      "input is not put into the prompt",
    ],
  ])("%s", async (_, name, content, message) => {
    const path = await write(name, content);
    const found = await inputErrorOf(() => readQuestions(path));
    expect(found).toContain(message);
    expect(found).toContain(name);
  });

  it("several rows at once", async () => {
    const path = await write("q.jsonl", "1\n2\n");
    expect(await inputErrorOf(() => readQuestions(path))).toMatch(/^2 rows .*\n.*:1: .*\n.*:2: /s);
  });
});

it("a question that is asked twice is asked once", async () => {
  const model = rootPath("test/golden/models/f16-one-kv");
  const folder = await openModelFolder(model);
  const tokenizer = await loadTokenizer(model);
  const texts = ["b", "a", "b"].map((text, i) => ({ text, source: { file: "q", line: i + 1 } }));
  const options = { tokenizer, config: folder.config, promptTemplate: "none" as const };
  expect(encodeQuestions(texts, options).map(({ text }) => text)).toEqual(["b", "a"]);
  const long = [{ text: "\u0001".repeat(2000), source: { file: "q", line: 7 } }];
  expect(await inputErrorOf(() => encodeQuestions(long, options))).toMatch(/^q:7: must make at most 1024 tokens/);
  await folder.close();
});

describe("questions of held-out pairs", () => {
  const config = { maxPositionEmbeddings: 4 } as Parameters<typeof questionsOfPairs>[2];
  const row = (line: number, prompt: string): PreferenceRow => ({
    kind: "text",
    prompt,
    chosen: `chosen ${line}`,
    rejected: "r",
    source: { file: "rows.jsonl", line },
  });
  const pair = ({ source }: PreferenceRow, promptIds: number[]) =>
    ({ promptIds: Uint32Array.from(promptIds), source }) as TokenizedPair;

  it("are each prompt once, with its first chosen answer, without dropped rows", () => {
    const rows = [row(1, "dropped"), row(2, "a"), row(3, "b"), row(4, "a")];
    const pairs = [pair(rows[1]!, [1, 2]), pair(rows[2]!, [1, 3]), pair(rows[3]!, [1, 2])];
    expect(questionsOfPairs(rows, pairs, config)).toEqual([
      { text: "a", promptIds: [1, 2], chosen: "chosen 2" },
      { text: "b", promptIds: [1, 3], chosen: "chosen 3" },
    ]);
  });

  it("show the turns of conversations", () => {
    const messages: PreferenceRow = {
      kind: "messages",
      prompt: [
        { role: "system", content: "Be brief." },
        { role: "user", content: "Why?" },
      ],
      chosen: [{ role: "assistant", content: "Because." }],
      rejected: [{ role: "assistant", content: "No." }],
      source: { file: "rows.jsonl", line: 1 },
    };
    expect(questionsOfPairs([messages], [pair(messages, [1])], config)).toEqual([
      { text: "system: Be brief.\n\nuser: Why?", promptIds: [1], chosen: "Because." },
    ]);
  });

  it("must fit the model's context", async () => {
    const rows = [row(3, "long")];
    const pairs = [pair(rows[0]!, [1, 2, 3, 4, 5])];
    expect(await inputErrorOf(() => questionsOfPairs(rows, pairs, config))).toMatch(
      /^rows.jsonl:3: prompt makes 5 tokens/,
    );
  });
});
