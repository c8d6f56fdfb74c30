import { open, rm } from "node:fs/promises";
import path from "node:path";
import { printable } from "../text.ts";
import { TENSORBOARD_FOLDER } from "../train/run-folder.ts";
import { writeFileAtomically } from "../weights/atomic-file.ts";
import { makeFolder } from "../weights/make-folder.ts";
import { fileVersionEvent, hparamsEndEvent, hparamsStartEvent, scalarsEvent, textEvent } from "./event-file.ts";
import { RefusedFailure } from "./failures.ts";
import { groupedName, type Remote, type Tracker, valuesOf } from "./tracker.ts";

/**
 * Writes an event file in the run's folder. What was acknowledged is so many bytes of it: what a killed process wrote
 * behind them is written again, the same bytes to the same place, which a TensorBoard that has read them does not notice.
 *
 * @param folder the output folder
 */
export function createTensorboard(folder: string): Tracker {
  const fileOf = ({ file }: Remote) => path.join(folder, TENSORBOARD_FOLDER, String(file));
  const append = async (remote: Remote, events: readonly Buffer[]): Promise<Remote> => {
    const content = Buffer.concat(events);
    const sizeBytes = Number(remote.size_bytes);
    const handle = await open(fileOf(remote), "r+").catch((cause: unknown) => {
      throw new RefusedFailure(`${printable(fileOf(remote), 1000)} cannot be written: ${String(cause)}`);
    });
    try {
      await handle.write(content, 0, content.byteLength, sizeBytes);
      await handle.truncate(sizeBytes + content.byteLength);
      await handle.datasync();
    } finally {
      await handle.close();
    }
    return { ...remote, size_bytes: sizeBytes + content.byteLength };
  };

  return {
    name: "tensorboard",
    secrets: [],
    create: async (_, token) => {
      const nowMs = Date.now();
      const remote = { file: `events.out.tfevents.${Math.floor(nowMs / 1000)}.dpo-train.${token}`, last_step: 0 };
      const start = fileVersionEvent(nowMs);
      // What another run has left there would be drawn as part of this one.
      await rm(path.join(folder, TENSORBOARD_FOLDER), { recursive: true, force: true });
      await makeFolder(path.resolve(folder, TENSORBOARD_FOLDER));
      await writeFileAtomically(fileOf(remote), start);
      return { ...remote, size_bytes: start.byteLength };
    },
    describe: (remote, { hyperparameters }) => append(remote, [hparamsStartEvent(Date.now(), hyperparameters)]),
    send: async (remote, { records, timeMs }) => {
      const events = records.map((record) =>
        scalarsEvent(
          timeMs,
          record.step,
          valuesOf(record).map(([key, value]) => [groupedName(key), value] as const),
        ),
      );
      return { ...(await append(remote, events)), last_step: records.at(-1)!.step };
    },
    finish: (remote, { status, summary, texts }) => {
      const nowMs = Date.now();
      const step = Number(remote.last_step);
      const shown = Object.entries({ ...texts, summary: JSON.stringify(summary, null, 2) });
      const isGood = status === "done" || status === "stopped";
      return append(remote, [
        ...shown.map(([tag, text]) => textEvent(nowMs, step, tag, asCode(text))),
        hparamsEndEvent(nowMs, isGood ? 1 : 2),
      ]);
    },
    place: (remote) => path.dirname(fileOf(remote)),
  };
}

/** Markdown's block of code: so that what a model wrote is shown as it is. */
function asCode(text: string): string {
  return text
    .split("\n")
    .map((line) => `    ${line}`)
    .join("\n");
}
