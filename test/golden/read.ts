import { readFileSync } from "node:fs";
import { resolve } from "node:path";

/**
 * Readers of the golden files for tests. They share no code with the project, so that a mistake of ours in reading
 * cannot hide itself, and trust what they read: the files are our own.
 */

/** What TRL logged for a training step, an evaluation (names behind `eval_`) or the whole run (`train_loss`). */
export type LogRecord = Readonly<Record<string, number>> & { readonly step: number; readonly epoch: number };

/** A pair as TRL tokenized it, not yet cut to max_length; the reference's log-probabilities are of what is left. */
export interface OracleExample {
  readonly prompt_ids: readonly number[];
  readonly chosen_ids: readonly number[];
  readonly rejected_ids: readonly number[];
  readonly ref_chosen_logps: number;
  readonly ref_rejected_logps: number;
  readonly ref_chosen_token_logps?: readonly number[];
  readonly ref_rejected_token_logps?: readonly number[];
}

export interface Oracle {
  readonly config: Readonly<Record<string, unknown>>;
  readonly versions: Readonly<Record<string, string>>;
  readonly examples: readonly OracleExample[];
  readonly eval_examples?: readonly OracleExample[];
  /** Per epoch the indices into `examples` in training order; only of a run that shuffles. */
  readonly order?: readonly (readonly number[])[];
  readonly log: readonly LogRecord[];
}

export interface GoldenLosses {
  readonly config: Readonly<Record<string, unknown>>;
  readonly examples: readonly OracleExample[];
  readonly eval_examples: readonly OracleExample[];
  readonly cases: Readonly<Record<string, LossCase>>;
}

export interface LossCase {
  readonly settings: Readonly<Record<string, unknown>>;
  readonly log: readonly LogRecord[];
  readonly final_norms: Readonly<Record<string, number>>;
  readonly moved_norms: Readonly<Record<string, number>>;
}

/** float64 as Float64Array, float32 as Float32Array, bfloat16 and float16 as their bits. */
export interface GoldenTensor {
  readonly dtype: "F64" | "F32" | "BF16" | "F16" | "U8";
  readonly shape: readonly number[];
  readonly data: Float64Array | Float32Array | Uint16Array | Uint8Array;
}

/** The absolute path of a file under test/golden. A path that is absolute, such as that of a run's output, stays itself. */
export function goldenPath(name: string): string {
  return resolve(import.meta.dirname, name);
}

export function readGoldenJson<T>(name: string): T {
  return JSON.parse(readFileSync(goldenPath(name), "utf8")) as T;
}

/** @param run a folder with oracle.json, such as `runs/mha-tied-uneven` */
export function readOracle(run: string): Oracle {
  return readGoldenJson(`${run}/oracle.json`);
}

export function trainRecords(log: readonly LogRecord[]): LogRecord[] {
  return log.filter((record) => record.loss !== undefined);
}

export function evalRecords(log: readonly LogRecord[]): LogRecord[] {
  return log.filter((record) => record.eval_loss !== undefined);
}

/** All tensors of a safetensors file, by name. */
export function readTensors(name: string): Map<string, GoldenTensor> {
  const bytes = readFileSync(goldenPath(name));
  const headerEnd = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, headerEnd)) as Record<string, HeaderEntry>;
  const tensors = new Map<string, GoldenTensor>();
  for (const [key, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
    if (key === "__metadata__") continue;
    const data = bytes.buffer.slice(
      bytes.byteOffset + headerEnd + offsets[0],
      bytes.byteOffset + headerEnd + offsets[1],
    );
    tensors.set(key, { dtype, shape, data: viewOf(dtype, data as ArrayBuffer) });
  }
  return tensors;
}

/** The float32 tensors of an adapter folder, such as `runs/mha-tied-uneven/final_adapter`, by PEFT's names. */
export function readAdapter(folder: string): Map<string, GoldenTensor & { data: Float32Array }> {
  const tensors = readTensors(`${folder}/adapter_model.safetensors`);
  for (const [key, { dtype }] of tensors) {
    if (dtype !== "F32") throw new Error(`${folder}: ${key} must be F32, got ${dtype}`);
  }
  return tensors as Map<string, GoldenTensor & { data: Float32Array }>;
}

interface HeaderEntry {
  readonly dtype: GoldenTensor["dtype"];
  readonly shape: number[];
  readonly data_offsets: [number, number];
}

function viewOf(dtype: GoldenTensor["dtype"], data: ArrayBuffer): GoldenTensor["data"] {
  switch (dtype) {
    case "F64":
      return new Float64Array(data);
    case "F32":
      return new Float32Array(data);
    case "BF16":
    case "F16":
      return new Uint16Array(data);
    case "U8":
      return new Uint8Array(data);
    default:
      throw new Error(`no reader for dtype ${dtype satisfies never}`);
  }
}
