/** How the rows of a table are sorted. */
export interface Sorting {
  readonly column: number;
  readonly isAscending: boolean;
}

/** Makes the buttons in the heads of a table's columns sort its rows: up, then down. */
export function makeSortable(table: HTMLTableElement): void {
  for (const [column, head] of headsOf(table).entries()) {
    head.querySelector("button")?.addEventListener("click", () => {
      sortAs(table, { column, isAscending: head.getAttribute("aria-sort") !== "ascending" });
    });
  }
}

/** What the reader has chosen; null where nothing yet. */
export function sortingOf(table: HTMLTableElement): Sorting | null {
  const column = headsOf(table).findIndex((head) => head.hasAttribute("aria-sort"));
  if (column === -1) return null;
  return { column, isAscending: headsOf(table)[column]!.getAttribute("aria-sort") === "ascending" };
}

export function sortAs(table: HTMLTableElement, { column, isAscending }: Sorting): void {
  const heads = headsOf(table);
  const head = heads[column];
  if (!head) return;
  for (const other of heads) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", isAscending ? "ascending" : "descending");
  sortRows(table, column, head.dataset.numeric !== undefined, isAscending);
}

function headsOf(table: HTMLTableElement): HTMLTableCellElement[] {
  return [...table.querySelectorAll<HTMLTableCellElement>("thead th")];
}

function sortRows(table: HTMLTableElement, column: number, isNumeric: boolean, isAscending: boolean): void {
  const body = table.tBodies[0];
  if (!body) return;
  const keyOf = (row: HTMLTableRowElement) => row.cells[column]?.dataset.sort ?? "";
  const compare = isNumeric ? (a: string, b: string) => Number(a) - Number(b) : compareTexts;
  const rows = [...body.rows].sort((a, b) => {
    const [keyA, keyB] = [keyOf(a), keyOf(b)];
    // What is missing comes last, both ways.
    if (keyA === "" || keyB === "") return Number(keyA === "") - Number(keyB === "");
    return isAscending ? compare(keyA, keyB) : compare(keyB, keyA);
  });
  body.append(...rows);
}

/** `run-2` before `run-10`. */
function compareTexts(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}
