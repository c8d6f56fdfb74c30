import { describe, expect, test } from "vitest";
import {
  decodeUtf8,
  describeJson,
  type JsonValue,
  jsonSize,
  MAX_JSON_DEPTH,
  MAX_JSON_VALUES,
  parseStrictJson,
} from "../../src/weights/strict-json.ts";
import { inputErrorOf } from "./fixtures.ts";

/** As JSON.parse would give it, for texts where both must agree. */
function plain(value: JsonValue): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]));
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === "object" && value !== null) return Number(value.source);
  return value;
}

const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);

describe("parseStrictJson", () => {
  test.each([
    "null",
    " true ",
    "false",
    "0",
    "-0.5e-3",
    "1E+5",
    "12345678901234567890",
    '""',
    '"a\\u0061\\n\\t\\"\\\\\\/\\b\\f\\r\\ud83d\\ude00é😀"',
    "[]",
    "{}",
    "[1,[2,[3]],{}]",
    '\r\n\t {"a" : {"b" : [null, true]}, "" : "" , "é" : 1}\n',
    nested(MAX_JSON_DEPTH),
  ])("agrees with JSON.parse on %s", (text) => {
    expect(plain(parseStrictJson(text, "f"))).toEqual(JSON.parse(text));
  });

  test.each([
    ["", "1:1", "the end of the text"],
    ["  ", "1:3", "the end of the text"],
    ["\ufeff{}", "1:1", "byte order mark"],
    ["{} x", "1:4", "must end after the first JSON value"],
    ["{}{}", "1:3", "must end"],
    ['{"a":1,"a":2}', "1:8", 'must not repeat the key "a"'],
    ['{"a":1,\n "\\u0061":2}', "2:2", 'must not repeat the key "a"'],
    ['{"x":{"b":1,"b":1}}', "1:13", 'repeat the key "b"'],
    ['{"__proto__":1,"__proto__":2}', "1:16", 'repeat the key "__proto__"'],
    ["{a:1}", "1:2", "a key in quotes"],
    ["{1:1}", "1:2", "a key in quotes"],
    ['{"a":1,}', "1:8", "a key in quotes"],
    ['{"a" 1}', "1:6", 'expected ":"'],
    ['{"a":1 "b":2}', "1:8", 'expected "," or "}"'],
    ['{"a":1', "1:7", 'expected "," or "}"'],
    ["[1,]", "1:4", "expected a JSON value"],
    ["[1 2]", "1:4", 'expected "," or "]"'],
    ["[", "1:2", "expected a JSON value"],
    ["'a'", "1:1", "expected a JSON value"],
    ["// x\n1", "1:1", "expected a JSON value"],
    ["NaN", "1:1", "expected a JSON value"],
    ["Infinity", "1:1", "expected a JSON value"],
    ["-Infinity", "1:2", "expected a JSON value"],
    ["+1", "1:1", "expected a JSON value"],
    [".5", "1:1", "expected a JSON value"],
    ["01", "1:1", "must not start with 0"],
    ["-01", "1:1", "must not start with 0"],
    ["1.", "1:3", "expected a digit"],
    ["1e", "1:3", "expected a digit"],
    ["1e+", "1:4", "expected a digit"],
    ["0x10", "1:2", "must end"],
    ["tru", "1:1", "expected a JSON value"],
    ["nulll", "1:5", "must end"],
    ["\u00a01", "1:1", "expected a JSON value"],
    ['"abc', "1:1", "no closing quote"],
    ['"a\nb"', "1:3", "control character"],
    ['"\u0000"', "1:2", "control character"],
    ['"\\x41"', "1:2", "unknown escape"],
    ['"\\', "1:2", "unknown escape"],
    ['"\\u12"', "1:2", "four hexadecimal digits"],
    ['"\\u+123"', "1:2", "four hexadecimal digits"],
    ['"\\ud800"', "1:1", "lone surrogate"],
    ['"\\udc00\\ud800"', "1:1", "lone surrogate"],
    ['{"\\ud83d":1}', "1:2", "lone surrogate"],
    [nested(MAX_JSON_DEPTH + 1), `1:${MAX_JSON_DEPTH + 1}`, `at most ${MAX_JSON_DEPTH} deep`],
    ['{"a":'.repeat(1_000_000), `1:${MAX_JSON_DEPTH * 5 + 1}`, "deep"],
  ])("refuses %j at %s: %s", async (text, position, problem) => {
    const message = await inputErrorOf(() => parseStrictJson(text, "folder/x.json"));
    expect(message.startsWith(`folder/x.json:${position}: not strict JSON: `), message).toBe(true);
    expect(message).toContain(problem);
  });

  test("keeps the source of numbers", () => {
    const source = "[4, 4.0, 4e0, -0, 9007199254740993, 1e400]";
    const values = parseStrictJson(source, "f") as { source: string }[];
    expect(values.map((value) => value.source).join(", ")).toBe(source.slice(1, -1));
  });

  test("a key __proto__ pollutes nothing", () => {
    const object = parseStrictJson('{"__proto__":{"polluted":true},"constructor":1}', "f") as Map<string, JsonValue>;
    expect([...object.keys()]).toEqual(["__proto__", "constructor"]);
    expect("polluted" in {}).toBe(false);
  });

  test("bounds the number of values", async () => {
    const message = await inputErrorOf(() => parseStrictJson(`[${"0,".repeat(MAX_JSON_VALUES)}0]`, "f"));
    expect(message).toContain(`at most ${MAX_JSON_VALUES} values`);
  });

  test("a number or a string of millions of characters is no trouble", () => {
    const digits = "1".repeat(20_000_000);
    expect((parseStrictJson(digits, "f") as { source: string }).source.length).toBe(digits.length);
    expect(parseStrictJson(`"${"\\n".repeat(1_000_000)}"`, "f")).toBe("\n".repeat(1_000_000));
  });

  test("escapes untrusted text in messages", async () => {
    const message = await inputErrorOf(() => parseStrictJson('{"\\u001b[31m":1,"\\u001b[31m":2}', "\u001b]0;x\u0007"));
    // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may be in the message.
    expect(message).not.toMatch(/[\u0000-\u001f]/);
    expect(message).toContain("\\u001b[31m");
  });

  test("every cut of a valid text is refused, and never by another kind of error", async () => {
    const text = '{"a\\u00e9": [1, -2.5e+3, true, null], "b": {"c": "\\ud83d\\ude00"}}';
    for (let length = 0; length < text.length; length++) {
      await inputErrorOf(() => parseStrictJson(text.slice(0, length), "f"));
    }
  });
});

test("decodeUtf8 refuses what is not UTF-8 and keeps a byte order mark", async () => {
  for (const bytes of [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82]]) {
    expect(await inputErrorOf(() => decodeUtf8(Uint8Array.from(bytes), "x.json"))).toContain("x.json: must be UTF-8");
  }
  expect(decodeUtf8(Uint8Array.from([0xef, 0xbb, 0xbf, 0x7b]), "x")).toBe("\ufeff{");
});

test("jsonSize takes plain integers up to 2^53 - 1 alone", () => {
  const sizes = (text: string) => (parseStrictJson(text, "f") as JsonValue[]).map(jsonSize);
  expect(sizes("[0, 7, 9007199254740991]")).toEqual([0, 7, 2 ** 53 - 1]);
  const refused = sizes('[-0, -1, 4.0, 4e0, 1.5, 9007199254740992, 99999999999999999999, "4", null, true, [], {}]');
  expect(refused).toEqual(refused.map(() => undefined));
});

test("describeJson is short and printable", () => {
  const describe = (text: string) => describeJson(parseStrictJson(text, "f"));
  expect(describe('[1.0, "a", [2], {"b": 1}, null]')).toBe('[1.0, "a", […], {…}, null]');
  expect(describe('"\\u001b[2J"')).toBe('"\\u001b[2J"');
  expect(describe(`"${"x".repeat(5000)}"`).length).toBeLessThan(100);
  expect(describeJson(undefined)).toBe("nothing");
});
