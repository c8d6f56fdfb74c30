import { printable } from "../text.ts";
import { isKey, isSection, SETTING_KEYS } from "./keys.ts";
import { ALTERNATIVES } from "./rules.ts";
import { type Assignment, combinations, type Distribution, draw, nameOf } from "./sweep-values.ts";
import { type MapTree, type Problem, shown, type Tree, toPlain } from "./tree.ts";
import { unknownKeyMessage } from "./unknown.ts";
import { closest, list } from "./words.ts";

/** What runs are compared by. */
export interface SweepMetric {
  /** Its name in metrics.jsonl. */
  readonly name: string;
  readonly isLowerBetter: boolean;
}

/** `sweep:` as it is meant: each run by what it sets. */
export interface SweepSection {
  readonly runs: readonly (readonly Assignment[])[];
  /** Null where the default holds. */
  readonly metric: SweepMetric | null;
}

export const SWEEP_METRICS: readonly SweepMetric[] = [
  { name: "eval_loss", isLowerBetter: true },
  { name: "eval_rewards/accuracies", isLowerBetter: false },
  { name: "eval_rewards/margins", isLowerBetter: false },
];

/** A night has not room for more, and a grid over many settings is soon larger than meant. */
export const MAX_RUNS = 1000;

const METHODS = ["grid", "random", "runs"] as const;
const KEYS = [...METHODS, "count", "seed", "metric"];
const DISTRIBUTIONS = ["choice", "uniform", "log_uniform"] as const;

/** Keys that make no sense in a sweep, and why. */
export const NOT_SWEPT: Readonly<Record<string, string>> = {
  output_dir: "each run has its own folder in output_dir",
  "export.merged_16bit": "of a sweep only the best run is merged",
  ...Object.fromEntries(
    ["push_to_hub", ...SETTING_KEYS.filter((key) => key.startsWith("push_to_hub."))].map((key) => [
      key,
      "of a sweep only the best run is pushed",
    ]),
  ),
};

/** Reads the value of `sweep:`. Without a section there are problems. */
export function readSweepSection(tree: Tree): { section: SweepSection | null; problems: readonly Problem[] } {
  const problems: Problem[] = [];
  const refuse = (at: Tree, message: string): undefined => {
    problems.push({ place: at.place, message });
    return undefined;
  };
  if (tree.kind !== "map") {
    refuse(tree, `sweep must be a map with grid, random or runs, got ${shown(tree)}`);
    return { section: null, problems };
  }
  const entryOf = (key: string): Tree | undefined => tree.entries.get(key)?.value;
  for (const [key, { keyPlace }] of tree.entries) {
    if (KEYS.includes(key)) continue;
    const meant = closest(key, KEYS);
    problems.push({
      place: keyPlace,
      message: `unknown key sweep.${printable(key, 60)}; ${meant ? `did you mean ${meant}?` : `it takes ${list(KEYS, "and")}`}`,
    });
  }
  const method = readMethod();
  const runs = method && readRuns(method, entryOf(method)!);
  const metric = readMetric();
  const isWhole = problems.length === 0 && runs && metric !== undefined;
  return { section: isWhole ? { runs, metric } : null, problems };

  function readMethod(): (typeof METHODS)[number] | undefined {
    const given = METHODS.filter((name) => entryOf(name));
    if (given.length !== 1) {
      return refuse(tree, `sweep must have one of grid, random and runs, got ${list(given, "and") || "none"}`);
    }
    const [name] = given;
    for (const key of ["count", "seed"]) {
      const value = entryOf(key);
      if (value && name !== "random") refuse(value, `sweep.${key} has no effect with ${name}: remove it`);
    }
    return name;
  }

  function readRuns(name: (typeof METHODS)[number], value: Tree): Assignment[][] | undefined {
    if (name === "runs") return readList(value);
    if (value.kind !== "map" || value.entries.size === 0) {
      return refuse(value, `sweep.${name} must be a map of settings, got ${shown(value)}`);
    }
    checkKeys(value);
    return name === "grid" ? readGrid(value) : readRandom(value);
  }

  function checkKeys(settings: MapTree): void {
    const keys = [...settings.entries.keys()];
    for (const [key, { keyPlace, value }] of settings.entries) {
      const pair = ALTERNATIVES.find((names) => names.some((name) => name === key));
      const other = pair?.find((name) => name !== key && keys.includes(name));
      const reason = NOT_SWEPT[key];
      if (reason) problems.push({ place: keyPlace, message: `${key} cannot be swept: ${reason}` });
      else if (isSection(key)) {
        const inner = value.kind === "map" ? [...value.entries.keys()][0] : undefined;
        problems.push({ place: keyPlace, message: `in a sweep write ${key}.${inner ?? "r"} instead of ${key}` });
      } else if (!isKey(key)) problems.push({ place: keyPlace, message: unknownKeyMessage(key) });
      else if (other && keys.indexOf(other) < keys.indexOf(key)) {
        problems.push({ place: keyPlace, message: `${key} and ${other} exclude each other: sweep one of them` });
      }
    }
  }

  function readGrid(grid: MapTree): Assignment[][] | undefined {
    const axes = [...grid.entries].map(([key, { value }]) => ({ key, values: readValues(key, value) ?? [] }));
    const count = axes.reduce((product, { values }) => product * values.length, 1);
    if (count > MAX_RUNS) return refuse(grid, `sweep.grid makes ${count} runs, and may make ${MAX_RUNS} at most`);
    return combinations(axes);
  }

  /** A list of at least one value, no two of them the same. */
  function readValues(key: string, value: Tree): readonly Tree[] | undefined {
    if (value.kind !== "list" || value.items.length === 0) {
      return refuse(value, `${key} must be a list of values to try, got ${shown(value)}`);
    }
    const seen = new Set<string>();
    for (const item of value.items) {
      const text = JSON.stringify(toPlain(item));
      if (seen.has(text)) refuse(item, `${key} lists ${shown(item)} twice`);
      seen.add(text);
    }
    return value.items;
  }

  function readRandom(settings: MapTree): Assignment[][] | undefined {
    const count = readWhole("count", 1, MAX_RUNS);
    const seed = entryOf("seed") ? readWhole("seed", 0, 0xffffffff) : 0;
    const parts = [...settings.entries].map(([key, { value }]) => ({ key, from: readDistribution(key, value) }));
    if (problems.length > 0 || count === undefined || seed === undefined) return undefined;
    const runs = draw(parts as { key: string; from: Distribution }[], count, seed);
    if (runs.length === count) return runs;
    return refuse(settings, `sweep.random has only ${runs.length} different runs, and sweep.count is ${count}`);
  }

  function readWhole(key: string, least: number, most: number): number | undefined {
    const tree = entryOf(key);
    const value = tree?.kind === "scalar" ? tree.value : undefined;
    if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= most) return value;
    const found = entryOf(key);
    const message = `sweep.${key} must be a whole number from ${least} to ${most}, got ${found ? shown(found) : "nothing"}`;
    return refuse(found ?? entryOf("random")!, message);
  }

  function readDistribution(key: string, value: Tree): Distribution | undefined {
    if (value.kind === "list") {
      const values = readValues(key, value);
      return values && { kind: "choice", values };
    }
    const forms = `${list(DISTRIBUTIONS, "or")}, such as {log_uniform: [1.0e-7, 1.0e-5]}`;
    const [entry, ...others] = value.kind === "map" ? [...value.entries] : [];
    const kind = DISTRIBUTIONS.find((name) => name === entry?.[0]);
    if (!entry || others.length > 0 || !kind) {
      return refuse(value, `${key} must be a list, or a map with one of ${forms}, got ${shown(value)}`);
    }
    const inner = entry[1].value;
    if (kind === "choice") {
      const values = readValues(key, inner);
      return values && { kind, values };
    }
    const [low, high, ...rest] = inner.kind === "list" ? inner.items.map(toPlain) : [];
    const isRange = typeof low === "number" && typeof high === "number" && rest.length === 0 && low < high;
    if (!isRange || (kind === "log_uniform" && low <= 0)) {
      const least = kind === "log_uniform" ? ", both above 0" : "";
      return refuse(inner, `${key}: ${kind} must be [low, high] with low below high${least}, got ${shownRange(inner)}`);
    }
    return { kind, low, high, tree: inner };
  }

  function readList(value: Tree): Assignment[][] | undefined {
    if (value.kind !== "list" || value.items.length === 0) {
      return refuse(value, `sweep.runs must be a list of maps of settings, got ${shown(value)}`);
    }
    if (value.items.length > MAX_RUNS) {
      return refuse(value, `sweep.runs has ${value.items.length} runs, and may have ${MAX_RUNS} at most`);
    }
    const names = new Set<string>();
    return value.items.flatMap((item): Assignment[][] => {
      if (item.kind !== "map" || item.entries.size === 0) {
        refuse(item, `sweep.runs must be a list of maps of settings, got ${shown(item)}`);
        return [];
      }
      checkKeys(item);
      const run = [...item.entries].map(([key, entry]): Assignment => ({ key, value: entry.value }));
      if (names.has(nameOf(run))) refuse(item, "sweep.runs lists this run twice");
      names.add(nameOf(run));
      return [run];
    });
  }

  /** Null where it is not given, undefined where it is wrong. */
  function readMetric(): SweepMetric | null | undefined {
    const given = entryOf("metric");
    if (!given) return null;
    const metric = SWEEP_METRICS.find(({ name }) => given.kind === "scalar" && given.value === name);
    const names = SWEEP_METRICS.map(({ name }) => name);
    return metric ?? refuse(given, `sweep.metric must be one of ${list(names, "or")}, got ${shown(given)}`);
  }
}

function shownRange(tree: Tree): string {
  return tree.kind === "list" ? `[${tree.items.map(shown).join(", ")}]` : shown(tree);
}
