import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readPreferenceRows } from "../../src/data/rows.ts";
import { InputError } from "../../src/errors.ts";
import { jsonlFile, temporaryFile, temporaryFolder } from "./folders.ts";
import { goldenTokens } from "./golden.ts";

const user = (content: string) => ({ role: "user", content });
const assistant = (content: string) => ({ role: "assistant", content });
const TEXT_ROW = { prompt: "p", chosen: "c", rejected: "r" };
const MESSAGES_ROW = { prompt: [user("p")], chosen: [assistant("c")], rejected: [assistant("r")] };

/** The message that a file is refused with, its folder left out. */
async function refusal(file: string, maxRows?: number): Promise<string> {
  const error: unknown = await readPreferenceRows(file, { maxRows }).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(InputError);
  return (error as InputError).message.replaceAll(/\/\S*\/(?=[^/\s]+\.jsonl?)/g, "");
}

const refusalOfRows = async (...rows: unknown[]): Promise<string> => refusal(await jsonlFile(rows));

describe("layouts", () => {
  const read = async (row: object) => (await readPreferenceRows(await jsonlFile([row])))[0];

  test("text, with other columns ignored", async () => {
    expect(await read({ ...TEXT_ROW, id: 7, score: { a: [1] }, tools: [1] })).toMatchObject({
      kind: "text",
      ...TEXT_ROW,
    });
  });

  test("messages, with other keys of a message kept", async () => {
    const named = { ...MESSAGES_ROW, prompt: [{ ...user("p"), name: "Ann" }], tools: null };
    expect(await read(named)).toMatchObject({
      kind: "messages",
      ...MESSAGES_ROW,
      prompt: [{ ...user("p"), name: "Ann" }],
    });
  });

  test("answers that repeat the prompt's messages", async () => {
    const prompt = [{ role: "system", content: "s" }, user("p")];
    const chosen = [{ content: "s", role: "system" }, user("p"), assistant("c")];
    const row = await read({ prompt, chosen, rejected: [...prompt, assistant("r"), user("again")] });
    expect(row).toMatchObject({ prompt, chosen: [assistant("c")], rejected: [assistant("r"), user("again")] });
  });

  test("a text prompt beside conversations", async () => {
    const row = await read({
      prompt: "p ",
      chosen: [user("p"), assistant("c")],
      rejected: [user("p"), assistant("r")],
    });
    expect(row).toMatchObject({ kind: "messages", ...MESSAGES_ROW });
  });

  test.each(goldenTokens("extract_prompt"))(
    "no prompt: TRL's extract_prompt of $chosen and $rejected",
    async (golden) => {
      const row = await read({ chosen: golden.chosen, rejected: golden.rejected });
      expect(row).toMatchObject({ kind: typeof golden.chosen === "string" ? "text" : "messages", ...golden.expected });
    },
  );

  test("no prompt, and nothing shared: the prompt is empty", async () => {
    expect(await read({ chosen: "Yes ", rejected: "No" })).toMatchObject({
      prompt: "",
      chosen: "Yes ",
      rejected: "No",
    });
  });
});

describe("files", () => {
  const CONTENT = `${JSON.stringify(TEXT_ROW)}\r\n\n  \t\r\n${JSON.stringify({ ...TEXT_ROW, chosen: "ü 😀 \u2028" })}`;

  test(".jsonl: blank lines, CRLF and a last line without an end; lines are counted as they stand", async () => {
    const rows = await readPreferenceRows(await temporaryFile("a.JSONL", CONTENT));
    expect(rows.map(({ chosen, source }) => [chosen, source.line])).toEqual([
      ["c", 1],
      ["ü 😀 \u2028", 4],
    ]);
  });

  test(".json: an array; a row's line is the one it starts on", async () => {
    const tricky = { ...TEXT_ROW, chosen: '"],[{}\\"\\\\', extra: [[{}], "]"] };
    const json = ` \n[\n${JSON.stringify(TEXT_ROW)} ,\n\n  ${JSON.stringify(tricky, null, 1)}\n,${JSON.stringify(TEXT_ROW)}]\n`;
    const rows = await readPreferenceRows(await temporaryFile("a.json", json));
    expect(rows.map(({ chosen, source }) => [chosen, source.line])).toEqual([
      ["c", 3],
      [tricky.chosen, 5],
      ["c", 16],
    ]);
  });

  test.each(["jsonl", "json"])("a large .%s file, read in pieces", async (extension) => {
    const rows = Array.from({ length: 3000 }, (_, i) => ({
      prompt: `${i}`,
      chosen: '😀é\n"'.repeat(i % 40),
      rejected: "日本",
    }));
    const lines = rows.map((row) => JSON.stringify(row));
    const content = extension === "json" ? `[${lines.join(",\n")}]` : lines.join("\n");
    const read = await readPreferenceRows(await temporaryFile(`rows.${extension}`, content));
    expect(read).toEqual(
      rows.map((row, i) => ({ kind: "text", ...row, source: { file: read[0]!.source.file, line: i + 1 } })),
    );
  });

  test("maxRows stops reading, also before a bad row", async () => {
    const file = await jsonlFile([TEXT_ROW, TEXT_ROW, 3]);
    expect(await readPreferenceRows(file, { maxRows: 2 })).toHaveLength(2);
    expect(await readPreferenceRows(file, { maxRows: 1 })).toHaveLength(1);
    expect(await refusal(file, 3)).toContain("rows.jsonl:3: ");
  });

  test.each([
    ["rows.xlsx", "rows.xlsx: preference data must be in .jsonl, .json, .csv, .tsv and .parquet files (the text ones"],
    ["rows.parquet.gz", "rows.parquet.gz: preference data must be"],
    ["rows.jsonl.zst", "preference data must be"],
    ["rows", "preference data must be"],
    ["rows\u001b[31m.txt", "rows\\u001b[31m.txt: preference data must be"],
  ])("%s is refused by its extension", async (name, message) => {
    expect(await refusal(join(await temporaryFolder(), name))).toContain(message);
  });

  test("a file that is not there, a folder, an empty file", async () => {
    const folder = await temporaryFolder();
    expect(await refusal(join(folder, "none.jsonl"))).toBe("none.jsonl: cannot open: no such file or directory");
    expect(await refusal(await temporaryFile("a.jsonl", "\n \n"))).toBe(
      "a.jsonl: must hold at least one row, found none",
    );
    expect(await refusal(await temporaryFile("a.jsonl", ""))).toBe("a.jsonl: must hold at least one row, found none");
    expect(await refusal(await temporaryFile("a.json", "[ ]"))).toBe("a.json: must hold at least one row, found none");
    await writeFile(join(folder, "file.jsonl"), "");
    await expect(readPreferenceRows(`${folder}/file.jsonl/x.jsonl`)).rejects.toThrow(InputError);
  });

  test.each([
    ["", "a.json: must hold an array of rows, found an empty file"],
    ['"rows"', "a.json:1: a .json file must hold one array of rows, or one object a line"],
    ['\n[{"prompt": "p"', "a.json:2: the array is not closed"],
    ["[", "a.json:1: the array is not closed"],
    ["[\n\n1,\n", "a.json:4: the array is not closed"],
    ["[1,,2]", "a.json:1: an element of the array is empty"],
    ["[1,\n]", "a.json:2: an element of the array is empty"],
    ["[,]", "a.json:1: an element of the array is empty"],
    ["[]\n[]", "a.json:2: text follows the end of the array"],
    ['["abc]', "a.json:1: the array is not closed"],
    [
      `[${JSON.stringify(TEXT_ROW)}\n${JSON.stringify(TEXT_ROW)}]`,
      "a.json:1: must be one JSON object, but is not JSON",
    ],
    ["[}]", "a.json:1: the array is not closed"],
  ])("the .json text %j is refused", async (content, message) => {
    expect(await refusal(await temporaryFile("a.json", content))).toContain(message);
  });

  test.each(["a.jsonl", "a.json"])("a byte order mark in %s is refused", async (name) => {
    expect(await refusal(await temporaryFile(name, `\ufeff[${JSON.stringify(TEXT_ROW)}]`))).toBe(
      `${name}:1: must be UTF-8 without a byte order mark, found one; save the file without it`,
    );
  });

  test.each([
    [[0xff], "found 0xff at byte 13"],
    [[0xc3, 0x28], "found 0x28 at byte 14"],
    [[0xed, 0xa0, 0x80], "found 0xa0 at byte 14"],
    [[0xf0, 0x9f, 0x98, 0x22], "found 0x22 at byte 16"],
    [[0xc0, 0x80], "found 0xc0 at byte 13"],
  ])("the bytes %j are refused where they stand", async (bytes, message) => {
    const row = Buffer.concat([
      Buffer.from('{"prompt": "'),
      Buffer.from(bytes),
      Buffer.from('", "chosen": "c", "rejected": "r"}'),
    ]);
    const content = Buffer.concat([Buffer.from(`${JSON.stringify(TEXT_ROW)}\n`), row]);
    expect(await refusal(await temporaryFile("a.jsonl", content))).toBe(
      `a.jsonl:2: must be UTF-8, ${message} of the row`,
    );
  });

  test("a character cut off at the end of the file is refused", async () => {
    const content = Buffer.concat([Buffer.from('{"prompt": "'), Buffer.from([0xe2, 0x82])]);
    expect(await refusal(await temporaryFile("a.jsonl", content))).toBe(
      "a.jsonl:1: must be UTF-8, found a character that is cut off at the end of the row",
    );
  });
});

describe("bad rows", () => {
  test.each<[unknown, string]>([
    [3, "a row must be an object with prompt, chosen and rejected, found the number 3"],
    [null, "a row must be an object with prompt, chosen and rejected, found null"],
    [[TEXT_ROW], "a row must be an object with prompt, chosen and rejected, found a list"],
    ["text", 'a row must be an object with prompt, chosen and rejected, found the text "text"'],
    [{}, "chosen must be text or a list of messages, found nothing"],
    [{ prompt: "p", chosen: "c" }, "rejected must be text or a list of messages, found nothing"],
    [{ prompt: "p", Chosen: "c", rejected: "r" }, "chosen must be text or a list of messages, found nothing"],
    [{ ...TEXT_ROW, chosen: null }, "chosen must be text or a list of messages, found null"],
    [{ ...TEXT_ROW, prompt: null }, "prompt must be text or a list of messages, found null"],
    [{ ...TEXT_ROW, rejected: 1.5 }, "rejected must be text or a list of messages, found the number 1.5"],
    [{ ...TEXT_ROW, prompt: true }, "prompt must be text or a list of messages, found true"],
    [{ ...TEXT_ROW, chosen: { "a\u001b": 1 } }, "found an object with a\\u001b"],
    [{ ...MESSAGES_ROW, prompt: [] }, "prompt must hold at least one message, found an empty list"],
    [{ ...MESSAGES_ROW, chosen: [] }, "chosen must hold at least one message, found an empty list"],
    [{ ...MESSAGES_ROW, chosen: ["x"] }, 'chosen[0] must be a message {role, content}, found the text "x"'],
    [
      { ...MESSAGES_ROW, rejected: [assistant("a"), { role: "user" }] },
      "rejected[1].content must be text, found nothing",
    ],
    [{ ...MESSAGES_ROW, prompt: [{ content: "x" }] }, "prompt[0].role must be text, found nothing"],
    [
      { ...MESSAGES_ROW, prompt: [{ role: "user", content: [{ type: "text" }] }] },
      "prompt[0].content must be text, found a list",
    ],
    [
      { ...TEXT_ROW, chosen: [assistant("c")] },
      "chosen and rejected must both be text or both be messages, found one of each",
    ],
    [{ ...TEXT_ROW, prompt: [user("p")] }, "prompt must be text where chosen and rejected are, found messages"],
    [{ ...MESSAGES_ROW, prompt: "p" }, "chosen and rejected must start with the same message, which is the prompt"],
    [
      { prompt: "other", chosen: [user("p"), assistant("c")], rejected: [user("p"), assistant("r")] },
      'prompt must be one of the messages that chosen and rejected share, found the text "other"',
    ],
    [{ ...MESSAGES_ROW, chosen: [user("p"), assistant("c")] }, "must both repeat the prompt's messages, or neither"],
    [
      { ...MESSAGES_ROW, chosen: [user("p")], rejected: [user("p"), assistant("r")] },
      "chosen and rejected must hold an answer after the prompt's messages, found none",
    ],
    [{ chosen: [assistant("a")], rejected: [assistant("b")] }, "chosen and rejected must start with the same message"],
    [{ chosen: "", rejected: "x" }, "chosen and rejected must not be empty where there is no prompt column"],
    [{ ...MESSAGES_ROW, tools: [{}] }, "tools is not supported"],
    [{ ...MESSAGES_ROW, chat_template_kwargs: { a: 1 } }, "chat_template_kwargs is not supported"],
  ])("%j", async (row, message) => {
    const text = await refusalOfRows(row);
    expect(text).toContain("rows.jsonl:1: ");
    expect(text).toContain(message);
  });

  test.each(["prompt", "chosen", "rejected"])("half of a surrogate pair in %s", async (name) => {
    const row = JSON.stringify({ ...TEXT_ROW, [name]: "X" }).replace("X", "\\ud83d");
    expect(await refusal(await temporaryFile("a.jsonl", row))).toBe(
      `a.jsonl:1: ${name} must be Unicode text, found half of a surrogate pair in it`,
    );
  });

  test("JSON that is broken, or not all of the line", async () => {
    for (const line of ["{", '{"prompt": }', `${JSON.stringify(TEXT_ROW)} x`, "{'prompt': 'p'}", "NaN"]) {
      expect(await refusal(await temporaryFile("a.jsonl", line))).toContain(
        "a.jsonl:1: must be one JSON object, but is not JSON",
      );
    }
  });

  test("are all named, up to 20, with their total", async () => {
    const bad = Array.from({ length: 25 }, (_, i) => (i % 2 === 0 ? 3 : { prompt: "p", chosen: "c" }));
    const text = await refusalOfRows(TEXT_ROW, ...bad, TEXT_ROW);
    const lines = text.split("\n");
    expect(lines[0]).toBe("25 rows of the data cannot be used; correct or remove them. The first 20:");
    expect(lines).toHaveLength(21);
    expect(lines[1]).toMatch(/^rows\.jsonl:2: a row must be/);
    expect(lines[20]).toMatch(/^rows\.jsonl:21: rejected must be/);
    expect((await refusalOfRows(3, 4)).split("\n")[0]).toBe(
      "2 rows of the data cannot be used; correct or remove them.",
    );
  });

  test("rows laid out otherwise than the first usable one are named", async () => {
    expect(await refusalOfRows(TEXT_ROW, TEXT_ROW, MESSAGES_ROW)).toBe(
      "rows.jsonl:3: all rows of a data set must be laid out alike: text in prompt, chosen and rejected (as on line 1), " +
        "found messages in prompt, chosen and rejected",
    );
    expect(await refusalOfRows(TEXT_ROW, { chosen: "a", rejected: "b" })).toContain(
      "rows.jsonl:2: all rows of a data set",
    );
    expect(
      await refusalOfRows(MESSAGES_ROW, {
        prompt: [user("p")],
        chosen: [user("p"), assistant("c")],
        rejected: [user("p"), assistant("r")],
      }),
    ).toContain("found messages in prompt, and chosen and rejected that repeat them");
  });

  test("a column named __proto__ changes nothing", async () => {
    const file = await temporaryFile("a.jsonl", '{"__proto__": {"chosen": "x"}, "prompt": "p", "rejected": "r"}');
    expect(await refusal(file)).toContain("chosen must be text or a list of messages, found nothing");
    expect({}).not.toHaveProperty("chosen");
  });
});
