import { Composer, type CST, type Document, LineCounter, Parser, visit, type YAMLError } from "yaml";
import { printable } from "../text.ts";
import { readTree } from "./read-tree.ts";
import type { Place, Problem, Tree } from "./tree.ts";

/** A config nests three deep. The composer recurses, so deeper text is refused before it can exhaust the stack. */
const MAX_DEPTH = 16;

export interface Parsed {
  /** Undefined for an empty document. Where the YAML is broken: what stands before the first break. */
  readonly root: Tree | undefined;
  readonly problems: readonly Problem[];
  /** False where the YAML is broken or an alias is: something missing may be a consequence. */
  readonly isComplete: boolean;
}

/**
 * Reads one YAML 1.2 document (core schema) and keeps the place of every value. Syntax errors, duplicate keys, tags that
 * the core schema does not know, merge keys, further documents, and aliases of anything but a scalar become problems.
 * `place`: where the text is from, if not from a file.
 */
export function parseYaml(text: string, place?: Place): Parsed {
  const lines = new LineCounter();
  const placeAt = (offset: number): Place => {
    if (place !== undefined) return place;
    const { line, col } = lines.linePos(offset);
    return { kind: "file", line, column: col };
  };
  const tokens = [...new Parser(lines.addNewLine).parse(text)];
  const tooDeep = firstTooDeep(tokens);
  if (tooDeep !== undefined) {
    const problem = { place: placeAt(tooDeep), message: `lists and maps are nested more than ${MAX_DEPTH} deep` };
    return { root: undefined, problems: [problem], isComplete: false };
  }
  const composer = new Composer({
    version: "1.2",
    schema: "core",
    merge: false,
    resolveKnownTags: false,
    stringKeys: true,
    uniqueKeys: false,
  });
  const [document, second] = composer.compose(tokens, true, text.length);
  if (document === undefined) throw new Error("internal: the YAML composer returned no document");

  const breaks = syntaxBreaks(document);
  if (second !== undefined) {
    breaks.push({ offset: second.range[0], message: "a second YAML document starts here; a config is a single one" });
  }
  const end = breaks.reduce((first, { offset }) => Math.min(first, offset), Number.POSITIVE_INFINITY);
  const { root, problems, isComplete } = readTree(document, placeAt, end);
  const breakProblems = onePerLine(breaks.map(({ offset, message }) => ({ place: placeAt(offset), message })));
  return { root, problems: [...breakProblems, ...problems], isComplete: isComplete && breaks.length === 0 };
}

/** The offset of the first list or map that is nested too deep. Iterative: the text is not to be trusted. */
function firstTooDeep(tokens: readonly CST.Token[]): number | undefined {
  const pending: { token: CST.Token; depth: number }[] = tokens.map((token) => ({ token, depth: 0 }));
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { token, depth } = next;
    if (depth > MAX_DEPTH) return token.offset;
    if (token.type === "document" && token.value !== undefined) pending.push({ token: token.value, depth: depth + 1 });
    if (!("items" in token)) continue;
    for (const item of token.items) {
      if (item.key) pending.push({ token: item.key, depth: depth + 1 });
      if (item.value) pending.push({ token: item.value, depth: depth + 1 });
    }
  }
  return undefined;
}

interface Break {
  readonly offset: number;
  readonly message: string;
}

function syntaxBreaks(document: Document): Break[] {
  // The library only warns of unknown tags and directives, which would then be ignored.
  const errors: readonly YAMLError[] = [...document.errors, ...document.warnings];
  return errors
    .toSorted((a, b) => a.pos[0] - b.pos[0])
    .map((error) => openQuote(document, error) ?? { offset: error.pos[0], message: inPlainWords(error) });
}

/** A quote that is never closed is reported where it opens: the library reports it where the text ends. */
function openQuote(document: Document, error: YAMLError): Break | undefined {
  if (error.code !== "MISSING_CHAR" || !/^Missing closing ['"]quote/.test(error.message)) return undefined;
  let offset: number | undefined;
  visit(document, {
    Scalar(_, scalar) {
      const [start = 0, end = 0] = scalar.range ?? [];
      if (start < error.pos[0] && error.pos[0] <= end) offset = start;
    },
  });
  return offset === undefined ? undefined : { offset, message: "this quote is never closed" };
}

function inPlainWords(error: YAMLError): string {
  switch (error.code) {
    case "TAB_AS_INDENT":
      return "a tab indents this line; YAML is indented with spaces";
    case "BLOCK_AS_IMPLICIT_KEY":
      return 'unexpected second "key: value" here; put a text with a colon in quotes, or check the indentation';
    case "MULTILINE_IMPLICIT_KEY":
      return 'this line is not of the form "key: value"';
    case "TAG_RESOLVE_FAILED":
      return `${printable(error.message).replace(/^Unresolved tag/, "unknown tag")}; a config needs none`;
    default:
      // Some messages end with a piece of the text, which may be a secret in the wrong place.
      return `not valid YAML: ${printable(error.message.replace(/: ".*"$/s, ""))}`;
  }
}

/** One slip often breaks several of YAML's rules at once. */
function onePerLine(problems: readonly Problem[]): Problem[] {
  const seen = new Set<unknown>();
  return problems.filter(({ place }) => {
    const line = place.kind === "file" ? place.line : place.index;
    return !seen.has(line) && seen.add(line);
  });
}
