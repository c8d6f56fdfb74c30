import { InputError } from "../errors.ts";

const SHOWN_PROBLEMS = 20;

/** Where a row stands: the file as messages name it, and the line it starts on, from 1. */
export interface RowSource {
  file: string;
  line: number;
  /** In a file without lines (Parquet), `line` is the row's number. */
  unit?: "row";
}

/** `file:line`, or `file row 17`: as every message about a row begins. */
export function placeOf({ file, line, unit }: RowSource): string {
  return unit === "row" ? `${file} row ${line}` : `${file}:${line}`;
}

/** Collects what is wrong with the rows of a data set, to report it all at once. */
export interface RowProblems {
  add(source: RowSource, problem: string): void;
  readonly count: number;
  /** @throws InputError listing the first problems and their total, when there is any */
  throwIfAny(): void;
}

export function createRowProblems(): RowProblems {
  const shown: string[] = [];
  let count = 0;
  return {
    add(source, problem): void {
      count++;
      if (shown.length < SHOWN_PROBLEMS) shown.push(`${placeOf(source)}: ${problem}`);
    },
    get count(): number {
      return count;
    },
    throwIfAny(): void {
      if (count === 0) return;
      if (count === 1) throw new InputError(shown[0]!);
      const cut = count > shown.length ? ` The first ${shown.length}:` : "";
      throw new InputError(
        `${count} rows of the data cannot be used; correct or remove them.${cut}\n${shown.join("\n")}`,
      );
    },
  };
}
