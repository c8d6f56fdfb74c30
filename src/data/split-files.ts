import { parse as parseYaml } from "yaml";
import { list } from "../config/words.ts";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { formatOf } from "./data-file.ts";
import { defaultPatterns, matchPatterns, type SplitPatterns } from "./file-patterns.ts";

/** What a repository or folder of data holds. */
export interface RepositoryFiles {
  /** Every file, relative, with "/". */
  readonly paths: readonly string[];
  /** The text of README.md, whose head may name configurations and splits. */
  readonly readme: string | undefined;
}

/** The files of each split that we read. */
export interface DataSplits {
  readonly splits: ReadonlyMap<string, readonly string[]>;
  /** False where no name tells a split: everything is `train` then. */
  readonly areNamed: boolean;
}

/** Extensions by the module of `datasets` that reads them, the first winning among equally many. */
const MODULES: Readonly<Record<string, string>> = {
  parquet: "parquet",
  arrow: "arrow",
  jsonl: "json",
  json: "json",
  csv: "csv",
  tsv: "csv",
  ndjson: "json",
  txt: "text",
  xml: "xml",
  tar: "webdataset",
  h5: "hdf5",
  hdf5: "hdf5",
  lance: "lance",
  zip: "zip",
};
const PRIORITY = Object.keys(MODULES);

/** The head of a README is far below this. */
const MAX_HEAD_CHARACTERS = 1 << 20;

/**
 * Which files make which split, by `datasets`' rules: the `configs` of the README's head, else names of splits in file and
 * folder names. Where there are no configs, `config` is a folder.
 *
 * @param config undefined for the only or the default one
 * @param subject the start of every message
 * @returns undefined when no split has a file that we read
 * @throws InputError when there is no such configuration, or several and none was chosen
 */
export function findSplits(
  files: RepositoryFiles,
  config: string | undefined,
  subject: string,
): DataSplits | undefined {
  const configs = files.readme === undefined ? [] : readmeConfigs(files.readme, subject);
  const chosen = configs.length > 0 ? chooseConfig(configs, config, subject) : { folder: config, patterns: undefined };
  const prefix = chosen.folder === undefined ? "" : `${chosen.folder.replace(/^\.\/|\/+$/g, "")}/`;
  const within = files.paths.filter((path) => path.startsWith(prefix)).map((path) => path.slice(prefix.length));
  if (configs.length === 0 && config !== undefined && within.length === 0) {
    if (!files.paths.some((path) => formatOf(path))) return undefined;
    throw new InputError(
      `${subject} has no configuration and no folder "${printable(config)}": its README names no configuration, ` +
        `and its folders are ${list(foldersOf(files.paths), "and") || "none"}`,
    );
  }
  // Patterns in the README start at the root, whatever the configuration's folder.
  const candidates = (chosen.patterns ? files.paths : within).filter((path) => modulesOf(path).length > 0);
  const { patterns, areNamed } = chosen.patterns
    ? { patterns: chosen.patterns, areNamed: true }
    : defaultPatterns(candidates);
  const splits = new Map<string, readonly string[]>();
  for (const [split, ofSplit] of patterns) {
    const readable = filesOfOneFormat(matchPatterns(ofSplit, candidates)).filter((path) => formatOf(path));
    if (readable.length > 0) splits.set(split, chosen.patterns ? readable : readable.map((path) => prefix + path));
  }
  return splits.size > 0 ? { splits, areNamed } : undefined;
}

/** The files of one split. @throws InputError naming the splits that there are */
export function filesOfSplit({ splits }: DataSplits, split: string, key: string, subject: string): readonly string[] {
  const files = splits.get(split);
  if (files) return files;
  const names = [...splits.keys()].map((name) => printable(name, 60));
  throw new InputError(`${subject} has no split "${printable(split)}": set ${key} to ${list(names, "or")}`);
}

/** Of files of several formats those of the most common one, as `datasets` chooses it. */
function filesOfOneFormat(paths: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const path of paths) {
    for (const extension of modulesOf(path)) counts.set(extension, (counts.get(extension) ?? 0) + 1);
  }
  const [most] = [...counts].sort(
    ([a, countA], [b, countB]) => countB - countA || PRIORITY.indexOf(a) - PRIORITY.indexOf(b),
  );
  if (most === undefined) return [];
  const module = MODULES[most[0]];
  return paths.filter((path) => modulesOf(path).some((extension) => MODULES[extension] === module));
}

/** The known extensions in a name: `train.jsonl.gz` has jsonl. */
function modulesOf(path: string): string[] {
  const [, ...extensions] = path
    .slice(path.lastIndexOf("/") + 1)
    .toLowerCase()
    .split(".");
  return extensions.filter((extension) => Object.hasOwn(MODULES, extension));
}

function foldersOf(paths: readonly string[]): string[] {
  const folders = new Set(paths.filter((path) => path.includes("/")).map((path) => path.slice(0, path.indexOf("/"))));
  return [...folders]
    .sort()
    .slice(0, 20)
    .map((name) => printable(name, 60));
}

interface ReadmeConfig {
  name: string;
  isDefault: boolean;
  folder: string | undefined;
  /** Undefined where the names of the files tell the splits. */
  patterns: SplitPatterns | undefined;
}

function chooseConfig(configs: readonly ReadmeConfig[], name: string | undefined, subject: string): ReadmeConfig {
  const names = list(
    configs.map((config) => printable(config.name, 60)),
    "or",
  );
  const chosen =
    name === undefined
      ? (configs.find(({ isDefault }) => isDefault) ?? (configs.length === 1 ? configs[0] : undefined))
      : configs.find((config) => config.name === name);
  if (chosen) return chosen;
  throw new InputError(
    name === undefined
      ? `${subject} has several configurations and no default: set dataset_config to ${names}`
      : `${subject} has no configuration "${printable(name)}": set dataset_config to ${names}`,
  );
}

/** The `configs` in a README's head, none where there are none. @throws InputError where they are not as `datasets` wants them */
function readmeConfigs(readme: string, subject: string): ReadmeConfig[] {
  const head = /^\s*---\r?\n(.*?)\r?\n---\s*(?:\n|$)/s.exec(readme.slice(0, MAX_HEAD_CHARACTERS))?.[1];
  if (head === undefined) return [];
  const malformed = () =>
    new InputError(
      `${subject}: the head of its README.md cannot be understood, which names its files: download them, and give a folder without it`,
    );
  let configs: unknown;
  try {
    ({ configs } = fieldsOf(parseYaml(head, { logLevel: "silent" })));
  } catch {
    throw malformed();
  }
  if (configs === undefined || configs === null) return [];
  if (!Array.isArray(configs)) throw malformed();
  return configs.map((entry: unknown) => {
    const { config_name: name, data_files: files, data_dir: folder, default: isDefault } = fieldsOf(entry);
    if (typeof name !== "string" || (folder !== undefined && typeof folder !== "string")) throw malformed();
    const patterns = files === undefined || files === null ? undefined : patternsOf(files);
    if (patterns === null) throw malformed();
    return { name, isDefault: isDefault === true || name === "default", folder, patterns };
  });
}

/** `data_files`: a pattern, a list of patterns, or a list of {split, path}; null for anything else. */
function patternsOf(value: unknown): SplitPatterns | null {
  if (typeof value === "string") return new Map([["train", [value]]]);
  if (!Array.isArray(value) || value.length === 0) return null;
  if (value.every((item) => typeof item === "string")) return new Map([["train", value]]);
  const patterns = new Map<string, string[]>();
  for (const item of value) {
    const { split, path } = fieldsOf(item);
    const paths: unknown[] = Array.isArray(path) ? path : [path];
    if (typeof split !== "string" || patterns.has(split)) return null;
    if (!paths.every((one): one is string => typeof one === "string")) return null;
    patterns.set(split, paths);
  }
  return patterns;
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
