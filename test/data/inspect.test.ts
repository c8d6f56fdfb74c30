import { describe, expect, test } from "vitest";
import { CONTAINED_SHARE, findContamination } from "../../src/data/inspect/contamination.ts";
import { inspectRows } from "../../src/data/inspect/inspect.ts";
import { findConcerns, formatContamination, formatInspection, percent } from "../../src/data/inspect/inspect-text.ts";
import { type PreferenceRow, readPreferenceRows } from "../../src/data/rows.ts";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { jsonlFile, TWIN_TINY } from "./folders.ts";

const read = async (rows: readonly object[]): Promise<PreferenceRow[]> => readPreferenceRows(await jsonlFile(rows));
const row = (prompt: string, chosen: string, rejected: string) => ({ prompt, chosen, rejected });
const inspect = async (...rows: object[]) => inspectRows(await read(rows), null);
const place = (finding: { first: string | null }) => finding.first?.replace(/^.*\//, "") ?? null;

describe("lengths", () => {
  test("in characters without a tokenizer, by nearest rank", async () => {
    const rows = Array.from({ length: 100 }, (_, i) => row("p".repeat(i + 1), "c".repeat(2 * i), "r"));
    const { characters, tokens } = await inspect(...rows);
    expect(tokens).toBeNull();
    expect(characters.prompt).toEqual({ min: 1, median: 50, p90: 90, p99: 99, max: 100, total: 5050 });
    expect(characters.chosen).toEqual({ min: 0, median: 98, p90: 178, p99: 196, max: 198, total: 9900 });
    expect(characters.pair.total).toBe(5050 + 9900 + 100);
  });

  test("in tokens as a run has them, with what max_length cuts and drops", async () => {
    const tokenizer = await loadTokenizer(TWIN_TINY);
    const rows = await read([
      row("Why?", "a b c d e f g h", "x"),
      row("1 ".repeat(30), "a", "b"),
      row("Why?", "a", "b"),
    ]);
    const { tokens, lengthBias } = inspectRows(rows, { tokenizer, promptTemplate: "none", maxLength: 8 });
    expect(tokens?.rows).toMatchObject({ read: 3, kept: 2, dropped: 1 });
    expect(tokens?.cut).toEqual({ chosen: 1, rejected: 0 });
    expect(lengthBias.unit).toBe("tokens");
  });

  test("of chosen against rejected", async () => {
    const { lengthBias } = await inspect(
      row("p", "cccc", "r"),
      row("p", "c", "r"),
      row("p", "cc", "r"),
      row("p", "c", ""),
    );
    expect(lengthBias).toEqual({
      unit: "characters",
      chosenLonger: 0.75,
      equallyLong: 0.25,
      medianRatio: 2,
      histogram: [0, 0, 0, 0, 1, 0, 1, 1, 0],
    });
    expect((await inspect(row("p", "c", ""))).lengthBias.medianRatio).toBeNull();
  });
});

describe("repeats", () => {
  test("of rows, of prompt and chosen, of prompts, and of pairs the other way round", async () => {
    const { duplicates } = await inspect(
      row("p", "c", "r"),
      row("p", "c", "r"),
      row("p", "c", "other"),
      row("p", "r", "c"),
      row("q", "c", "r"),
      row("q", "same", "same"),
      row("p", "c", "r "),
    );
    expect(duplicates.rows.rows).toBe(1);
    expect(duplicates.samePromptAndChosen.rows).toBe(3);
    expect(duplicates.samePrompt.rows).toBe(5);
    expect(duplicates.contradictions).toMatchObject({ rows: 1 });
    expect([duplicates.rows, duplicates.contradictions].map(place)).toEqual(["rows.jsonl:2", "rows.jsonl:4"]);
  });

  test("texts that only join to the same are different", async () => {
    const { duplicates } = await inspect(row("ab", "c", "r"), row("a", "bc", "r"), row("", "abc", "r"));
    expect(duplicates.rows.rows + duplicates.samePromptAndChosen.rows).toBe(0);
  });

  test("roles and system messages count", async () => {
    const messages = (role: string, system: string) => ({
      prompt: [...(system ? [{ role: "system", content: system }] : []), { role, content: "p" }],
      chosen: [{ role: "assistant", content: "c" }],
      rejected: [{ role: "assistant", content: "r" }],
    });
    const found = await inspect(
      messages("user", ""),
      messages("tool", ""),
      messages("user", "s"),
      messages("user", "s"),
    );
    expect(found.duplicates.rows.rows).toBe(1);
    expect(found.systemMessages.rows).toBe(2);
    expect(found.multiTurn.rows).toBe(0);
    // The first tenth question of an HH dialogue has turns before it.
    const hh = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: ";
    expect((await inspect({ chosen: `${hh}x`, rejected: `${hh}y` })).multiTurn.rows).toBe(1);
  });
});

test("equal and empty answers, white space counting as empty", async () => {
  const found = await inspect(row("p", "a", "a"), row(" \n", "c", "\u3000"), row("p", "", "r"), row("p", "c", "r"));
  expect(found.identicalAnswers.rows).toBe(1);
  expect([found.emptyPrompts, found.emptyChosen, found.emptyRejected].map(({ rows }) => rows)).toEqual([1, 1, 1]);
});

describe("unusual characters", () => {
  const kindsIn = async (text: string) =>
    (await inspect(row("p", text, "r"))).unusualCharacters.map(({ kind, occurrences }) => [kind, occurrences]);

  test.each([
    ["nul\u0000 bell\u0007 delete\u007f", "control characters", 3],
    ["\u0085 \u0099", "C1 control characters", 2],
    ["old mac\rline\r\nend\r", "carriage returns without a line feed", 2],
    ["left\u202eright\u2069\u200f", "bidirectional controls", 3],
    ["zero\u200bwidth \u00ad \ufeff tag\u{e0041}", "invisible characters", 4],
    ["lost \ufffd\ufffd bytes", "replacement characters (U+FFFD: bytes were lost)", 2],
    ["logo \uf8ff \u{10ffff} \ufdd0", "private-use characters and noncharacters", 3],
    ["cafÃ© dÃ©jÃ\u00a0 vu", "mojibake (UTF-8 read as Latin-1 or Windows-1252)", 3],
    ["itâ€™s â€œquotedâ€\u009d", "mojibake (UTF-8 read as Latin-1 or Windows-1252)", 3],
    ["ÐŸÑ€Ð¸Ð²ÐµÑ‚", "mojibake (UTF-8 read as Latin-1 or Windows-1252)", 3],
  ])("%j", async (text, kind, occurrences) => {
    expect(await kindsIn(text)).toContainEqual([kind, occurrences]);
  });

  test("an escape sequence is shown escaped, with its place", async () => {
    const { unusualCharacters } = await inspect(
      row("p", "c", "r"),
      row("red \u001b[31malert\u001b]0;x\u0007", "c", "r"),
    );
    const sequence = unusualCharacters.find(({ kind }) => kind === "terminal escape sequences");
    expect(sequence).toMatchObject({ rows: 1, occurrences: 2, example: "red \\u001b[31malert\\u001b]0;x\\u0007" });
    expect(place(sequence!)).toBe("rows.jsonl:2");
  });

  test.each([
    "plain\ttext\nwith lines\r\n and ~",
    "São Paulo, NÃO, Ångström, naïve, Straße “ß”, ÀÉÎ, Ä„Ö“",
    "Привет, мир — это текст",
    "日本語 한국어 中文 हिन्दी العربية עברית ไทย",
    "👩‍👩‍👧 emoji ❤️ 🇩🇪 می‌خواهم",
  ])("none in %j", async (text) => {
    expect(await kindsIn(text)).toEqual([]);
  });
});

describe("scripts", () => {
  test("shares of the letters, the most common first", async () => {
    const { scripts } = await inspect(row("abc где 123 !?", "日本のキ", "𐐀𝒜 ᏣᎳᎩ"));
    expect(scripts.shares.prompt).toEqual([
      { script: "Latin", share: 0.5 },
      { script: "Cyrillic", share: 0.5 },
    ]);
    expect(scripts.shares.chosen.map(({ script }) => script)).toEqual(["Han", "Hiragana", "Katakana"]);
    expect(scripts.shares.rejected).toEqual([{ script: "other", share: 1 }]);
  });

  test("answers in different scripts; Japanese is one, and short texts say nothing", async () => {
    const latin = "the quick brown fox jumps";
    const { answersDiffer } = (
      await inspect(
        row("p", latin, "это ответ на другом языке"),
        row("p", latin, "да"),
        row("p", "漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字", "ひらがなひらがなひらがなひらがなひらがなひらがな"),
        row("p", latin, latin),
      )
    ).scripts;
    expect(answersDiffer).toMatchObject({ rows: 1 });
  });
});

describe("contamination", () => {
  const compare = async (train: object[], test: object[]) => findContamination(await read(train), await read(test));
  const words = (from: number, count: number) => Array.from({ length: count }, (_, i) => `word${from + i}`).join(" ");

  test("equal rows and prompts, and prompts that differ in case, spaces, punctuation and Unicode forms", async () => {
    const found = await compare(
      [row("What is DPO?", "c", "r"), row("Ｆｕｌｌ café", "c", "r")],
      [
        row("What is DPO?", "c", "r"),
        row("what  is\n«dpo»", "x", "y"),
        row("full cafe\u0301", "x", "y"),
        row("What is PPO?", "c", "r"),
      ],
    );
    expect(found).toMatchObject({
      testRows: 4,
      rows: { rows: 1 },
      prompts: { rows: 1 },
      normalizedPrompts: { rows: 3 },
    });
  });

  test("runs of 13 words, and how much of a row lies in them", async () => {
    const found = await compare(
      [row(words(0, 40), words(100, 5), "r"), row("other", words(500, 12), "r")],
      [
        row(words(10, 20), "", "r"), // All of it.
        row(`${words(20, 13)} ${words(900, 13)}`, "", "r"), // Half of it.
        row(words(20, 12), "", "r"), // Too short a run.
        row("new", words(500, 12), "r"), // 12 words, with another in front.
        row(words(30, 10), words(100, 3), "r"), // Across prompt and chosen.
      ],
    );
    expect(found.sharedNgrams.rows).toBe(3);
    expect(found.contained.rows).toBe(2);
    expect(
      found.examples.map(({ test, train, share }) => [place({ first: test }), place({ first: train }), share]),
    ).toEqual([
      ["rows.jsonl:1", "rows.jsonl:1", 1],
      ["rows.jsonl:5", "rows.jsonl:1", 1],
      ["rows.jsonl:2", "rows.jsonl:1", 0.5],
    ]);
    expect(CONTAINED_SHARE).toBe(0.8);
  });

  test("a system message that all rows share says nothing", async () => {
    const messages = (content: string) => ({
      prompt: [
        { role: "system", content: words(0, 50) },
        { role: "user", content },
      ],
      chosen: [{ role: "assistant", content: "c" }],
      rejected: [{ role: "assistant", content: "r" }],
    });
    expect((await compare([messages("a")], [messages("b")])).sharedNgrams.rows).toBe(0);
  });

  test("of scripts without spaces each character is a word", async () => {
    const text = "これは十三文字より長い日本語の文です";
    expect((await compare([row(`前${text}後`, "c", "r")], [row(text, "", "r")])).contained.rows).toBe(1);
  });

  test("agrees with a comparison of the words themselves", async () => {
    let state = 1;
    const random = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    // Few words and long texts, so that many runs are shared by chance.
    const text = () => Array.from({ length: 40 }, () => "ab"[random(2)]).join(" ");
    const train = Array.from({ length: 12 }, () => row(text(), text(), "r"));
    const test = Array.from({ length: 40 }, () => row(text(), text(), "r"));
    const runs = ({ prompt, chosen }: { prompt: string; chosen: string }) => {
      const all = `${prompt} ${chosen}`.split(" ");
      return Array.from({ length: all.length - 12 }, (_, i) => all.slice(i, i + 13).join(" "));
    };
    const known = new Set(train.flatMap(runs));
    const expected = test.filter((candidate) => runs(candidate).some((run) => known.has(run))).length;
    expect(expected).toBeGreaterThan(5);
    expect(expected).toBeLessThan(40);
    expect((await compare(train, test)).sharedNgrams.rows).toBe(expected);
  });
});

test("what is wrong is said in words, and hostile text stays text", async () => {
  const train = await read([row("p", "a", "a"), row("", "a\u001b[2J", ""), row("p", "long answer", "r")]);
  const found = inspectRows(train, null);
  const contamination = findContamination(train, train);
  const concerns = findConcerns(found, contamination);
  expect(concerns.join("\n")).toMatch(/1 pairs have two equal answers.*\n1 prompts are empty/);
  expect(concerns.at(-1)).toBe("3 of 3 test prompts are in the training set, so the evaluation will flatter");
  const text = [...formatInspection(found), ...formatContamination(contamination), ...concerns].join("\n");
  expect(text).toContain("control characters: 1 in 1 row, first ");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: none is to come through.
  expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
  expect(
    findConcerns(
      inspectRows(await read([row("p", "good", "evil"), row("q", "x", "yy"), row("r", "zz", "y")]), null),
      null,
    ),
  ).toEqual([]);
});

test("a share that rounds to nothing is not nothing", () => {
  expect([0, 0.0001, 0.0005, 0.123456, 1].map(percent)).toEqual(["0%", "<0.1%", "0.1%", "12.3%", "100%"]);
});
