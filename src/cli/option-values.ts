import { SIZE, sizeBytes } from "../config/sizes.ts";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import type { PrecisionChoice } from "../train/precision.ts";

/** A decimal number of the command line within bounds. @throws InputError naming the option and what it must be */
export function parseNumber(option: string, text: string, { least, most }: { least: number; most?: number }): number {
  const value = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : Number.NaN;
  if (Number.isFinite(value) && value >= least && value <= (most ?? value)) return value;
  const bounds = most === undefined ? `of at least ${least}` : `from ${least} to ${most}`;
  throw new InputError(`${option} must be a number ${bounds}, got "${printable(text)}"`);
}

/** A whole number of the command line within bounds. @throws InputError naming the option and what it must be */
export function parseWholeNumber(
  option: string,
  text: string,
  { least, most }: { least: number; most?: number },
): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(value) && value >= least && value <= (most ?? value)) return value;
  const bounds = most === undefined ? `of at least ${least}` : `from ${least} to ${most}`;
  throw new InputError(`${option} must be a whole number ${bounds}, got "${printable(text)}"`);
}

/** `--precision`. @throws InputError */
export function parsePrecision(text: string): PrecisionChoice {
  if (text === "auto" || text === "f32" || text === "f16") return text;
  throw new InputError(`--precision must be auto, f32 or f16, got "${printable(text)}"`);
}

/** `--device-memory` in bytes: `24GB`, `8GiB`. @throws InputError */
export function parseMemory(text: string): number {
  if (SIZE.test(text)) return sizeBytes(text);
  throw new InputError(`--device-memory must be a size such as 24GB or 8GiB, got "${printable(text)}"`);
}

/** Puts the option before the message of an InputError about what it names. */
export async function namingOption<T>(option: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new InputError(`${option}: ${error.message}`, { cause: error });
  }
}

/** Of an option that may be repeated. */
export function collect(value: string, previous: readonly string[] = []): string[] {
  return [...previous, value];
}
