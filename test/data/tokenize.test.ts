import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { readPreferenceRows } from "../../src/data/rows.ts";
import { encodePrompt, tokenizeRows } from "../../src/data/tokenize.ts";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { InputError } from "../../src/errors.ts";
import { jsonlFile, TWIN_TINY, tokenizerFolder } from "./folders.ts";
import { goldenChatTemplate, goldenTokens } from "./golden.ts";

const twinTiny = await loadTokenizer(TWIN_TINY);

test.each(goldenTokens("pairs"))("TRL's tokens with the template $template, max_length $max_length", async (golden) => {
  const isText = golden.template === "none" || golden.template === "alpaca";
  const tokenizer = isText
    ? twinTiny
    : await loadTokenizer(await tokenizerFolder({ "chat_template.jinja": goldenChatTemplate(golden.template) }));
  const { pairs, dropped } = tokenizeRows(await readPreferenceRows(await jsonlFile(golden.rows)), tokenizer, {
    promptTemplate: golden.template === "alpaca" ? "alpaca" : "none",
    maxLength: golden.max_length,
  });
  const byLine = new Map(pairs.map((pair) => [pair.source.line, pair]));
  golden.expected.forEach((expected, i) => {
    const pair = byLine.get(i + 1);
    const ours = pair && {
      prompt_ids: [...pair.promptIds],
      chosen_ids: [...pair.chosenIds],
      rejected_ids: [...pair.rejectedIds],
      mismatch: pair.mergesAcrossBoundary,
    };
    expect(ours ?? null, `row ${i}: ${JSON.stringify(golden.rows[i])}`).toEqual(expected);
  });
  expect(pairs.length + dropped.length).toBe(golden.rows.length);
});

describe("rows that cannot be used", () => {
  const LLAMA3 = goldenChatTemplate("llama3");
  const user = (content: string) => ({ role: "user", content });
  const assistant = (content: string) => ({ role: "assistant", content });

  interface Given {
    rows: object[];
    template?: "none" | "alpaca" | "chat";
    maxLength?: number;
    chatTemplate?: string;
    tokenizerJson?: string;
  }

  async function refusal({
    rows,
    template = "none",
    maxLength = 64,
    chatTemplate,
    tokenizerJson,
  }: Given): Promise<string> {
    const files: Record<string, string> = {};
    if (chatTemplate !== undefined) files["chat_template.jinja"] = chatTemplate;
    if (tokenizerJson !== undefined) files["tokenizer.json"] = tokenizerJson;
    const tokenizer = await loadTokenizer(await tokenizerFolder(files));
    const read = await readPreferenceRows(await jsonlFile(rows));
    let message = "";
    try {
      tokenizeRows(read, tokenizer, { promptTemplate: template, maxLength });
    } catch (error) {
      expect(error).toBeInstanceOf(InputError);
      message = (error as InputError).message;
    }
    return message.replaceAll(/\/\S*\/(?=rows\.jsonl)/g, "");
  }

  test("messages with the alpaca template", async () => {
    const rows = [{ prompt: [user("a")], chosen: [assistant("b")], rejected: [assistant("c")] }];
    expect(await refusal({ rows, template: "alpaca", chatTemplate: LLAMA3 })).toBe(
      "rows.jsonl:1: prompt_template: alpaca needs text, found messages; use prompt_template: chat, which is made for them",
    );
  });

  test("a chat template that the model does not have", async () => {
    const message =
      "rows.jsonl: messages and prompt_template: chat need a model with a chat template, and this one has none";
    expect(await refusal({ rows: [{ prompt: "a", chosen: "b", rejected: "c" }], template: "chat" })).toContain(message);
    const rows = [{ prompt: [user("a")], chosen: [assistant("b")], rejected: [assistant("c")] }];
    expect(await refusal({ rows })).toContain(message);
  });

  test("what the chat template itself refuses", async () => {
    const rows = [
      { prompt: [user("a")], chosen: [assistant("b")], rejected: [assistant("c")] },
      {
        prompt: [user("a"), { role: "tool\u001b", content: "x" }],
        chosen: [assistant("b")],
        rejected: [assistant("c")],
      },
    ];
    const chatTemplate =
      "{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}{{ raise_exception('no role ' + m.role) }}" +
      "{% endif %}{{ m.content }}\n{% endfor %}";
    expect(await refusal({ rows, chatTemplate })).toBe(
      "rows.jsonl:2: the chat template refuses the messages: no role tool\\u001b",
    );
  });

  test("an answer without a token of its own", async () => {
    // The special token that prompt and answer spell together is one token, where the prompt alone makes several.
    expect(await refusal({ rows: [{ prompt: "<|eot", chosen: "_id|>", rejected: "x" }] })).toMatch(
      /^rows\.jsonl:1: chosen must make at least one token after the prompt's \d+, found none$/,
    );
    const chatTemplate = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}";
    const rows = [{ prompt: [user("a")], chosen: [user(" b")], rejected: [assistant("c")] }];
    expect(await refusal({ rows, chatTemplate })).toBe(
      "rows.jsonl:1: rejected must make at least one token after the prompt's 1, found none",
    );
  });

  test("a prompt without a token, where nothing predicts the answer", async () => {
    const json = JSON.parse(readFileSync(`${TWIN_TINY}/tokenizer.json`, "utf8"));
    const tokenizerJson = JSON.stringify({ ...json, post_processor: null });
    const rows = [
      { prompt: "a", chosen: "b", rejected: "c" },
      { prompt: "", chosen: "b", rejected: "c" },
    ];
    expect(await refusal({ rows, tokenizerJson })).toBe(
      "rows.jsonl:2: prompt must make at least one token, found none: nothing would predict the first token of the answers",
    );
  });

  test("prompts that all fill max_length", async () => {
    const rows = Array.from({ length: 3 }, () => ({ prompt: "1 2 3 4 5 6 7 8", chosen: "b", rejected: "c" }));
    expect(await refusal({ rows, maxLength: 8 })).toMatch(
      /^rows\.jsonl: no row is left: the prompt alone of each fills max_length 8 \(rows\.jsonl:1: \d+ tokens\); raise max_length$/,
    );
  });
});

describe("cutting to max_length", () => {
  const rows = [{ prompt: "one", chosen: "two three four five", rejected: "six" }];
  const tokenize = async (maxLength: number) =>
    tokenizeRows(await readPreferenceRows(await jsonlFile(rows)), twinTiny, { promptTemplate: "none", maxLength });

  test("keeps the start and counts what it cuts, down to one token", async () => {
    const [whole] = (await tokenize(1024)).pairs;
    const promptLength = whole!.promptIds.length;
    const chosenLength = whole!.chosenIds.length;
    const rejectedLength = whole!.rejectedIds.length;
    expect(whole).toMatchObject({ chosenCut: 0, rejectedCut: 0 });
    for (let kept = 1; kept <= chosenLength; kept++) {
      const [pair] = (await tokenize(promptLength + kept)).pairs;
      expect(pair!.promptIds).toEqual(whole!.promptIds);
      expect(pair!.chosenIds).toEqual(whole!.chosenIds.slice(0, kept));
      expect(pair!.rejectedIds).toEqual(whole!.rejectedIds.slice(0, kept));
      expect(pair!.chosenCut).toBe(chosenLength - kept);
      expect(pair!.rejectedCut).toBe(Math.max(0, rejectedLength - kept));
    }
    await expect(tokenize(promptLength)).rejects.toThrow("no row is left");
  });

  test("drops the rows whose prompt fills it and names them", async () => {
    const long = { prompt: "one ".repeat(40), chosen: "a", rejected: "b" };
    const read = await readPreferenceRows(await jsonlFile([...rows, long, ...rows]));
    const { pairs, dropped } = tokenizeRows(read, twinTiny, { promptTemplate: "none", maxLength: 30 });
    expect(pairs.map(({ source }) => source.line)).toEqual([1, 3]);
    expect(dropped).toEqual([{ source: read[1]!.source, promptTokens: twinTiny.encode(long.prompt, true).length }]);
  });
});

test("prompt_template: chat makes a conversation of a text row", async () => {
  const tokenizer = await loadTokenizer(await tokenizerFolder({ "chat_template.jinja": goldenChatTemplate("llama3") }));
  const text = await readPreferenceRows(await jsonlFile([{ prompt: "Hi {}", chosen: " a ", rejected: "b" }]));
  const messages = await readPreferenceRows(
    await jsonlFile([
      {
        prompt: [{ role: "user", content: "Hi {}" }],
        chosen: [{ role: "assistant", content: " a " }],
        rejected: [{ role: "assistant", content: "b" }],
      },
    ]),
  );
  const [fromText, fromMessages] = [text, messages].map(
    (rows) => tokenizeRows(rows, tokenizer, { promptTemplate: "chat", maxLength: 64 }).pairs[0]!,
  );
  expect({ ...fromText, source: null }).toEqual({ ...fromMessages, source: null });
  expect(tokenizer.decode([...fromText!.promptIds])).toBe(
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi {}<|eot_id|>" +
      "<|start_header_id|>assistant<|end_header_id|>\n\n",
  );
  expect(tokenizer.decode([...fromText!.chosenIds])).toBe("a<|eot_id|>");
  expect(encodePrompt("Hi {}", tokenizer, "chat")).toEqual([...fromText!.promptIds]);
});

test("encodePrompt encodes a prompt as a text row's is", async () => {
  const rows = await readPreferenceRows(await jsonlFile([{ prompt: " What $& {}? ", chosen: "a", rejected: "b" }]));
  for (const promptTemplate of ["none", "alpaca"] as const) {
    const { pairs } = tokenizeRows(rows, twinTiny, { promptTemplate, maxLength: 64 });
    expect(encodePrompt(" What $& {}? ", twinTiny, promptTemplate)).toEqual([...pairs[0]!.promptIds]);
  }
  expect(() => encodePrompt("a", twinTiny, "chat")).toThrow(InputError);
});
