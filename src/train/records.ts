/** A line of metrics.jsonl. A value that was not finite is null in JSON. */
export type RunRecord = { readonly step: number } & Readonly<Record<string, number | null>>;

/** The names of what is measured on held-out pairs begin so. */
export const EVAL_PREFIX = "eval_";

/** The records of a run, each kind in the order of its steps. */
export interface RunRecords {
  readonly train: readonly RunRecord[];
  readonly evaluation: readonly RunRecord[];
}

/** What metrics.jsonl holds, and what of it could not be used, in a sentence each. */
export interface ReadRecords extends RunRecords {
  readonly problems: readonly string[];
}

const MAX_PROBLEMS = 5;

/**
 * The records of metrics.jsonl. A last line that is only half there is being written: it is left out. So is any other
 * line that is no record, and that is told. Of two records of one step the later one counts: the run went back to a
 * checkpoint.
 */
export function parseRecords(text: string): ReadRecords {
  const train = new Map<number, RunRecord>();
  const evaluation = new Map<number, RunRecord>();
  const badLines: number[] = [];
  const lines = text.split("\n");
  for (const [i, line] of lines.entries()) {
    if (line.trim() === "") continue;
    const record = parseRecord(line);
    if (record) (isEvaluation(record) ? evaluation : train).set(record.step, record);
    else if (i < lines.length - 1) badLines.push(i + 1); // Behind the last line feed a record is still growing.
  }
  return { train: inOrder(train), evaluation: inOrder(evaluation), problems: describeBadLines(badLines) };
}

/** The record of a line; null where it is none. */
export function parseRecord(line: string): RunRecord | null {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return null;
  const { step, ...rest } = value as Record<string, unknown>;
  if (typeof step !== "number" || !Number.isSafeInteger(step) || step < 0) return null;
  const numbers = Object.entries(rest).filter(([, number]) => typeof number === "number" || number === null);
  return { ...(Object.fromEntries(numbers) as Record<string, number | null>), step };
}

function isEvaluation(record: RunRecord): boolean {
  return Object.keys(record).some((key) => key.startsWith(EVAL_PREFIX));
}

function inOrder(records: ReadonlyMap<number, RunRecord>): RunRecord[] {
  return [...records.values()].sort((a, b) => a.step - b.step);
}

function describeBadLines(lines: readonly number[]): string[] {
  if (lines.length === 0) return [];
  const more = lines.length > MAX_PROBLEMS ? ` and ${lines.length - MAX_PROBLEMS} more` : "";
  const names = lines.slice(0, MAX_PROBLEMS).join(", ");
  return [`metrics.jsonl: no record of a step in ${lines.length === 1 ? "line" : "lines"} ${names}${more}: left out`];
}
