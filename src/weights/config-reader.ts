import { describeJson, isJsonNumber, type JsonObject, type JsonValue, jsonSize } from "./strict-json.ts";

/**
 * Reads typed values from a JSON object and collects every problem, so that a user sees all of a file's at once.
 * After a problem a reader returns the fallback, which the caller discards together with the rest.
 */
export class ConfigReader {
  readonly problems: string[];
  readonly #object: JsonObject;
  readonly #prefix: string;
  readonly #unsound = new Set<string>();

  constructor(object: JsonObject, prefix = "", problems: string[] = []) {
    this.#object = object;
    this.#prefix = prefix;
    this.problems = problems;
  }

  /** A reader of a nested object, whose problems are reported with these. */
  nested(key: string, object: JsonObject): ConfigReader {
    return new ConfigReader(object, `${this.#prefix}${key}.`, this.problems);
  }

  /** `text` begins with the key. */
  problem(text: string): void {
    this.problems.push(this.#prefix + text);
  }

  /** Whether no typed read of these keys met a problem, so that comparing their values makes sense. */
  isSound(...keys: string[]): boolean {
    return keys.every((key) => !this.#unsound.has(key));
  }

  get(key: string): JsonValue | undefined {
    return this.#object.get(key);
  }

  entries(): IterableIterator<[string, JsonValue]> {
    return this.#object.entries();
  }

  /** Whether a key is there with another value than null. */
  isSet(key: string): boolean {
    return (this.get(key) ?? null) !== null;
  }

  /** An integer from 1 to `limit`, written as one. */
  size(key: string, fallback: number, limit: number): number {
    const value = this.get(key);
    if (value === undefined) return fallback;
    const size = jsonSize(value);
    if (size !== undefined && size >= 1 && size <= limit) return size;
    this.#refuse(key, `an integer from 1 to ${limit}`);
    return fallback;
  }

  /** A finite number above 0. Without a fallback the key is required. */
  positiveNumber(key: string, fallback?: number): number {
    const value = this.get(key);
    if (value === undefined && fallback !== undefined) return fallback;
    const number = isJsonNumber(value) ? Number(value.source) : Number.NaN;
    if (number > 0 && Number.isFinite(number)) return number;
    this.#refuse(key, "a number above 0");
    return fallback ?? 1;
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.get(key);
    if (value === undefined) return fallback;
    if (typeof value === "boolean") return value;
    this.#refuse(key, "true or false");
    return fallback;
  }

  /** A string; null when absent or null. */
  optionalString(key: string): string | null {
    const value = this.get(key) ?? null;
    if (value === null || typeof value === "string") return value;
    this.#refuse(key, "a string");
    return null;
  }

  #refuse(key: string, required: string): void {
    this.#unsound.add(key);
    this.problem(`${key} must be ${required}, found ${describeJson(this.get(key))}`);
  }
}
