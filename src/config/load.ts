import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { applyOverrides } from "./overrides.ts";
import { parseYaml } from "./parse.ts";
import { readConfigFile } from "./read-file.ts";
import type { Config } from "./schema.ts";
import { type MapTree, type Place, type Problem, shown } from "./tree.ts";
import { validate } from "./validate.ts";

/** A file with more mistakes than this is not a config; the rest is counted. */
const MAX_REPORTED = 50;

export interface LoadedConfig {
  readonly config: Config;
  readonly path: string;
  /** The file as it was read, without `--set`. */
  readonly sourceText: string;
}

/**
 * Reads a config file, puts the command line's `--set KEY=VALUE` into it and checks all of it.
 * Throws one InputError that lists every mistake with its line and column, or with the option it came from.
 */
export function loadConfig(path: string, overrides: readonly string[] = []): LoadedConfig {
  const sourceText = readConfigFile(path);
  return { config: parseConfig(sourceText, path, overrides), path, sourceText };
}

/** `loadConfig` for text that is at hand. `path` names it in messages. */
export function parseConfig(sourceText: string, path: string, overrides: readonly string[] = []): Config {
  const { map, problems, isComplete } = readRoot(sourceText, overrides);
  const sweep = map.entries.get("sweep");
  map.entries.delete("sweep");
  const sweepProblems = sweep ? [{ place: sweep.keyPlace, message: SWEEP_IN_A_RUN }] : [];
  const validated = validate(map, isComplete);
  const settingProblems = "problems" in validated ? validated.problems : [];
  const all = [...problems, ...sweepProblems, ...settingProblems];
  if (all.length > 0 || "problems" in validated) throw new InputError(report(all, path));
  return validated.config;
}

const SWEEP_IN_A_RUN =
  "sweep describes many runs: start them with dpo-train sweep --config FILE, or leave it out of a single one with --set sweep=null";

/** A config's map with the command line's settings in it, not checked yet. */
export interface RootRead {
  readonly map: MapTree;
  readonly problems: readonly Problem[];
  /** Whether what is missing in the map is missing in the file. */
  readonly isComplete: boolean;
}

export function readRoot(sourceText: string, overrides: readonly string[]): RootRead {
  const { root, problems, isComplete } = parseYaml(sourceText);
  const start: Place = { kind: "file", line: 1, column: 1 };
  const isEmpty = root === undefined || (root.kind === "scalar" && root.value === null);
  const isMap = root?.kind === "map";
  const map: MapTree = isMap ? root : { kind: "map", place: root?.place ?? start, entries: new Map() };
  const wrongRoot =
    isEmpty || isMap || !isComplete
      ? []
      : [{ place: root.place, message: `a config must be a map of settings, got ${shown(root)}` }];
  const optionProblems = applyOverrides(map, overrides);
  return {
    map,
    problems: [...problems, ...wrongRoot, ...optionProblems],
    isComplete: isComplete && (isEmpty || isMap),
  };
}

/** One line per mistake: the file's in order of position, then the options'. */
export function report(problems: readonly Problem[], path: string): string {
  const lines = problems
    .toSorted((a, b) => compare(a.place, b.place))
    .map(({ place, message }) =>
      place.kind === "file"
        ? `${printable(path)}:${place.line}:${place.column}: ${message}`
        : `--set ${place.key}: ${message}`,
    );
  if (lines.length <= MAX_REPORTED) return lines.join("\n");
  return [...lines.slice(0, MAX_REPORTED), `and ${lines.length - MAX_REPORTED} more mistakes`].join("\n");
}

function compare(a: Place, b: Place): number {
  if (a.kind === "file") return b.kind === "file" ? a.line - b.line || a.column - b.column : -1;
  return b.kind === "file" ? 1 : a.index - b.index;
}
