/** What a page's script reads from the page: the lines of its charts. Types alone, for both sides. */
export interface PageData {
  /** Steps that series share, ascending. */
  readonly steps: readonly (readonly number[])[];
  readonly series: readonly SeriesData[];
  readonly charts: readonly ChartData[];
  /** Where the page hears of what is new; a page on a disk has nothing to hear from. */
  readonly events?: string;
}

/** The values that one run has recorded under one name. */
export interface SeriesData {
  readonly run: number;
  /** As in metrics.jsonl: `eval_loss`. */
  readonly key: string;
  /** The number of its list in `steps`. */
  readonly steps: number;
  /** null where a value is not finite. */
  readonly values: readonly (number | null)[];
}

export interface ChartData {
  /** The id of its figure in the page. */
  readonly id: string;
  /** What it can show, the first one to begin with. */
  readonly views: readonly ViewData[];
}

export interface ViewData {
  readonly label: string;
  readonly lines: readonly LineData[];
  /** The range of the y axis; from the data where there is none. */
  readonly range?: readonly [number, number];
  /** Whether the y axis of data begins at 0, for amounts: a little more or less is to look like little. */
  readonly isFromZero?: boolean;
  /** Drawn across the chart for comparison. */
  readonly guide?: { readonly value: number; readonly label: string };
}

export interface LineData {
  readonly series: number;
  /** Lines of this name are shown and hidden together, in all views of a chart. */
  readonly label: string;
  /** The number of its colour. */
  readonly color: number;
  readonly isDashed: boolean;
  readonly isBold: boolean;
}

/** What a live page is sent: the records that a run has made since. */
export interface LiveRecords {
  readonly run: number;
  readonly records: readonly PageRecord[];
}

/** A line of metrics.jsonl or performance.jsonl as the page's script takes it: not finite is null. */
export type PageRecord = Readonly<Record<string, number | null>>;
