import { realpath } from "node:fs/promises";
import path from "node:path";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { REPORT_FILE } from "../train/run-folder.ts";
import { writeFileAtomically } from "../weights/atomic-file.ts";
import { fileError, openRegularFile } from "../weights/regular-file.ts";
import { renderComparison } from "./comparison-page.ts";
import { type RunFiles, readRunFiles } from "./run-files.ts";
import { renderReport } from "./run-page.ts";
import { GENERATOR_TAG } from "./shell.ts";

export interface WrittenReport {
  readonly path: string;
  /** What of the folder's files could not be used, in a sentence each. */
  readonly problems: readonly string[];
}

/**
 * Writes `report.html` of an output folder from its files, in place of the one before.
 *
 * @param out another file to write it to
 * @throws InputError where the folder is none of a run, or the file system refuses
 */
export async function writeReport(folder: string, out?: string): Promise<WrittenReport> {
  return writeRunReport(await readRunFiles(folder), out);
}

async function writeRunReport(run: RunFiles, out = path.join(run.folder, REPORT_FILE)): Promise<WrittenReport> {
  await writeFileAtomically(out, renderReport(run));
  return { path: out, problems: run.problems };
}

/**
 * Writes the report of each folder, and a page that compares them.
 *
 * @param out the page's file
 * @returns the reports, the comparison last
 * @throws InputError where a folder is none of a run or comes twice, or the file system refuses
 */
export async function writeReports(folders: readonly string[], out: string): Promise<WrittenReport[]> {
  await requireDistinct(folders);
  const runs = await Promise.all(folders.map(readRunFiles));
  const written: WrittenReport[] = [];
  for (const run of runs) written.push(await writeRunReport(run));
  const hrefOf = ({ folder }: RunFiles) => relativeUrl(path.dirname(out), path.join(folder, REPORT_FILE));
  await writeFileAtomically(out, renderComparison(runs, hrefOf));
  return [...written, { path: out, problems: [] }];
}

/** Refuses to write a page over a file that is none of ours. @throws InputError */
export async function requireOwnPage(option: string, file: string): Promise<void> {
  let head: string;
  try {
    const { handle } = await openRegularFile(file);
    try {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
      head = buffer.toString("utf8", 0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (((error as Error).cause as NodeJS.ErrnoException | undefined)?.code === "ENOENT") return;
    throw error;
  }
  if (head.includes(GENERATOR_TAG)) return;
  throw new InputError(
    `${option} ${printable(file, 1000)} is there and is no page of dpo-train: choose another file, or remove it`,
  );
}

/** The tag stands behind the policy, with its hashes, at the start of a page. */
const HEAD_BYTES = 4096;

async function requireDistinct(folders: readonly string[]): Promise<void> {
  const seen = new Set<string>();
  for (const folder of folders) {
    const real = await realpath(folder).catch((error: unknown) => {
      throw fileError(folder, "open", error);
    });
    if (seen.has(real)) throw new InputError(`${printable(folder, 1000)} is named twice: name each run's folder once`);
    seen.add(real);
  }
}

/** A link from a page in one folder to a file in another; null where no relative one leads there. */
function relativeUrl(from: string, file: string): string | null {
  const relative = path.relative(path.resolve(from), path.resolve(file));
  if (path.isAbsolute(relative)) return null; // Another drive, on Windows.
  const parts = relative.split(path.sep).map((part) => encodeURIComponent(part.replace(/\p{Surrogate}/gu, "\ufffd")));
  return `./${parts.join("/")}`;
}
