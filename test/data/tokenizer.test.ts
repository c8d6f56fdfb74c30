import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { InputError } from "../../src/errors.ts";
import { TWIN_TINY, temporaryFolder, tokenizerFolder } from "./folders.ts";
import { goldenTokens } from "./golden.ts";

const twinTiny = await loadTokenizer(TWIN_TINY);
const config: Record<string, unknown> = JSON.parse(readFileSync(join(TWIN_TINY, "tokenizer_config.json"), "utf8"));
const configWith = (changes: object): string => JSON.stringify({ ...config, ...changes });

test("names the special tokens and the vocabulary size", () => {
  expect(twinTiny.bos).toEqual({ text: "<|begin_of_text|>", id: 4096 });
  expect(twinTiny.eos).toEqual({ text: "<|end_of_text|>", id: 4097 });
  expect(twinTiny.pad).toEqual({ text: "<|finetune_right_pad_id|>", id: 4098 });
  expect(twinTiny.vocabularySize).toBe(4102);
  expect(twinTiny.chatTemplate).toBeUndefined();
});

test("encodes with and without special tokens", () => {
  const ids = twinTiny.encode("Hello", false);
  expect(twinTiny.encode("Hello", true)).toEqual([4096, ...ids]);
  expect(twinTiny.encode("", false)).toEqual([]);
  expect(twinTiny.encode("", true)).toEqual([4096]);
});

describe("decoding", () => {
  test.each(goldenTokens("decode"))("$ids", ({ ids, text, without_special }) => {
    expect(twinTiny.decode(ids)).toBe(text);
    expect(twinTiny.decode(ids, { skipSpecialTokens: true })).toBe(without_special);
  });

  test("leaves out ids that the tokenizer does not know", () => {
    const ids = twinTiny.encode("Hello", false);
    expect(twinTiny.decode([])).toBe("");
    expect(twinTiny.decode([4150])).toBe("");
    expect(twinTiny.decode([4150, ...ids, 2 ** 31])).toBe("Hello");
  });

  test("in a stream gives the same text", () => {
    const texts = [
      "Hello, 日本語 😀👩‍👩‍👧 naïve\n",
      " leading",
      "\ufffd real replacement \ufffd",
      "a<|eot_id|> b<|end_of_text|>",
      "",
    ];
    for (const text of texts) {
      const stream = twinTiny.streamDecoder();
      const pieces = twinTiny.encode(text, false).map((id) => stream.push(id));
      expect([...pieces, stream.end()].join("")).toBe(text);
    }
    for (const { ids, text, without_special } of goldenTokens("decode")) {
      for (const [expected, skipSpecialTokens] of [
        [text, false],
        [without_special, true],
      ] as const) {
        const stream = twinTiny.streamDecoder({ skipSpecialTokens });
        expect(ids.map((id) => stream.push(id)).join("") + stream.end()).toBe(expected);
      }
    }
  });

  test("in a stream holds back the bytes of an incomplete character", () => {
    const bytes = twinTiny.encode("😀", false);
    expect(bytes.length).toBeGreaterThan(1);
    const stream = twinTiny.streamDecoder();
    expect(stream.push(twinTiny.encode("Hi", false)[0]!)).toBe("H");
    const pieces = bytes.map((id) => stream.push(id));
    expect(pieces).toEqual([...bytes.slice(1).map(() => ""), "😀"]);
    expect(stream.push(bytes[0]!)).toBe("");
    expect(stream.end()).toBe("\ufffd");
    expect(stream.end()).toBe("");
  });
});

test.each(goldenTokens("sentencepiece"))("a LlamaTokenizer with $config is that of transformers", async (golden) => {
  const folder = await tokenizerFolder({
    "tokenizer.json": JSON.stringify(goldenTokens("sentencepiece_tokenizer")[0]!.file),
    "tokenizer_config.json": JSON.stringify(golden.config),
  });
  const tokenizer = await loadTokenizer(folder);
  for (const { text, ids, decoded } of golden.cases) {
    expect(tokenizer.encode(text, true), text).toEqual(ids);
    expect(tokenizer.decode(ids), text).toBe(decoded);
  }
});

describe("special tokens", () => {
  test("come from special_tokens_map.json when the config does not list the added tokens", async () => {
    const map = JSON.stringify({ eos_token: { content: "<|eot_id|>", lstrip: false }, pad_token: "<|end_of_text|>" });
    const tokenizer = await loadTokenizer(await tokenizerFolder({ "special_tokens_map.json": map }));
    expect(tokenizer.eos).toEqual({ text: "<|eot_id|>", id: 4101 });
    expect(tokenizer.pad).toEqual({ text: "<|end_of_text|>", id: 4097 });
    const listed = await tokenizerFolder({
      "special_tokens_map.json": map,
      "tokenizer_config.json": configWith({ added_tokens_decoder: {} }),
    });
    expect((await loadTokenizer(listed)).eos.text).toBe("<|end_of_text|>");
  });

  test("may be written as objects", async () => {
    const folder = await tokenizerFolder({
      "tokenizer_config.json": configWith({ eos_token: { __type: "AddedToken", content: "<|eot_id|>" } }),
    });
    expect((await loadTokenizer(folder)).eos.id).toBe(4101);
  });

  test("pad is the EOS where the model has none; a model may do without a BOS", async () => {
    const folder = await tokenizerFolder({
      "tokenizer_config.json": configWith({ pad_token: undefined, bos_token: undefined }),
    });
    const tokenizer = await loadTokenizer(folder);
    expect(tokenizer.pad).toEqual(tokenizer.eos);
    expect(tokenizer.bos).toBeUndefined();
  });

  test("are recognized in text also where tokenizer.json does not mark them", async () => {
    const json = JSON.parse(readFileSync(join(TWIN_TINY, "tokenizer.json"), "utf8"));
    json.added_tokens = json.added_tokens.filter(({ id }: { id: number }) => id !== 4097);
    json.model.vocab["<|end_of_text|>"] = 4097;
    const tokenizer = await loadTokenizer(await tokenizerFolder({ "tokenizer.json": JSON.stringify(json) }));
    expect(tokenizer.encode("a<|end_of_text|>", false)).toEqual([...twinTiny.encode("a", false), 4097]);
    expect(tokenizer.decode([4097], { skipSpecialTokens: true })).toBe("");
  });
});

describe("chat template", () => {
  test("chat_template.jinja goes before the config's; of a list the default is taken", async () => {
    const listed = configWith({
      chat_template: [
        { name: "tool_use", template: "tools" },
        { name: "default", template: "listed" },
      ],
    });
    const render = async (files: Record<string, string>) =>
      (await loadTokenizer(await tokenizerFolder(files))).chatTemplate?.render([{ role: "user", content: "x" }], false);
    expect(await render({ "tokenizer_config.json": configWith({ chat_template: "text" }) })).toBe("text");
    expect(await render({ "tokenizer_config.json": listed })).toBe("listed");
    expect(await render({ "tokenizer_config.json": listed, "chat_template.jinja": "file" })).toBe("file");
  });
});

describe("refuses", () => {
  const refusal = async (files: Record<string, string | null>): Promise<string> => {
    const folder = await tokenizerFolder(files);
    const error: unknown = await loadTokenizer(folder).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(InputError);
    return (error as InputError).message.replaceAll(folder, "MODEL");
  };

  test.each<[string, Record<string, string | null>, string]>([
    ["no tokenizer.json", { "tokenizer.json": null }, "MODEL: a model folder must hold tokenizer.json, found none"],
    ["no config", { "tokenizer_config.json": null }, "MODEL: a model folder must hold tokenizer_config.json"],
    ["broken JSON", { "tokenizer.json": '{"model": ' }, "MODEL/tokenizer.json: must be JSON"],
    ["a list", { "tokenizer_config.json": "[]" }, "MODEL/tokenizer_config.json: must be a JSON object"],
    ["a byte order mark", { "tokenizer_config.json": "\ufeff{}" }, "MODEL/tokenizer_config.json: must be JSON"],
    ["no model", { "tokenizer.json": "{}" }, "MODEL/tokenizer.json: must hold a model of type BPE"],
    [
      "another model type",
      { "tokenizer.json": '{"added_tokens": [], "model": {"type": "Unigram", "vocab": []}}' },
      "MODEL/tokenizer.json: must hold a model of type BPE",
    ],
    [
      "an id that is none",
      { "tokenizer.json": '{"added_tokens": [], "model": {"type": "BPE", "vocab": {"a\\u001b": -1}, "merges": []}}' },
      'the id of "a\\u001b" must be a whole number from 0 to 16777215, found -1',
    ],
    [
      "a huge id",
      { "tokenizer.json": '{"added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 4000000000}, "merges": []}}' },
      'the id of "a" must be a whole number from 0 to 16777215, found 4000000000',
    ],
    [
      "added tokens without text",
      { "tokenizer.json": '{"added_tokens": [{"id": 1}], "model": {"type": "BPE", "vocab": {}, "merges": []}}' },
      "MODEL/tokenizer.json: added_tokens must be a list of tokens {id, content, …}",
    ],
    [
      "parts that are not there",
      { "tokenizer.json": '{"added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}' },
      "MODEL/tokenizer.json: is not a tokenizer that can be used",
    ],
    [
      "no EOS",
      { "tokenizer_config.json": configWith({ eos_token: undefined }) },
      "MODEL/tokenizer_config.json: must name an eos_token, which ends every answer; found none",
    ],
    [
      "an unknown EOS",
      { "tokenizer_config.json": configWith({ eos_token: "<|nope|>" }) },
      'MODEL/tokenizer.json: must hold the eos_token of tokenizer_config.json, found no token "<|nope|>"',
    ],
    [
      "an unknown BOS",
      { "tokenizer_config.json": configWith({ bos_token: "<|nope|>" }) },
      'MODEL/tokenizer.json: must hold the bos_token of tokenizer_config.json, found no token "<|nope|>"',
    ],
    [
      "a broken chat template",
      { "chat_template.jinja": "{% if %}" },
      "MODEL/chat_template.jinja: the chat template cannot be read",
    ],
    [
      "a chat template of another type",
      { "tokenizer_config.json": configWith({ chat_template: 3 }) },
      "MODEL/tokenizer_config.json: chat_template must be text or a list with a template named default",
    ],
  ])("%s", async (_name, files, message) => {
    expect(await refusal(files)).toContain(message);
  });

  test("a folder that is not there", async () => {
    await expect(loadTokenizer(join(await temporaryFolder(), "none"))).rejects.toThrow(InputError);
  });
});
