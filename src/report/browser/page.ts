/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
import type { PageData, PageRecord } from "../page-data.ts";
import { type Chart, createChart } from "./chart.ts";
import { makeSortable } from "./sorting.ts";
import { createStore } from "./store.ts";

/** What other scripts, and tests, reach the page by. */
interface PageHandle {
  /** By the ids of their figures. */
  readonly charts: ReadonlyMap<string, Chart>;
  /** Shows records that a run has made since the page was written. */
  readonly receive: (records: readonly PageRecord[], run?: number) => void;
}

declare global {
  var dpoTrainPage: PageHandle;
}

export const data = JSON.parse(document.getElementById("page-data")?.textContent ?? "") as PageData;
const store = createStore(data);
const charts = new Map<string, Chart>();
for (const chart of data.charts) {
  const figure = document.getElementById(chart.id);
  if (figure) charts.set(chart.id, createChart(figure, chart, store.series));
}
for (const table of document.querySelectorAll<HTMLTableElement>("table.sortable")) makeSortable(table);

const smoothing = document.querySelector<HTMLInputElement>("#smoothing");
const applySmoothing = () => {
  for (const chart of charts.values()) chart.smooth(Number(smoothing?.value));
};
smoothing?.addEventListener("input", applySmoothing);
if (Number(smoothing?.value) > 0) applySmoothing(); // Browsers keep it over a reload.

const grown = new Set<number>();

globalThis.dpoTrainPage = {
  charts,
  receive: (records, run = 0) => {
    if (grown.size === 0) requestAnimationFrame(showGrown);
    for (const record of records) for (const series of store.add(record, run)) grown.add(series);
  },
};

function showGrown(): void {
  for (const chart of charts.values()) chart.update(grown);
  grown.clear();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts.values()) chart.recolor();
});
