/**
 * How `datasets` finds the files of each split: names of splits in file and folder names, and patterns of fsspec
 * (`datasets/data_files.py` of datasets 5.2, fsspec/utils.py).
 */

/** Patterns of each split, in `datasets`' order of splits. */
export type SplitPatterns = ReadonlyMap<string, readonly string[]>;

const KEYWORDS: ReadonlyMap<string, readonly string[]> = new Map([
  ["train", ["train", "training"]],
  ["validation", ["validation", "valid", "dev", "val"]],
  ["test", ["test", "testing", "eval", "evaluation"]],
]);
const SEPARATOR = "[-._ 0-9]";
const IN_FOLDER_NAMES = [
  (keyword: string) => `**/${keyword}/**`,
  (keyword: string) => `**/${keyword}${SEPARATOR}*/**`,
  (keyword: string) => `**/*${SEPARATOR}${keyword}/**`,
  (keyword: string) => `**/*${SEPARATOR}${keyword}${SEPARATOR}*/**`,
];
const IN_FILE_NAMES = [
  (keyword: string) => `**/${keyword}${SEPARATOR}*`,
  (keyword: string) => `**/*${SEPARATOR}${keyword}${SEPARATOR}*`,
];
const DIGITS = "[0-9]".repeat(5);
const shardPattern = (split: string): string => `data/${split}-${DIGITS}-of-${DIGITS}*.*`;
const SHARD_NAME = /^data\/([^/]*)-\d{5}-of-\d{5}[^/]*\.[^/]*$/;

const IGNORED_FILES = new Set([
  "README.md",
  "config.json",
  "dataset_info.json",
  "dataset_infos.json",
  "dummy_data.zip",
  "dataset_dict.json",
]);

/** The splits of a set of files by their names alone. Where no name tells one, all of them are `train`. */
export function defaultPatterns(paths: readonly string[]): { patterns: SplitPatterns; areNamed: boolean } {
  const sharded = new Set(matchPattern(shardPattern("*"), paths).flatMap((path) => SHARD_NAME.exec(path)?.[1] ?? []));
  if (sharded.size > 0) {
    const known = [...KEYWORDS.keys()].filter((split) => sharded.has(split));
    const others = [...sharded].filter((split) => !KEYWORDS.has(split)).sort();
    return { patterns: new Map([...known, ...others].map((split) => [split, [shardPattern(split)]])), areNamed: true };
  }
  for (const templates of [IN_FOLDER_NAMES, IN_FILE_NAMES]) {
    const patterns = new Map(
      [...KEYWORDS].map(([split, keywords]): [string, string[]] => [
        split,
        keywords.flatMap((keyword) => templates.map((template) => template(keyword))),
      ]),
    );
    for (const [split, ofSplit] of patterns) {
      if (!ofSplit.some((pattern) => matchPattern(pattern, paths).length > 0)) patterns.delete(split);
    }
    if (patterns.size > 0) return { patterns, areNamed: true };
  }
  return { patterns: new Map([["train", ["**"]]]), areNamed: false };
}

/**
 * The files that patterns name, in order: pattern by pattern, by name within each. A file that two patterns name comes
 * once; `datasets` would read it twice.
 */
export function matchPatterns(patterns: readonly string[], paths: readonly string[]): string[] {
  return [...new Set(patterns.flatMap((pattern) => matchPattern(pattern, paths)))];
}

function matchPattern(pattern: string, paths: readonly string[]): string[] {
  const expression = globExpression(pattern);
  const fileName = pattern.slice(pattern.lastIndexOf("/") + 1);
  return paths
    .filter((path) => expression.test(path) && !isLeftOut(path, pattern, fileName))
    .sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
}

/** Metadata, and hidden (`.x`) and special (`__x`) folders that the pattern does not ask for. */
function isLeftOut(path: string, pattern: string, patternName: string): boolean {
  const parts = path.split("/");
  const patternParts = pattern.split("/");
  const name = parts.at(-1)!;
  if (IGNORED_FILES.has(name) && name !== patternName) return true;
  const count = (of: readonly string[], start: string) => of.filter((part) => part.startsWith(start)).length;
  return (
    count(parts.slice(0, -1), "__") !== count(patternParts.slice(0, -1), "__") ||
    count(parts, ".") !== count(patternParts, ".")
  );
}

/** `*` and `?` stay within a name, `**` as a whole name is any number of folders, `[…]` is a class of characters. */
function globExpression(pattern: string): RegExp {
  const parts = pattern.replace(/^\.\//, "").split("/");
  const expressions = parts.map((part, i) => {
    const isLast = i === parts.length - 1;
    if (part === "**") return isLast ? ".*" : "(?:[^/]+/)*";
    return namePattern(part) + (isLast ? "" : "/");
  });
  return new RegExp(`^${expressions.join("")}$`, "su");
}

function namePattern(part: string): string {
  return part.replace(/\*+|\?|\[!?[^\]]+\]|[^*?[]+|\[/g, (token) => {
    if (token.startsWith("*")) return "[^/]*";
    if (token === "?") return "[^/]";
    if (token.length > 1 && token.startsWith("[")) {
      const inner = token.slice(1, -1);
      const isNegated = inner.startsWith("!");
      const members = (isNegated ? inner.slice(1) : inner).replace(/[\\[\]^&~]/g, "\\$&");
      return isNegated ? `[^/${escapeHyphen(members)}]` : `[${escapeHyphen(members)}]`;
    }
    return token.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
  });
}

/** A hyphen at either end of a class stands for itself. */
function escapeHyphen(members: string): string {
  return members.replace(/^-|-$/g, "\\-");
}
