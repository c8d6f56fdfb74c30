import { describe, expect, test } from "vitest";
import { preflight } from "../../src/data/preflight.ts";
import { formatPreflight } from "../../src/data/preflight-text.ts";
import { readPreferenceRows } from "../../src/data/rows.ts";
import { tokenizeRows } from "../../src/data/tokenize.ts";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { jsonlFile, TWIN_TINY, tokenizerFolder } from "./folders.ts";
import { goldenChatTemplate } from "./golden.ts";

const twinTiny = await loadTokenizer(TWIN_TINY);

async function preflightOf(rows: object[], maxLength = 64, tokenizer = twinTiny) {
  const read = await readPreferenceRows(await jsonlFile(rows));
  return preflight(tokenizeRows(read, tokenizer, { promptTemplate: "none", maxLength }), tokenizer, maxLength);
}

/** Prompts end with a line, so that no token merges with an answer. */
const row = (prompt: string, chosen: string, rejected: string) => ({ prompt: `${prompt}:\n`, chosen, rejected });
const promptTokens = (prompt: string): number => twinTiny.encode(row(prompt, "", "").prompt, true).length;
const place = (line: number) => expect.stringMatching(new RegExp(`rows\\.jsonl:${line}$`));
const NONE = { rows: 0, first: null };

test("clean rows", async () => {
  const found = await preflightOf([row("a", "b c d", "e"), row("f", "g", "h i j k"), row("l", "m n", "o")]);
  expect(found).toMatchObject({
    rows: { read: 3, kept: 3, dropped: 0, firstDropped: null },
    cut: { chosen: 0, rejected: 0 },
    mergesAcrossBoundary: NONE,
    bos: { missing: NONE, repeated: NONE },
    eos: { missing: NONE, repeated: NONE },
    duplicatePairs: NONE,
    equalAnswers: NONE,
    emptyAnswers: NONE,
    chosenLongerShare: 2 / 3,
    firstPair: {
      place: place(1),
      prompt: "<|begin_of_text|>a:\\n",
      chosen: "b c d<|end_of_text|>",
      rejected: "e<|end_of_text|>",
    },
  });
  expect(JSON.parse(JSON.stringify(found))).toEqual(found);
});

test("rows cut and dropped", async () => {
  const found = await preflightOf(
    [row("a", "b", "c"), row("1 2 3 4 5 6 7 8 9", "x", "y"), row("d", "1 2 3 4 5 6 7 8 9", "e")],
    10,
  );
  expect(found.rows).toEqual({
    read: 3,
    kept: 2,
    dropped: 1,
    firstDropped: { place: place(2), promptTokens: promptTokens("1 2 3 4 5 6 7 8 9") },
  });
  expect(found.cut).toEqual({ chosen: 1, rejected: 0 });
  expect(found.eos).toEqual({ missing: NONE, repeated: NONE });
});

test("lengths are nearest-rank percentiles", async () => {
  const rows = Array.from({ length: 100 }, (_, i) => row("a", "x".concat(" 1".repeat(i)), "b"));
  const found = await preflightOf(rows, 1024);
  const lengths = rows.map(({ chosen }) => twinTiny.encode(chosen, false).length + 1).sort((a, b) => a - b);
  expect(found.lengths.chosen).toEqual({
    min: lengths[0],
    median: lengths[49],
    p90: lengths[89],
    p99: lengths[98],
    max: lengths[99],
    total: lengths.reduce((sum, length) => sum + length, 0),
  });
  expect(found.lengths.prompt).toEqual({ min: 3, median: 3, p90: 3, p99: 3, max: 3, total: 300 });
  expect(found.lengths.pair.max).toBe(3 + lengths[99]! + 2);
  expect((await preflightOf([row("a", "b", "c")])).lengths.pair).toEqual({
    min: 7,
    median: 7,
    p90: 7,
    p99: 7,
    max: 7,
    total: 7,
  });
});

test("pairs that say nothing", async () => {
  const found = await preflightOf([
    row("a", "b", "c"),
    row("a", "b", "b"),
    row("a", "b", "c"),
    row("a", "c", "b"),
    row("a", "", "b"),
    row("a", "b", "c"),
  ]);
  expect(found.duplicatePairs).toEqual({ rows: 2, first: place(3) });
  expect(found.equalAnswers).toEqual({ rows: 1, first: place(2) });
  expect(found.emptyAnswers).toEqual({ rows: 1, first: place(5) });
});

test("a token that merges across the end of the prompt", async () => {
  const found = await preflightOf([row("a", "b", "c"), { prompt: "it", chosen: "em", rejected: " b" }]);
  expect(found.mergesAcrossBoundary).toEqual({ rows: 1, first: place(2) });
});

describe("BOS and EOS", () => {
  test("repeated by the text", async () => {
    const found = await preflightOf([
      row("a", "b", "c"),
      row("<|begin_of_text|>a", "b", "c"),
      row("a", "b<|begin_of_text|>", "c"),
      row("a", "b<|end_of_text|>c", "c"),
      row("a<|end_of_text|>", "b", "c"),
    ]);
    expect(found.bos).toEqual({ missing: NONE, repeated: { rows: 2, first: place(2) } });
    expect(found.eos).toEqual({ missing: NONE, repeated: { rows: 2, first: place(4) } });
  });

  test("of conversations: the template's own BOS, and an EOS after every message", async () => {
    const messages = {
      prompt: [{ role: "user", content: "a" }],
      chosen: [{ role: "assistant", content: "b" }],
      rejected: [{ role: "assistant", content: "c" }],
    };
    const map = JSON.stringify({ eos_token: "<|eot_id|>" });
    const template = goldenChatTemplate("llama3");
    const load = async (files: Record<string, string>) => loadTokenizer(await tokenizerFolder(files));
    const sound = await preflightOf(
      [messages],
      64,
      await load({ "chat_template.jinja": template, "special_tokens_map.json": map }),
    );
    expect([sound.bos, sound.eos]).toEqual(Array(2).fill({ missing: NONE, repeated: NONE }));
    const otherEos = await preflightOf([messages], 64, await load({ "chat_template.jinja": template }));
    expect(otherEos.eos).toEqual({ missing: { rows: 1, first: place(1) }, repeated: NONE });
    const doubled = await preflightOf(
      [messages],
      64,
      await load({ "chat_template.jinja": `{{ bos_token }}${template}` }),
    );
    expect(doubled.bos).toEqual({ missing: NONE, repeated: { rows: 1, first: place(1) } });
    const without = await preflightOf(
      [messages],
      64,
      await load({ "chat_template.jinja": template.replace("bos_token +", "") }),
    );
    expect(without.bos).toEqual({ missing: { rows: 1, first: place(1) }, repeated: NONE });
  });

  test("a tokenizer without a BOS, or with one token for both", async () => {
    const config = { eos_token: "<|begin_of_text|>", bos_token: undefined as string | undefined };
    const load = async () => loadTokenizer(await tokenizerFolder({ "tokenizer_config.json": JSON.stringify(config) }));
    expect((await preflightOf([row("a", "b", "c")], 64, await load())).bos).toBeNull();
    config.bos_token = "<|begin_of_text|>";
    const found = await preflightOf([row("a", "b", "c")], 64, await load());
    expect([found.bos, found.eos]).toEqual(Array(2).fill({ missing: NONE, repeated: NONE }));
  });
});

test("the report shows every finding, on lines a terminal can bear", async () => {
  const found = await preflightOf(
    [row("a\u001b[31m\n", "b\u202e", "b\u202e"), row("1 2 3 4 5 6 7 8 9", "x", "y"), row("a", "1 2 3 4 5 6 7 8 9", "")],
    13,
  );
  const lines = formatPreflight(found, { totalSteps: 24, stepsPerEpoch: 12, warmupSteps: 3 });
  const text = lines.join("\n").replaceAll(/\/\S*\/(?=rows\.jsonl)/g, "");
  expect(lines.every((line) => !/[\p{Cc}\u202e]/u.test(line))).toBe(true);
  for (const expected of [
    /^rows {15}3 read, 2 kept, 1 dropped; the prompt alone fills max_length 13, first rows\.jsonl:2 \(\d+ tokens\)$/m,
    /^answers cut {8}1 chosen, 0 rejected \(max_length 13\)$/m,
    /^tokens +min +median +90% +99% +max +total$/m,
    /^ {2}pair {13}( +\d+){6}$/m,
    /^merged at boundary none$/m,
    /^BOS exactly once {3}in every row$/m,
    /^chosen = rejected {2}1 row, first rows\.jsonl:1$/m,
    /^empty answers {6}1 row, first rows\.jsonl:3$/m,
    /^chosen longer {6}in 50% of the pairs$/m,
    /^steps {14}24, 12 to an epoch$/m,
    /^warm-up {12}3 steps, 12\.5% of the run$/m,
    /^first pair {9}rows\.jsonl:1$/m,
    /^ {2}prompt {11}<\|begin_of_text\|>a\\u001b\[31m\\n:\\n$/m,
    /^ {2}chosen {11}b\\u202e<\|end_of_text\|>$/m,
  ]) {
    expect(text).toMatch(expected);
  }
  expect(formatPreflight(found).some((line) => line.startsWith("steps"))).toBe(false);
});
