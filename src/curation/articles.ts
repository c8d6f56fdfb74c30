import { readJsonRecords } from "../data/json-records.ts";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { readTextFile } from "../weights/regular-file.ts";
import { decodeUtf8 } from "../weights/strict-json.ts";

/** Below what a JavaScript string can hold. */
const MAX_FILE_BYTES = 500_000_000;

/**
 * The texts of articles: of a `.json` file, in the list `artifact_data` as in the LLM Engineer's Handbook or in a list
 * alone, or of a `.jsonl` file, one article a line. An article is an object whose `content` is text.
 *
 * @throws InputError naming the article that is something else, and where there is none
 */
export async function readArticles(file: string): Promise<string[]> {
  const name = printable(file);
  const items = /\.jsonl$/i.test(file) ? await readLines(file) : await readList(file, name);
  if (items.length === 0) throw new InputError(`${name}: must hold at least one article, found none`);
  return items.map(([place, item]) => {
    const content = isObject(item) ? item.content : undefined;
    if (typeof content === "string") return content;
    throw new InputError(
      `${place}: an article must be an object whose content is text, found ${isObject(item) ? `content: ${describe(content)}` : describe(item)}`,
    );
  });
}

type Placed = readonly [place: string, item: unknown];

async function readLines(file: string): Promise<Placed[]> {
  const items: Placed[] = [];
  for await (const { line, bytes } of readJsonRecords(file)) {
    const place = `${printable(file)}:${line}`;
    items.push([place, parse(decodeUtf8(bytes, place), place)]);
  }
  return items;
}

async function readList(file: string, name: string): Promise<Placed[]> {
  const root = parse(await readTextFile(file, MAX_FILE_BYTES), name);
  const list = isObject(root) ? root.artifact_data : root;
  if (!Array.isArray(list)) {
    throw new InputError(
      `${name}: articles must be a list of objects with content, alone or as artifact_data, found ${describe(root)}`,
    );
  }
  return list.map((item, i): Placed => [`${name}: article ${i + 1}`, item]);
}

function parse(text: string, place: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new InputError(`${place}: must be JSON: ${printable((error as Error).message)}`, { cause: error });
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function describe(value: unknown): string {
  return value === undefined ? "nothing" : printable(JSON.stringify(value), 60);
}
