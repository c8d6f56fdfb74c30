import path from "node:path";
import { parse } from "yaml";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { isTree, type Tree } from "../train/json-tree.ts";
import { parseRecords, type RunRecord, type RunRecords } from "../train/records.ts";
import { CONFIG_FILE, METRICS_FILE, PERFORMANCE_FILE, RUN_FILE } from "../train/run-folder.ts";
import { fileError, openRegularFile } from "../weights/regular-file.ts";

const FILES = [CONFIG_FILE, RUN_FILE, METRICS_FILE];
/** What shows a run, and grows or changes while it is trained. */
export const CHANGING_FILES = [METRICS_FILE, PERFORMANCE_FILE, RUN_FILE, CONFIG_FILE];
/** Of one file: far above those of any run, and below what would fill the memory. */
const MAX_FILE_BYTES = 400e6;

/** What the files of an output folder say of its run. What is missing is empty. */
export interface RunFiles extends RunRecords {
  readonly folder: string;
  /** The folder's own name. */
  readonly name: string;
  readonly configText: string;
  readonly config: Tree;
  /** run.json */
  readonly run: Tree;
  /** performance.jsonl: speed and memory. Runs of earlier versions have none. */
  readonly performance: readonly RunRecord[];
  /** What could not be used, in a sentence each. */
  readonly problems: readonly string[];
}

/**
 * Reads an output folder, of a run that is done, that goes on, or that was interrupted.
 * @throws InputError where it is none, or the file system refuses
 */
export async function readRunFiles(folder: string): Promise<RunFiles> {
  const [config, run, metrics] = await Promise.all(FILES.map((name) => readText(path.join(folder, name))));
  if (config === null && run === null && metrics === null) {
    throw new InputError(
      `${printable(folder, 1000)} must be the output folder of a run, with ${FILES.join(", ")} in it; found none of them`,
    );
  }
  const { train, evaluation, problems } = parseRecords(metrics ?? "");
  const performance = parseRecords((await readText(path.join(folder, PERFORMANCE_FILE))) ?? "");
  const readConfig = parseTree(CONFIG_FILE, config ?? null, parse);
  const readRun = parseTree(RUN_FILE, run ?? null, JSON.parse);
  return {
    folder,
    name: path.basename(path.resolve(folder)),
    configText: config ?? "",
    config: readConfig.tree,
    run: readRun.tree,
    train,
    evaluation,
    performance: performance.train,
    problems: [
      ...readConfig.problems,
      ...readRun.problems,
      ...(metrics === null ? [`${METRICS_FILE} is missing: there is nothing to draw`] : problems),
    ],
  };
}

/** null where there is no such file. */
async function readText(file: string): Promise<string | null> {
  try {
    const { handle, sizeBytes } = await openRegularFile(file);
    try {
      if (sizeBytes > MAX_FILE_BYTES) {
        throw new InputError(`${printable(file)}: must have at most ${MAX_FILE_BYTES} bytes, found ${sizeBytes}`);
      }
      // Bytes that are no UTF-8 leave their line unreadable, which is told; the others are of use.
      return (await handle.readFile()).toString("utf8");
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (isMissing(error)) return null;
    throw error instanceof InputError ? error : fileError(file, "read", error);
  }
}

function isMissing(error: unknown): boolean {
  const cause = error instanceof InputError ? error.cause : error;
  return ["ENOENT", "ENOTDIR"].includes((cause as NodeJS.ErrnoException | undefined)?.code ?? "");
}

function parseTree(
  name: string,
  text: string | null,
  parseText: (text: string) => unknown,
): { tree: Tree; problems: string[] } {
  if (text === null) return { tree: {}, problems: [`${name} is missing: what it would tell is left out`] };
  try {
    const tree = parseText(text);
    if (isTree(tree)) return { tree, problems: [] };
  } catch {
    // Told below, as what is no tree.
  }
  return { tree: {}, problems: [`${name} cannot be read: what it would tell is left out`] };
}
