import { stat } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { fileError } from "../weights/regular-file.ts";

/** The files of a command that writes rows to `out`, which all lie in its folder. */
export interface CurationFiles {
  readonly out: string;
  readonly train: string;
  readonly test: string;
  /** Every answer, as it came. Its lines are JSON, but no rows: it is not named .jsonl. */
  readonly journal: string;
  readonly report: string;
  readonly lock: string;
}

/** @throws InputError unless `out` ends in .jsonl */
export function curationFiles(out: string): CurationFiles {
  if (extname(out).toLowerCase() !== ".jsonl") {
    throw new InputError(`--out must name a .jsonl file, got "${printable(out)}"`);
  }
  const name = basename(out).slice(0, -".jsonl".length);
  const beside = (suffix: string) => join(dirname(out), `${name}${suffix}`);
  return {
    out,
    train: beside("-train.jsonl"),
    test: beside("-test.jsonl"),
    journal: beside(".journal"),
    report: beside(".report.json"),
    lock: join(dirname(out), `.${name}.lock`),
  };
}

/** @throws InputError where rows would take the place of a file that this command has not written */
export async function refuseForeignOutput(outputs: readonly string[], journal: string): Promise<void> {
  if (await exists(journal)) return;
  for (const path of outputs) {
    if (!(await exists(path))) continue;
    throw new InputError(
      `${printable(path)}: is there already, and the journal ${printable(basename(journal))} is not: choose another --out or move the file away`,
    );
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw fileError(path, "open", error);
  }
}
