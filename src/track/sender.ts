import { createHash } from "node:crypto";
import path from "node:path";
import { METRICS_FILE } from "../train/run-folder.ts";
import { newOutbox, type Outbox, readOutbox, writeOutbox } from "./outbox.ts";
import { readRunEnd, readRunFacts } from "./run-data.ts";
import { findPosition, type Position, readLines } from "./tail.ts";
import type { Remote, Tracker } from "./tracker.ts";

/** MLflow takes up to 1000 values in a request, and a record has about 20. */
const MAX_RECORDS = 40;

/** Brings one run to one tracker, a step at a time. What a step did is on disk before the next. */
export interface Sender {
  /**
   * Sends what comes next. @returns whether there was anything
   * @throws TransientFailure, RefusedFailure, or InputError where the file system refuses
   */
  readonly advance: (signal: AbortSignal) => Promise<boolean>;
  /**
   * Sends how the run ended, once there is nothing to advance. Does nothing where that has arrived already.
   * @returns false where the folder turns out to hold another run than the one sent, which is to be advanced first
   */
  readonly finish: (signal: AbortSignal) => Promise<boolean>;
  /** Records that have arrived. */
  readonly sent: () => number;
  /** Where people look at the run; null before it is made. */
  readonly place: () => string | null;
}

export function createSender(folder: string, tracker: Tracker): Sender {
  const metrics = path.join(folder, METRICS_FILE);
  let outbox: Outbox | null = null;
  let position: Position | null = null;

  const save = async (changes: Partial<Outbox>): Promise<Outbox> => {
    const next: Outbox = { ...outbox!, ...changes };
    await writeOutbox(folder, tracker.name, next);
    outbox = next;
    return next;
  };

  const prepare = async (signal: AbortSignal): Promise<Remote> => {
    if (outbox!.remote && outbox!.described) return outbox!.remote;
    const facts = await readRunFacts(folder);
    let { remote } = outbox!;
    if (!remote) {
      const isRepeated = outbox!.creating;
      if (!isRepeated) await save({ creating: true });
      remote = await tracker.create(facts, outbox!.token, isRepeated, signal);
      await save({ remote });
    }
    remote = await tracker.describe(remote, facts, signal);
    await save({ remote, described: true });
    return remote;
  };

  /** Behind what has arrived; null while a run that was continued has not come there again. */
  const locate = async (): Promise<Position | null> => {
    position ??= await findPosition(metrics, outbox!.acknowledged);
    if (position === null || position.chain === outbox!.chain) return position;
    // Other records than those that were sent: another run was begun in this folder.
    position = null;
    outbox = newOutbox();
    return findPosition(metrics, 0);
  };

  return {
    sent: () => outbox?.acknowledged ?? 0,
    place: () => (outbox?.remote ? tracker.place(outbox.remote) : null),
    advance: async (signal) => {
      outbox ??= await readOutbox(folder, tracker.name);
      const from = await locate();
      const remote = await prepare(signal);
      if (from === null) return false;
      position = from;
      const isRepeated = outbox.pending !== null;
      const count = outbox.pending ? outbox.pending.to - from.lines : MAX_RECORDS;
      const { records, end, modifiedMs } = await readLines(metrics, from, count);
      // What was on its way may have to be written again first.
      if (records.length === 0 || (isRepeated && records.length < count)) return false;
      const pending = outbox.pending ?? (await save({ pending: { to: end.lines, timeMs: modifiedMs } })).pending!;
      const batch = { first: from.lines, records, timeMs: pending.timeMs, isRepeated };
      const sent = await tracker.send(remote, batch, signal);
      await save({ remote: sent, acknowledged: end.lines, chain: end.chain, pending: null, finished: null });
      position = end;
      return true;
    },
    finish: async (signal) => {
      const end = await readRunEnd(folder);
      if (!outbox?.remote) return false;
      const lacksRecords = position === null || outbox.pending !== null;
      if (lacksRecords && (end.status === "done" || end.status === "stopped")) {
        outbox = newOutbox();
        return false;
      }
      const hash = createHash("sha256").update(JSON.stringify(end)).digest("hex");
      if (outbox.finished === hash) return true;
      await save({ remote: await tracker.finish(outbox.remote, end, signal), finished: hash });
      return true;
    },
  };
}
