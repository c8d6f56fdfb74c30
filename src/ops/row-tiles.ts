import { type BufferRange, wholeBuffer } from "../gpu/buffer.ts";
import type { Gpu } from "../gpu/gpu.ts";

/** The rows of a packed batch in tiles that do not cross from one pair into the next. */
export interface RowTiles {
  /** (tiles, 2) u32: first row, and the one past the last. */
  readonly range: BufferRange;
  /** Rows of a tile at most. */
  readonly rows: number;
  /** Tiles of the batch at hand. */
  count: number;
}

/** @param maxRows of a batch: there may be as many tiles, as a pair may have a single row */
export function createRowTiles(gpu: Gpu, rows: number, maxRows: number): RowTiles {
  return { range: wholeBuffer(gpu.buffer(`tiles of ${rows} rows`, maxRows * 8)), rows, count: 0 };
}

/** @param starts the first row of each pair, ascending, and the number of rows of the batch */
export function setRowTiles(gpu: Gpu, tiles: RowTiles, starts: readonly number[]): void {
  const words: number[] = [];
  for (const [i, start] of starts.slice(0, -1).entries()) {
    const end = starts[i + 1]!;
    for (let first = start; first < end; first += tiles.rows) words.push(first, Math.min(first + tiles.rows, end));
  }
  tiles.count = words.length / 2;
  gpu.write(tiles.range.buffer, 0, Uint32Array.from(words));
}
