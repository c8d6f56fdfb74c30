import { type Content, type Html, html } from "./html.ts";

export interface Column<Row> {
  readonly title: string;
  readonly isNumeric?: boolean;
  readonly cell: (row: Row) => Content;
  /** What the column is sorted by, null last; without it there is no button to do so. */
  readonly sortBy?: (row: Row) => string | number | null;
}

export interface Table<Row> {
  /** Says what it holds to those who do not see it. */
  readonly caption: string;
  readonly columns: readonly Column<Row>[];
  readonly rows: readonly Row[];
  readonly isMarked?: (row: Row) => boolean;
}

/** A table that scrolls by itself where it is wider than the page. Its first column names the rows. */
export function renderTable<Row>({ caption, columns, rows, isMarked = () => false }: Table<Row>): Html {
  const isSortable = columns.some(({ sortBy }) => sortBy);
  return html`<div class="scrolling" role="region" aria-label="${caption}" tabindex="0">
<table${isSortable && html` class="sortable"`}>
<thead><tr>${columns.map(renderHead)}</tr></thead>
<tbody>
${rows.map((row) => html`<tr${isMarked(row) && html` class="marked"`}>${columns.map((column, i) => renderCell(column, row, i === 0))}</tr>\n`)}</tbody>
</table>
</div>`;
}

function renderHead<Row>({ title, isNumeric, sortBy }: Column<Row>): Html {
  const label = sortBy ? html`<button type="button">${title}</button>` : title;
  return html`<th scope="col"${isNumeric && html` class="numeric" data-numeric`}>${label}</th>`;
}

function renderCell<Row>({ isNumeric, cell, sortBy }: Column<Row>, row: Row, isFirst: boolean): Html {
  const attributes = [isNumeric && html` class="numeric"`, sortBy && html` data-sort="${sortKey(sortBy(row))}"`];
  const content = cell(row);
  return isFirst ? html`<th scope="row"${attributes}>${content}</th>` : html`<td${attributes}>${content}</td>`;
}

function sortKey(value: string | number | null): string {
  return value === null || Number.isNaN(value) ? "" : String(value);
}

/** Names and what they stand for. Those without content are left out. */
export function renderFacts(facts: readonly (readonly [string, Content])[]): Html {
  const known = facts.filter(([, content]) => content !== null && content !== undefined && content !== "");
  return html`<dl class="facts">${known.map(([name, content]) => html`<div><dt>${name}</dt><dd>${content}</dd></div>\n`)}</dl>`;
}
