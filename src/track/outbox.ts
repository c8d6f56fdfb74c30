import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { TRACKING_FOLDER } from "../train/run-folder.ts";
import { writeFileAtomically } from "../weights/atomic-file.ts";
import { makeFolder } from "../weights/make-folder.ts";
import { fileError } from "../weights/regular-file.ts";

const outboxSchema = z.strictObject({
  format: z.literal(1),
  /** Names the run for all attempts to make it at the tracker. */
  token: z.string(),
  /** Whether an attempt to make it was begun. */
  creating: z.boolean(),
  remote: z.record(z.string(), z.union([z.string(), z.number()])).nullable(),
  /** Whether the hyperparameters have arrived. */
  described: z.boolean(),
  /** Lines of metrics.jsonl that have arrived, and the hash of these. */
  acknowledged: z.int().min(0),
  chain: z.string(),
  /** The lines up to here are on their way, and may have arrived. */
  pending: z.strictObject({ to: z.int().min(0), timeMs: z.number() }).nullable(),
  /** The hash of the end that has arrived. */
  finished: z.string().nullable(),
});

/** What is known to have arrived at a tracker: beside metrics.jsonl all that sending needs. */
export type Outbox = z.output<typeof outboxSchema>;

export function newOutbox(): Outbox {
  return {
    format: 1,
    token: randomBytes(8).toString("hex"),
    creating: false,
    remote: null,
    described: false,
    acknowledged: 0,
    chain: "",
    pending: null,
    finished: null,
  };
}

function outboxFile(folder: string, tracker: string): string {
  return path.join(folder, TRACKING_FOLDER, `${tracker}.json`);
}

/** The outbox of a run for a tracker, a new one where there is none. @throws InputError where it cannot be read */
export async function readOutbox(folder: string, tracker: string): Promise<Outbox> {
  const file = outboxFile(folder, tracker);
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return newOutbox();
    throw fileError(file, "read", error);
  }
  try {
    return outboxSchema.parse(JSON.parse(text));
  } catch {
    throw new InputError(
      `${printable(file, 1000)}: must be what dpo-train wrote; remove it to send the run anew, as a second one`,
    );
  }
}

/** @throws InputError where the file system refuses */
export async function writeOutbox(folder: string, tracker: string, outbox: Outbox): Promise<void> {
  const file = outboxFile(folder, tracker);
  await makeFolder(path.resolve(path.dirname(file)));
  await writeFileAtomically(file, `${JSON.stringify(outbox, null, 2)}\n`);
}
