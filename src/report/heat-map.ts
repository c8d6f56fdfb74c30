import type { SweepResults } from "../sweep/results.ts";
import { formatNumber, formatShortly } from "./browser/numbers.ts";
import { type Html, html } from "./html.ts";
import { finite } from "./lines.ts";
import { metricLabel } from "./metric-names.ts";
import { scoreOf } from "./run-scores.ts";

/** Shades from worst to best: `heat-0` to `heat-8` of the style sheet. */
const SHADES = 9;
/** More values on an axis are put together. */
const MAX_VALUES = 10;
/** Ratio of the ends from which on an axis is divided by ratios. */
const LOGARITHMIC_FROM = 20;
/** Of the ends of a range. */
const RANGE_DIGITS = 3;
/** The settings that a sweep of DPO is mostly about. */
const PREFERRED_KEYS = ["beta", "learning_rate"];

/** Values of a setting that share a row or a column: from `low` to `high`, both among them. */
interface Bin {
  readonly low: number;
  readonly high: number;
  readonly label: string;
}

export interface HeatCell {
  /** Over the runs in it. */
  readonly mean: number;
  readonly runs: number;
  /** 0 for the worst cell, 8 for the best. */
  readonly shade: number;
}

export interface HeatMap {
  readonly rowKey: string;
  readonly columnKey: string;
  readonly rows: readonly Bin[];
  readonly columns: readonly Bin[];
  /** By row and column; null where no run is. */
  readonly cells: readonly (readonly (HeatCell | null)[])[];
}

/**
 * What the runs came to by the sweep's metric, over two swept settings: β and the learning rate, else the first two that are
 * numbers and take several values. A run that failed is left out. Null where there are no such two, or no value.
 */
export function heatMapOf({ keys, metric, runs }: SweepResults): HeatMap | null {
  const points = runs.flatMap((run) => {
    const value = finite(scoreOf(run, metric).final?.[metric.name]);
    return value === null || run.status === "failed" ? [] : [{ settings: run.settings, value }];
  });
  const numeric = keys.filter((key) => {
    const values = points.map(({ settings }) => settings[key]);
    return values.every((value) => typeof value === "number" && Number.isFinite(value)) && new Set(values).size > 1;
  });
  const isPreferred = PREFERRED_KEYS.every((key) => numeric.includes(key));
  const [rowKey, columnKey] = isPreferred ? PREFERRED_KEYS : numeric;
  if (rowKey === undefined || columnKey === undefined) return null;
  const valuesOf = (key: string) => points.map(({ settings }) => settings[key] as number);
  const [rows, columns] = binsOf(valuesOf(rowKey), valuesOf(columnKey));
  const cells = rows.map((row) =>
    columns.map((column) => {
      const values = points
        .filter(({ settings }) => isIn(row, settings[rowKey]) && isIn(column, settings[columnKey]))
        .map(({ value }) => value);
      return values.length === 0
        ? null
        : { mean: values.reduce((a, b) => a + b, 0) / values.length, runs: values.length };
    }),
  );
  const order = [...new Set(cells.flat().flatMap((cell) => cell?.mean ?? []))].sort((a, b) => a - b);
  if (metric.isLowerBetter) order.reverse();
  const shadeOf = (mean: number) =>
    order.length === 1 ? SHADES - 1 : Math.round((order.indexOf(mean) / (order.length - 1)) * (SHADES - 1));
  const shaded = cells.map((row) => row.map((cell) => cell && { ...cell, shade: shadeOf(cell.mean) }));
  return { rowKey, columnKey, rows, columns, cells: shaded };
}

/** Each value by itself where they are few and meet in a grid. Values drawn at random fall into ranges. */
function binsOf(rowValues: readonly number[], columnValues: readonly number[]): [Bin[], Bin[]] {
  const [rows, columns] = [distinct(rowValues), distinct(columnValues)];
  const met = new Set(rowValues.map((value, i) => `${value} ${columnValues[i]}`)).size;
  const isSparse = 3 * met < rows.length * columns.length;
  const rangeCount = Math.min(8, Math.max(3, Math.round(Math.sqrt(rowValues.length))));
  const bins = (values: readonly number[]): Bin[] =>
    values.length > MAX_VALUES || (isSparse && values.length > rangeCount)
      ? rangesOf(values, rangeCount)
      : values.map((value) => ({ low: value, high: value, label: formatShortly(value) }));
  return [bins(rows), bins(columns)];
}

function distinct(values: readonly number[]): number[] {
  return [...new Set(values)].sort((a, b) => a - b);
}

/** Ranges of equal ratio where the values span a wide one, else of equal width. Empty ones are left out. */
function rangesOf(sorted: readonly number[], count: number): Bin[] {
  const [first, last] = [sorted[0]!, sorted.at(-1)!];
  const isLogarithmic = first > 0 && last / first >= LOGARITHMIC_FROM;
  const scale = isLogarithmic ? Math.log : (value: number) => value;
  const numberOf = (value: number) =>
    Math.min(count - 1, Math.floor((count * (scale(value) - scale(first))) / (scale(last) - scale(first))));
  return Array.from({ length: count }, (_, number) => sorted.filter((value) => numberOf(value) === number))
    .filter((values) => values.length > 0)
    .map((values) => rangeOf(values[0]!, values.at(-1)!));
}

function rangeOf(low: number, high: number): Bin {
  const [from, to] = [formatShortly(low, RANGE_DIGITS), formatShortly(high, RANGE_DIGITS)];
  return { low, high, label: from === to ? from : `${from} to ${to}` };
}

function isIn({ low, high }: Bin, value: unknown): boolean {
  return typeof value === "number" && value >= low && value <= high;
}

export function renderHeatMap({ rowKey, columnKey, rows, columns, cells }: HeatMap, metricName: string): Html {
  const title = `${metricLabel(metricName)} by ${rowKey} and ${columnKey}`;
  const renderCell = (cell: HeatCell | null): Html =>
    cell === null
      ? html`<td></td>`
      : html`<td class="heat-${cell.shade}">${formatNumber(cell.mean)}${cell.runs > 1 && html`<small>mean of ${cell.runs}</small>`}</td>`;
  return html`<div class="scrolling" role="region" aria-label="${title}" tabindex="0">
<table class="heat">
<thead><tr><th scope="col">${rowKey} ↓ ${columnKey} →</th>${columns.map(({ label }) => html`<th scope="col">${label}</th>`)}</tr></thead>
<tbody>
${rows.map(({ label }, i) => html`<tr><th scope="row">${label}</th>${cells[i]!.map(renderCell)}</tr>\n`)}</tbody>
</table>
</div>`;
}
