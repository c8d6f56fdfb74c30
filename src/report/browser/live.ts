/// <reference lib="dom" />
/// <reference lib="dom.iterable" />
import type { LiveRecords } from "../page-data.ts";
import { data } from "./page.ts";
import { makeSortable, sortAs, sortingOf } from "./sorting.ts";

const STATES = {
  open: "live",
  lost: "no connection to the run: it may have been stopped; trying again",
  refused: "no connection to the run: load this page anew to try again",
  ended: "the run has ended: this is its last state",
} as const;

const connection = document.getElementById("connection")!;
const main = document.querySelector("main")!;
const events = new EventSource(data.events!);
/** What `main` is to hold, while the reader has selected something in it. */
let waiting: string | null = null;

function show(state: keyof typeof STATES): void {
  connection.dataset.state = state;
  connection.textContent = STATES[state];
}

events.addEventListener("open", () => show("open"));
// A browser tries again where nobody answers, and not where the answer is no stream of events.
events.addEventListener("error", () => show(events.readyState === EventSource.CLOSED ? "refused" : "lost"));
events.addEventListener("records", (event: MessageEvent<string>) => {
  const { run, records } = JSON.parse(event.data) as LiveRecords;
  globalThis.dpoTrainPage.receive(records, run);
});
events.addEventListener("main", (event: MessageEvent<string>) => {
  waiting = JSON.parse(event.data) as string;
  replaceMain();
});
// It has charts that this page lacks.
events.addEventListener("reload", () => location.reload());
events.addEventListener("end", () => {
  events.close();
  show("ended");
});
document.addEventListener("selectionchange", replaceMain);

/** Shows the text of the page as it is now. The charts, which have grown by themselves, stay the elements that they are. */
function replaceMain(): void {
  const selection = getSelection();
  if (waiting === null || (selection && !selection.isCollapsed && main.contains(selection.anchorNode))) return;
  const template = document.createElement("template");
  template.innerHTML = waiting;
  waiting = null;
  const content = document.importNode(template.content, true);
  for (const place of content.querySelectorAll("[data-kept]")) {
    const kept = document.getElementById(place.id);
    if (kept) place.replaceWith(kept);
  }
  const sortings = [...main.querySelectorAll<HTMLTableElement>("table.sortable")].map(sortingOf);
  const focused = document.activeElement;
  main.replaceChildren(content);
  for (const [i, table] of main.querySelectorAll<HTMLTableElement>("table.sortable").entries()) {
    makeSortable(table);
    const sorting = sortings[i];
    if (sorting) sortAs(table, sorting);
  }
  if (focused instanceof HTMLElement && main.contains(focused)) focused.focus({ preventScroll: true });
}
