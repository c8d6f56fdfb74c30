const DIGITS = 4;
/** What a table shows where there is no number. */
export const NO_NUMBER = "–";

/** A number in four digits, for columns of them: `0.5040`, `149.7`, `2.000e-6`, `16384`. */
export function formatNumber(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NO_NUMBER;
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (Number.isInteger(value) && size < 1e7) return String(value);
  if (size < 1e-3 || size >= 1e7) return value.toExponential(DIGITS - 1).replace("e+", "e");
  return size < 10 ** (DIGITS - 1) ? value.toPrecision(DIGITS) : String(Math.round(value));
}

/** A number as somebody would write it, in at most `digits`: `0.5`, `2e-6`, `1.23`. */
export function formatShortly(value: number, digits = 15): string {
  const rounded = Number(value.toPrecision(digits));
  const size = Math.abs(rounded);
  return (size > 0 && size < 1e-3) || size >= 1e7 ? rounded.toExponential().replace("e+", "e") : String(rounded);
}

const MAX_MARK_DIGITS = 8;

/** Marks of an axis, in as many digits as tell them apart. */
export function formatMarks(marks: readonly number[], distance: number): string[] {
  const largest = Math.max(...marks.map(Math.abs));
  const isPlain = largest === 0 || (largest >= 1e-3 && largest < 1e6);
  const format = (mark: number, digits: number): string =>
    isPlain || mark === 0 ? mark.toFixed(isPlain ? digits : 0) : mark.toExponential(digits).replace("e+", "e");
  const isExact = (digits: number) =>
    marks.every((mark) => Math.abs(Number(format(mark, digits)) - mark) < 1e-6 * distance);
  let digits = 0;
  while (digits < MAX_MARK_DIGITS && !isExact(digits)) digits++;
  return marks.map((mark) => format(Math.abs(mark) < 1e-6 * distance ? 0 : mark, digits));
}

/** Beyond it, and below its inverse, sums and steps of an axis would leave the range of numbers. */
const LARGEST = 1e300;

/** The range of an axis for values from `low` to `high`: a little more, never empty, and finite. */
export function paddedRange(low: number, high: number): [number, number] {
  const [from, to] = [clamp(low), clamp(high)];
  const size = Math.max(Math.abs(from), Math.abs(to));
  // What differs by rounding alone is shown as equal.
  const isFlat = to - from <= 1e-9 * size;
  const padding = isFlat ? (size < 1 / LARGEST ? 1 : 0.1 * size) : 0.06 * (to - from);
  return [from - padding, to + padding];
}

function clamp(value: number): number {
  return Math.max(-LARGEST, Math.min(LARGEST, value));
}
