import { basename, dirname } from "node:path";
import { withLock } from "../hub/lock.ts";
import type { Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { makeFolder } from "../weights/make-folder.ts";
import { Journal } from "./ask/journal.ts";
import { type CurationFiles, refuseForeignOutput } from "./files.ts";

/**
 * Works with the journal of an output file, alone: another process at the same one is waited for.
 *
 * @param outputs files that the work will write
 */
export async function withJournal<T>(
  files: Pick<CurationFiles, "out" | "journal" | "lock">,
  outputs: readonly string[],
  task: string,
  terminal: Terminal,
  signal: AbortSignal,
  work: (journal: Journal) => Promise<T>,
): Promise<T> {
  await makeFolder(dirname(files.out));
  await refuseForeignOutput(outputs, files.journal);
  const onWait = () => terminal.line(`another process works on ${printable(basename(files.out))}: waiting for it`);
  const locked = async () => {
    const journal = await Journal.open(files.journal, task);
    try {
      if (journal.cutBytes > 0) {
        terminal.line(
          `${printable(basename(files.journal))}: the last entry was cut off when it was written; its question is asked again`,
        );
      }
      return await work(journal);
    } finally {
      await journal.close();
    }
  };
  return withLock(files.lock, onWait, locked, signal);
}
