import path from "node:path";
import { stringify } from "yaml";
import { InputError } from "../errors.ts";
import { type RootRead, readRoot, report } from "./load.ts";
import { setSetting } from "./overrides.ts";
import { readConfigFile } from "./read-file.ts";
import { type Config, pushSchema } from "./schema.ts";
import { readSweepSection, type SweepMetric, type SweepSection } from "./sweep-section.ts";
import { type Assignment, nameOf } from "./sweep-values.ts";
import { type MapTree, type Problem, toPlain } from "./tree.ts";
import { validate } from "./validate.ts";

/** One run of a sweep. */
export interface SweepRun {
  /** Its swept settings, as the name of its folder in the sweep's. */
  readonly name: string;
  /** The swept settings by their keys (`beta`, `lora.r`), as they were written. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Writes into the run's own folder, merges nothing and pushes nothing: that is for the best run of a sweep alone. */
  readonly config: Config;
  /** What the config says of merging, and of pushing. */
  readonly export: Config["export"];
  readonly push: Config["push_to_hub"];
}

export interface Sweep {
  /** The sweep's output folder, in which each run has its own. */
  readonly folder: string;
  /** The swept settings, in the order of the file. */
  readonly keys: readonly string[];
  readonly metric: SweepMetric;
  readonly runs: readonly SweepRun[];
  /** The sweep as a config of its own, with its runs listed one by one: it loads back to this sweep. */
  readonly yaml: string;
}

/**
 * Reads a config file with a `sweep:` and checks the config of each of its runs.
 * @throws InputError that lists every mistake with its line and column, or with the option it came from
 */
export function loadSweep(file: string, overrides: readonly string[] = []): Sweep {
  return parseSweep(readConfigFile(file), file, overrides);
}

/** `loadSweep` for text that is at hand. `file` names it in messages. */
export function parseSweep(sourceText: string, file: string, overrides: readonly string[] = []): Sweep {
  const root = readRoot(sourceText, overrides);
  const entry = root.map.entries.get("sweep");
  root.map.entries.delete("sweep");
  if (!entry) {
    const message = "sweep is required: a map with grid, random or runs, such as sweep: {grid: {beta: [0.1, 0.5]}}";
    throw new InputError(report([...root.problems, { place: root.map.place, message }], file));
  }
  const { section, problems } = readSweepSection(entry.value);
  const { runs, problems: runProblems } = makeRuns(root, section?.runs ?? [[]]);
  const all = withoutRepeats([...root.problems, ...problems, ...runProblems]);
  if (all.length > 0 || !section) throw new InputError(report(all, file));
  return {
    folder: folderOf(runs),
    keys: [...new Set(section.runs.flatMap((run) => run.map(({ key }) => key)))],
    metric: metricOf(section, runs, entry.keyPlace, file),
    runs,
    yaml: stringify({ ...(toPlain(root.map) as object), sweep: plainSection(section) }, { lineWidth: 0 }),
  };
}

function makeRuns(
  { map, isComplete }: RootRead,
  all: readonly (readonly Assignment[])[],
): { runs: SweepRun[]; problems: Problem[] } {
  const problems: Problem[] = [];
  const runs: SweepRun[] = [];
  for (const assignments of all) {
    const root = copyOf(map);
    for (const { key, value } of assignments) setSetting(root, key, value, value.place);
    const validated = validate(root, isComplete);
    if ("problems" in validated) {
      problems.push(...validated.problems);
      continue;
    }
    const { config } = validated;
    const name = nameOf(assignments);
    runs.push({
      name,
      settings: settingsOf(assignments),
      config: {
        ...config,
        output_dir: path.join(config.output_dir, name),
        export: { ...config.export, merged_16bit: false },
        push_to_hub: pushSchema.parse({}),
      },
      export: config.export,
      push: config.push_to_hub,
    });
  }
  return { runs, problems };
}

/** What is set in the copy is not set in the original. */
function copyOf(map: MapTree): MapTree {
  const entries = new Map(
    [...map.entries].map(([key, { keyPlace, value }]) => [
      key,
      { keyPlace, value: value.kind === "map" ? copyOf(value) : value },
    ]),
  );
  return { ...map, entries };
}

function folderOf([first]: readonly SweepRun[]): string {
  return path.dirname(first!.config.output_dir);
}

/** What is wrong with the config itself is found in every run. */
function withoutRepeats(problems: readonly Problem[]): Problem[] {
  return [...new Map(problems.map((problem) => [JSON.stringify(problem), problem])).values()];
}

function metricOf(
  { metric }: SweepSection,
  runs: readonly SweepRun[],
  place: Problem["place"],
  file: string,
): SweepMetric {
  const isEvaluated = runs.every(({ config }) => config.eval_strategy !== "no");
  if (isEvaluated) return metric ?? { name: "eval_loss", isLowerBetter: true };
  if (!metric) return { name: "loss", isLowerBetter: true };
  const message = `sweep.metric ${metric.name} needs evaluations in every run: set eval_dataset or test_size, and no eval_strategy: no`;
  throw new InputError(report([{ place, message }], file));
}

function plainSection({ runs, metric }: SweepSection): object {
  return { ...(metric && { metric: metric.name }), runs: runs.map(settingsOf) };
}

function settingsOf(assignments: readonly Assignment[]): Record<string, unknown> {
  return Object.fromEntries(assignments.map(({ key, value }) => [key, toPlain(value)]));
}
