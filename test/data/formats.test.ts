import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { type PreferenceRow, type ReadRowsOptions, readPreferenceRows } from "../../src/data/rows.ts";
import { InputError } from "../../src/errors.ts";
import { jsonlFile, temporaryFile, temporaryFolder } from "./folders.ts";
import { goldenDatasets, goldenFile } from "./golden-datasets.ts";

const read = async (name: string, content: string | Uint8Array, options?: ReadRowsOptions): Promise<PreferenceRow[]> =>
  readPreferenceRows(await temporaryFile(name, content), options);

async function refusal(work: Promise<unknown>): Promise<string> {
  const error: unknown = await work.catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(InputError);
  return (error as InputError).message.replaceAll(/\/\S*\/(?=[^/\s]+\.(csv|tsv|parquet|jsonl))/g, "");
}

const parts = (row: PreferenceRow) => [row.prompt, row.chosen, row.rejected];

describe("the rows that datasets reads", () => {
  const text = goldenDatasets("rows").filter(({ file }) => file.startsWith("text"));
  test.each(text)("$file", async ({ file, expected }) => {
    const rows = await readPreferenceRows(goldenFile(file));
    expect(rows.map(parts)).toEqual(expected.map(({ prompt, chosen, rejected }) => [prompt, chosen, rejected]));
  });

  test("messages.parquet: conversations, with 64-bit integers as numbers", async () => {
    const golden = goldenDatasets("rows").find(({ file }) => file === "messages.parquet")!;
    const rows = await readPreferenceRows(goldenFile("messages.parquet"));
    const conversations = golden.expected as { chosen: unknown[]; rejected: unknown[] }[];
    expect(rows.map(parts)).toEqual(
      conversations.map(({ chosen, rejected }) => [chosen.slice(0, 1), chosen.slice(1), rejected.slice(1)]),
    );
    expect(rows[6]?.source).toEqual({ file: goldenFile("messages.parquet"), line: 7, unit: "row" });
  });

  test("orca.parquet: a question after a system message, where there is one", async () => {
    const golden = goldenDatasets("rows").find(({ file }) => file === "orca.parquet")!;
    const rows = await readPreferenceRows(goldenFile("orca.parquet"));
    expect(rows.map((row) => [row.kind === "text" && row.system, ...parts(row)])).toEqual(
      golden.expected.map(({ system, question, chosen, rejected }) => [
        system || undefined,
        question,
        chosen,
        rejected,
      ]),
    );
  });
});

describe("Parquet", () => {
  test("stops at maxRows, in the middle of a row group", async () => {
    expect(await readPreferenceRows(goldenFile("text-none.parquet"), { maxRows: 7 })).toHaveLength(7);
  });

  test("columns that are not there: the first row is shown with all that are", async () => {
    const columns = { chosen: "better" };
    expect(await refusal(readPreferenceRows(goldenFile("text-snappy.parquet"), { columns }))).toBe(
      "text-snappy.parquet row 1: better must be text or a list of messages, found nothing; the first row has the columns " +
        'id (the number 0), prompt ("plain"), chosen ("' +
        `${"a".repeat(60)}…"), rejected ("no 0") and score (the number 0). The nearest known layout is text in prompt, ` +
        "chosen and rejected: correct columns, or remove it",
    );
  });

  test.each([
    ["empty", () => new Uint8Array()],
    ["not Parquet", () => Buffer.from("PAR1 nothing of the kind PAR1")],
    ["cut short", (whole: Buffer) => whole.subarray(0, 500)],
    ["without its middle", (whole: Buffer) => Buffer.concat([whole.subarray(0, 100), whole.subarray(1500)])],
    ["with other bytes inside", (whole: Buffer) => Buffer.from(whole).fill(0xff, 200, 900)],
  ])("a file that is %s is refused", async (_, damage) => {
    const whole = await readFile(goldenFile("text-snappy.parquet"));
    expect(await refusal(read("a.parquet", damage(whole)))).toContain("a.parquet");
  });
});

describe("CSV", () => {
  test("line ends in cells, CRLF, empty lines and a byte order mark; lines are counted as they stand", async () => {
    const content = '\ufeffprompt,chosen,rejected\r\n"a\nb","c\r\nd",e\r\n\r\n\n"q ""x""",f,\r\n1,2,3';
    const rows = await read("a.csv", content);
    expect(rows.map((row) => [row.source.line, ...parts(row)])).toEqual([
      [2, "a\nb", "c\r\nd", "e"],
      [6, 'q "x"', "f", ""],
      [7, "1", "2", "3"],
    ]);
  });

  test("cells with conversations as JSON", async () => {
    const cell = (role: string, content: string) => `"[{""role"": ""${role}"", ""content"": ""${content}""}]"`;
    const content = `prompt,chosen,rejected\n${cell("user", "p")},${cell("assistant", "c")},${cell("assistant", "r")}\n`;
    expect(await read("a.csv", content)).toMatchObject([
      { kind: "messages", prompt: [{ role: "user", content: "p" }], chosen: [{ content: "c" }] },
    ]);
  });

  test("tabs, and gzip", async () => {
    const content = "chosen\trejected\tprompt\nc, 1\tr\tp\n";
    expect((await read("a.tsv", content)).map(parts)).toEqual([["p", "c, 1", "r"]]);
    expect((await read("a.tsv.gz", gzipSync(content))).map(parts)).toEqual([["p", "c, 1", "r"]]);
  });

  test("a large file, read in pieces", async () => {
    const cell = (i: number) => "x,é😀\n".repeat(i % 50);
    const lines = Array.from({ length: 3000 }, (_, i) => `"${cell(i)}",c${i},"r""${i}"`);
    const rows = await read("a.csv", `prompt,chosen,rejected\n${lines.join("\n")}\n`);
    expect(rows.map(parts)).toEqual(lines.map((_, i) => [cell(i), `c${i}`, `r"${i}`]));
    expect(rows[2]?.source.line).toBe(2 + 1 + (1 + 1));
  });

  const HEADER = "prompt,chosen,rejected\n";
  test.each([
    [
      `${HEADER}a,b,c\n"a,b,c\n`,
      'a.csv: is not CSV that can be read: near line 3 a quote (") is opened and never closed',
    ],
    [`${HEADER}a"b,c,d\n`, 'a.csv: is not CSV that can be read: near line 2 a quote (") stands inside a cell'],
    [`${HEADER}a,b\n`, "a.csv:2: a row must have 3 cells, as the header has, found 2"],
    [`${HEADER}a,b,c,d\n`, "a.csv:2: a row must have 3 cells, as the header has, found 4"],
    ["prompt,chosen,chosen\n", 'a.csv:1: the header names the column "chosen" twice: rename one'],
    [HEADER, "a.csv: must hold at least one row, found none"],
    ["", "a.csv: must hold at least one row, found none"],
    [
      `${HEADER}"[{'role': 'user'}]",b,c\n`,
      "a.csv:2: prompt holds a list as Python prints it: write the conversations with json.dumps",
    ],
    [
      "a;b\n1;2\n",
      'a.csv:2: chosen must be text or a list of messages, found nothing; the first row has the columns a;b ("1;2")',
    ],
  ])("%j is refused", async (content, message) => {
    expect(await refusal(read("a.csv", content))).toContain(message);
  });

  test("bytes that are not UTF-8 are refused", async () => {
    const content = Buffer.concat([Buffer.from(HEADER), Buffer.from([0x61, 0xe9, 0x2c])]);
    expect(await refusal(read("a.csv", content))).toContain("a.csv: must be UTF-8, found other bytes after line 1");
    expect(await refusal(read("a.csv", Buffer.concat([Buffer.from(HEADER), Buffer.from([0xe2, 0x82])])))).toContain(
      "must be UTF-8",
    );
  });
});

describe("JSON", () => {
  const ROW = JSON.stringify({ prompt: "p", chosen: "c", rejected: "r" });

  test(".json with one object a line, as many have it, and gzip", async () => {
    expect(await read("a.json", `\n${ROW}\n${ROW}\n`)).toHaveLength(2);
    expect(await read("a.jsonl.gz", gzipSync(`${ROW}\n${ROW}`))).toHaveLength(2);
    expect(await read("a.ndjson", ROW)).toHaveLength(1);
  });

  test("gzip that is cut short, or none", async () => {
    expect(await refusal(read("a.jsonl.gz", gzipSync(ROW.repeat(50)).subarray(0, 40)))).toContain(
      "a.jsonl.gz: is not a whole gzip file",
    );
    expect(await refusal(read("a.jsonl.gz", ROW))).toContain("a.jsonl.gz: is not a whole gzip file");
  });
});

describe("several files", () => {
  test("are read in order, up to maxRows, and must be laid out alike", async () => {
    const folder = await temporaryFolder();
    await mkdir(join(folder, "x"));
    await copyFile(goldenFile("text-none.parquet"), join(folder, "x", "a.parquet"));
    await writeFile(
      join(folder, "b.jsonl"),
      '{"prompt": "last", "chosen": "c", "rejected": "r"}\n{"chosen": "c", "rejected": "r"}\n',
    );
    const files = ["x/a.parquet", "b.jsonl"].map((name) => ({ path: join(folder, name), name }));
    const rows = await readPreferenceRows(files, { maxRows: 13 });
    expect(rows.map(({ source }) => source.line)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 1]);
    expect(await refusal(readPreferenceRows(files))).toBe(
      "b.jsonl:2: all rows of a data set must be laid out alike: text in prompt, chosen and rejected (as in x/a.parquet row 1), " +
        "found text in chosen and rejected, and no prompt",
    );
  });
});

describe("layouts by other names", () => {
  const rowsOf = async (row: object, options?: ReadRowsOptions) =>
    (await readPreferenceRows(await jsonlFile([row]), options))[0];
  const refusalOf = async (row: object, options?: ReadRowsOptions) => refusal(rowsOf(row, options));

  test("a columns map, which wins over columns of our names", async () => {
    const row = { instruction: "i", "better answer": "b", worse: "w", prompt: "other", system: "s" };
    const columns = { prompt: "instruction", chosen: "better answer", rejected: "worse" };
    expect(await rowsOf(row, { columns })).toMatchObject({ kind: "text", prompt: "i", chosen: "b", rejected: "w" });
    expect(await rowsOf(row, { columns: { ...columns, system: "system" } })).toMatchObject({
      system: "s",
      prompt: "i",
    });
    expect(await refusalOf(row, { columns: { ...columns, prompt: "question" } })).toMatch(
      /^rows\.jsonl:1: question must be text or a list of messages, found nothing; the first row has the columns instruction/,
    );
  });

  test.each([
    ["instruction", "columns: {prompt: instruction}"],
    ["question", "columns: {prompt: question}"],
    ["input", "columns: {prompt: input}"],
  ])("a question in %s would be lost, so it is refused", async (name, hint) => {
    expect(await refusalOf({ [name]: "Why?", chosen: "a", rejected: "b" })).toContain(hint);
    // Where the answers hold it, it is what both start with.
    expect(await rowsOf({ [name]: "Why?", chosen: "Why? a", rejected: "Why? b" })).toMatchObject({ prompt: "Why?" });
  });

  test("system and input are named together", async () => {
    expect(await refusalOf({ system: "s", input: "Why?", chosen: "a", rejected: "b" })).toContain(
      "columns: {prompt: input, system: system}",
    );
  });

  test("a system column in front of messages", async () => {
    const user = { role: "user", content: "p" };
    const row = {
      s: "Be brief.",
      prompt: [user],
      chosen: [{ role: "assistant", content: "c" }],
      rejected: [{ role: "assistant", content: "r" }],
    };
    const columns = { system: "s" };
    expect(await rowsOf(row, { columns })).toMatchObject({ prompt: [{ role: "system", content: "Be brief." }, user] });
    for (const s of ["", " \n", null])
      expect(await rowsOf({ ...row, s }, { columns })).toMatchObject({ prompt: [user] });
    const system = { role: "system", content: "Be brief. " };
    expect(await rowsOf({ ...row, prompt: [system, user] }, { columns })).toMatchObject({ prompt: [system, user] });
    expect(await refusalOf({ ...row, prompt: [{ ...system, content: "Other" }, user] }, { columns })).toContain(
      "found two",
    );
    expect(await refusalOf({ ...row, s: 5 }, { columns })).toContain("s must be text, found the number 5");
  });

  test("a system message without a prompt column is refused", async () => {
    expect(await refusalOf({ s: "x", chosen: "a b", rejected: "a c" }, { columns: { system: "s" } })).toContain(
      "a system column needs a prompt column beside text answers, found none",
    );
  });

  test("UltraFeedback: a prompt beside conversations, and scores", async () => {
    const user = { role: "user", content: "p" };
    const row = await rowsOf({
      prompt: "p",
      prompt_id: "0a",
      chosen: [user, { role: "assistant", content: "c" }],
      rejected: [user, { role: "assistant", content: "r" }],
      messages: [user, { role: "assistant", content: "c" }],
      score_chosen: 8.5,
      score_rejected: 3,
    });
    expect(row).toMatchObject({
      kind: "messages",
      prompt: [user],
      chosen: [{ content: "c" }],
      rejected: [{ content: "r" }],
    });
  });

  test.each(goldenDatasets("dialogue"))("HH-RLHF: $chosen", async ({ chosen, rejected, expected }) => {
    expect(await rowsOf({ chosen, rejected })).toMatchObject({ kind: "text", dialogue: expected });
  });

  test("texts that only look like HH-RLHF's stay text", async () => {
    for (const [chosen, rejected] of [
      ["Human: a", "Human: b"],
      ["\n\nHuman: a\n\nAssistant: b", "\n\nHuman: c\n\nAssistant: b"],
      ["\n\nHuman: a\n\nHuman: b", "\n\nHuman: a\n\nHuman: c"],
      ["x\n\nHuman: a\n\nAssistant: b", "x\n\nHuman: a\n\nAssistant: c"],
    ]) {
      expect(await rowsOf({ chosen, rejected })).not.toHaveProperty("dialogue");
    }
  });
});

describe("an unknown layout", () => {
  const refusalOf = async (row: object) => refusal(readPreferenceRows(await jsonlFile([row])));

  test("columns that only have other names", async () => {
    expect(await refusalOf({ instruction: "i\u001b[31m", chosen_response: "c", rejected_response: "r" })).toBe(
      "rows.jsonl:1: chosen must be text or a list of messages, found nothing; the first row has the columns " +
        'instruction ("i\\u001b[31m"), chosen_response ("c") and rejected_response ("r"). The nearest known layout is text in ' +
        "prompt, chosen and rejected: set columns: {prompt: instruction, chosen: chosen_response, rejected: rejected_response}",
    );
  });

  test("conversations under other names", async () => {
    const text = await refusalOf({ better: [{ role: "user", content: "a" }], worse: [{ role: "user", content: "b" }] });
    expect(text).toContain("better (a list of 1, first an object with role, content)");
    expect(text).toContain(
      "The nearest known layout is messages in chosen and rejected, and no prompt: set columns: {chosen: better, rejected: worse}",
    );
  });

  test("one answer is not two", async () => {
    expect(await refusalOf({ instruction: "i", output: "o" })).toContain(
      "this one has a single answer, in output, and DPO needs two to compare",
    );
  });

  test("very many columns with very long names and texts are cut", async () => {
    const row = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`${"n".repeat(500)}${i}`, "t".repeat(5000)]));
    const text = await refusalOf(row);
    expect(text).toContain("and 288 more");
    expect(text.length).toBeLessThan(2500);
  });

  test("at once, also where a million rows follow", async () => {
    const file = await temporaryFile("rows.jsonl", `${JSON.stringify({ text: "a" })}\n`.repeat(100_000));
    expect(await refusal(readPreferenceRows(file))).toMatch(/^rows\.jsonl:1: /);
  });
});
