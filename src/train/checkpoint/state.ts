import path from "node:path";
import { z } from "zod";
import { InputError } from "../../errors.ts";
import { printable } from "../../text.ts";
import { readTextFile } from "../../weights/regular-file.ts";
import type { LoopState } from "../loop.ts";
import type { Progress } from "../performance.ts";
import type { Facts } from "./identity.ts";
import { STATE_FILE } from "./manifest.ts";

/** state.json: what a checkpoint knows besides the tensors and the records. */
export interface CheckpointState {
  readonly format: 1;
  readonly loop: LoopState;
  readonly progress: Progress;
  /** Seconds that each phase has taken so far, in all processes of the run. */
  readonly timings: Readonly<Record<string, number>>;
  /** What must be the same for the run to go on as if it had never been interrupted. */
  readonly identity: Facts;
  /** Rows of a GPU batch: another number would round differently. */
  readonly maxTokensPerBatch: number;
  /** The kernels' variants that the device runs fastest, which may round differently. */
  readonly decisions: Readonly<Record<string, number>>;
  /** The answer to `sample_prompt` before training; empty without one. */
  readonly answerBefore: string;
}

const count = z.int().min(0);
// JSON has no word for what is not a number.
const metric = z.union([z.number(), z.null().transform(() => Number.NaN)]);

const schema: z.ZodType<CheckpointState> = z.strictObject({
  format: z.literal(1),
  loop: z.strictObject({
    step: count,
    epoch: z.number(),
    tokens: count,
    sinceLog: z.strictObject({ metrics: z.array(z.record(z.string(), metric)), losses: z.array(metric) }),
    evaluationIsDue: z.boolean(),
  }),
  progress: z.strictObject({ steps: count, pairs: count, tokens: count, elapsedMs: z.number().min(0) }),
  timings: z.record(z.string(), z.number()),
  identity: z.record(z.string(), z.string()),
  maxTokensPerBatch: count,
  decisions: z.record(z.string(), z.number()),
  answerBefore: z.string(),
});

/** Records since the last line of the log, at most, and the rest. */
const MAX_STATE_BYTES = 2 ** 28;

export function formatState(state: CheckpointState): string {
  return `${JSON.stringify(state, null, 2)}\n`;
}

/** @throws InputError where the file is not a state of this version */
export async function readState(folder: string): Promise<CheckpointState> {
  const file = path.join(folder, STATE_FILE);
  const text = await readTextFile(file, MAX_STATE_BYTES);
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new InputError(`${printable(file)}: must be JSON`, { cause });
  }
  const { data, error } = schema.safeParse(parsed);
  if (data) return data;
  const place = error.issues[0]?.path.join(".") ?? "";
  throw new InputError(`${printable(file)}: is not a state that this version can continue from (${printable(place)})`);
}
