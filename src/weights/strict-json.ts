import { InputError } from "../errors.ts";
import { printable } from "../text.ts";

// Strict JSON (RFC 8259) for untrusted files. JSON.parse keeps the last of two equal keys, rounds integers over 2^53,
// takes `4.0` for `4`, and lets `__proto__` through; here each of these is an error or stays visible.

/** A number as it stands in the file, so that `4`, `4.0`, `4e0`, `-0` and integers over 2^53 can be told apart. */
export interface JsonNumber {
  readonly source: string;
}
export type JsonObject = Map<string, JsonValue>;
export type JsonValue = null | boolean | string | JsonNumber | JsonValue[] | JsonObject;

/** Deepest nesting of objects and arrays: what the reference reader of safetensors (serde_json) allows. */
export const MAX_JSON_DEPTH = 128;
/** Most values in one text. The largest published models name about 100,000 tensors, of about 7 values each. */
export const MAX_JSON_VALUES = 4_000_000;

export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return value instanceof Map;
}

export function isJsonNumber(value: JsonValue | undefined): value is JsonNumber {
  return typeof value === "object" && value !== null && "source" in value;
}

/** The value of a number written as a plain non-negative integer of at most 2^53 − 1, else undefined. */
export function jsonSize(value: JsonValue | undefined): number | undefined {
  if (!isJsonNumber(value) || !/^(?:0|[1-9][0-9]{0,15})$/.test(value.source)) return undefined;
  const size = Number(value.source);
  return Number.isSafeInteger(size) ? size : undefined;
}

/** A value as it may be shown in a message: `"text"`, `4.0`, `[1, 2]`, `{…}`. Safe to print and short. */
export function describeJson(value: JsonValue | undefined, maxLength = 80): string {
  return printable(describe(value), maxLength);
}

function describe(value: JsonValue | undefined): string {
  if (value === undefined) return "nothing";
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string") return `"${value.slice(0, 200)}"`;
  if (isJsonObject(value)) return value.size === 0 ? "{}" : "{…}";
  if (isJsonNumber(value)) return value.source.slice(0, 200);
  const shown = value.slice(0, 16).map((item) => (Array.isArray(item) ? "[…]" : describe(item)));
  return `[${shown.join(", ")}${value.length > 16 ? ", …" : ""}]`;
}

/**
 * The text of a JSON file's bytes. A byte order mark is kept, for the parser to refuse.
 * Throws InputError when the bytes are not UTF-8 (which also refuses surrogates encoded as UTF-8).
 */
export function decodeUtf8(bytes: Uint8Array, place: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new InputError(`${printable(place)}: must be UTF-8 text, found bytes that are not`, { cause });
  }
}

/**
 * Parses one JSON text. `place` names the text in messages, which go on with line and column.
 * Throws InputError on anything that RFC 8259 forbids, on a repeated key (compared after escapes), a lone surrogate, a
 * byte order mark, and beyond MAX_JSON_DEPTH and MAX_JSON_VALUES.
 */
export function parseStrictJson(text: string, place: string): JsonValue {
  const cursor: Cursor = { text, place, at: 0, values: 0 };
  if (text.startsWith("\ufeff")) fail(cursor, "must not start with a byte order mark");
  const value = parseValue(cursor, 0);
  skipSpace(cursor);
  if (cursor.at < text.length) fail(cursor, `must end after the first JSON value, found ${found(cursor)}`);
  return value;
}

/** As parseStrictJson, for a text that must be an object. */
export function parseStrictJsonObject(text: string, place: string): JsonObject {
  const root = parseStrictJson(text, place);
  if (isJsonObject(root)) return root;
  throw new InputError(`${printable(place)}: must be a JSON object, found ${describeJson(root)}`);
}

interface Cursor {
  readonly text: string;
  readonly place: string;
  at: number;
  values: number;
}

const SIMPLE_ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

// Recursion is bounded by MAX_JSON_DEPTH.
function parseValue(cursor: Cursor, depth: number): JsonValue {
  skipSpace(cursor);
  if (++cursor.values > MAX_JSON_VALUES) fail(cursor, `must hold at most ${MAX_JSON_VALUES} values`);
  const character = cursor.text[cursor.at];
  if (character === "{" || character === "[") {
    if (depth >= MAX_JSON_DEPTH) fail(cursor, `must be nested at most ${MAX_JSON_DEPTH} deep`);
    return character === "{" ? parseObject(cursor, depth + 1) : parseArray(cursor, depth + 1);
  }
  if (character === '"') return parseString(cursor);
  if (take(cursor, "true")) return true;
  if (take(cursor, "false")) return false;
  if (take(cursor, "null")) return null;
  return parseNumber(cursor);
}

function parseObject(cursor: Cursor, depth: number): JsonObject {
  const object: JsonObject = new Map();
  cursor.at++;
  skipSpace(cursor);
  if (take(cursor, "}")) return object;
  while (true) {
    skipSpace(cursor);
    const keyAt = cursor.at;
    if (cursor.text.charCodeAt(keyAt) !== QUOTE) fail(cursor, `expected a key in quotes, found ${found(cursor)}`);
    const key = parseString(cursor);
    if (object.has(key)) fail(cursor, `must not repeat the key "${printable(key)}"`, keyAt);
    skipSpace(cursor);
    if (!take(cursor, ":")) fail(cursor, `expected ":" after a key, found ${found(cursor)}`);
    object.set(key, parseValue(cursor, depth));
    skipSpace(cursor);
    if (take(cursor, "}")) return object;
    if (!take(cursor, ",")) fail(cursor, `expected "," or "}", found ${found(cursor)}`);
  }
}

function parseArray(cursor: Cursor, depth: number): JsonValue[] {
  const array: JsonValue[] = [];
  cursor.at++;
  skipSpace(cursor);
  if (take(cursor, "]")) return array;
  while (true) {
    array.push(parseValue(cursor, depth));
    skipSpace(cursor);
    if (take(cursor, "]")) return array;
    if (!take(cursor, ",")) fail(cursor, `expected "," or "]", found ${found(cursor)}`);
  }
}

// By hand: a regular expression overflows its stack on a number of many million digits.
function parseNumber(cursor: Cursor): JsonNumber {
  const startAt = cursor.at;
  take(cursor, "-");
  const integerAt = cursor.at;
  const integerDigits = skipDigits(cursor);
  if (integerDigits === 0) fail(cursor, `expected a JSON value, found ${found(cursor)}`);
  if (integerDigits > 1 && cursor.text[integerAt] === "0") fail(cursor, "a number must not start with 0", startAt);
  if (take(cursor, ".") && skipDigits(cursor) === 0) fail(cursor, `expected a digit, found ${found(cursor)}`);
  if (take(cursor, "e") || take(cursor, "E")) {
    if (!take(cursor, "+")) take(cursor, "-");
    if (skipDigits(cursor) === 0) fail(cursor, `expected a digit, found ${found(cursor)}`);
  }
  return { source: cursor.text.slice(startAt, cursor.at) };
}

function skipDigits(cursor: Cursor): number {
  const startAt = cursor.at;
  while (true) {
    const code = cursor.text.charCodeAt(cursor.at);
    if (!(code >= 0x30 && code <= 0x39)) return cursor.at - startAt;
    cursor.at++;
  }
}

function parseString(cursor: Cursor): string {
  const openedAt = cursor.at;
  let result = "";
  let runStart = ++cursor.at;
  while (true) {
    const code = cursor.text.charCodeAt(cursor.at);
    if (Number.isNaN(code)) fail(cursor, "a string has no closing quote", openedAt);
    if (code < 0x20) fail(cursor, `a control character in a string must be escaped, found ${found(cursor)}`);
    if (code !== QUOTE && code !== BACKSLASH) {
      cursor.at++;
      continue;
    }
    result += cursor.text.slice(runStart, cursor.at);
    if (code === QUOTE) break;
    result += parseEscape(cursor);
    runStart = cursor.at;
  }
  cursor.at++;
  if (/\p{Surrogate}/u.test(result)) fail(cursor, "a string holds a lone surrogate", openedAt);
  return result;
}

function parseEscape(cursor: Cursor): string {
  const letter = cursor.text[cursor.at + 1] ?? "";
  if (letter === "u") {
    const digits = cursor.text.slice(cursor.at + 2, cursor.at + 6);
    if (!/^[0-9a-fA-F]{4}$/.test(digits)) fail(cursor, "\\u must be followed by four hexadecimal digits");
    cursor.at += 6;
    return String.fromCharCode(Number.parseInt(digits, 16));
  }
  const character = SIMPLE_ESCAPES[letter];
  if (character === undefined) fail(cursor, `unknown escape "${printable(`\\${letter}`)}" in a string`);
  cursor.at += 2;
  return character;
}

function skipSpace(cursor: Cursor): void {
  while (true) {
    const code = cursor.text.charCodeAt(cursor.at);
    if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
    cursor.at++;
  }
}

function take(cursor: Cursor, literal: string): boolean {
  if (!cursor.text.startsWith(literal, cursor.at)) return false;
  cursor.at += literal.length;
  return true;
}

function found(cursor: Cursor): string {
  const codePoint = cursor.text.codePointAt(cursor.at);
  return codePoint === undefined ? "the end of the text" : `"${printable(String.fromCodePoint(codePoint))}"`;
}

function fail(cursor: Cursor, problem: string, at = cursor.at): never {
  const before = cursor.text.slice(0, at);
  const line = before.split("\n").length;
  const column = at - before.lastIndexOf("\n");
  throw new InputError(`${printable(cursor.place)}:${line}:${column}: not strict JSON: ${problem}`);
}
