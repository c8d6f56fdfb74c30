import { type Html, html } from "./html.ts";
import type { ChartData } from "./page-data.ts";

/** What stands around a chart. */
export interface FigureText {
  readonly title: string;
  /** One line on how to read it. */
  readonly reading?: string;
  readonly isTall?: boolean;
}

/** The place of a chart in a page, which the page's script fills. */
export function renderFigure({ id, views }: ChartData, { title, reading, isTall = false }: FigureText): Html {
  const choice = html`<label class="choice">Show <select>${views.map(({ label }, i) => html`<option value="${i}">${label}</option>`)}</select></label>`;
  return html`<figure class="chart" id="${id}" data-kept>
<figcaption><h3>${title}</h3>${reading && html`<p class="reading">${reading}</p>`}</figcaption>
${views.length > 1 && choice}
<div class="plot${isTall && " tall"}" role="img" aria-label="${title}"></div>
<div class="legend${isTall && " tall"}" role="group" aria-label="${`Lines of ${title}`}"></div>
</figure>
`;
}

/** What smooths the lines of training in all charts of a page. */
export function renderSmoothing(): Html {
  return html`<label class="choice" id="smoothing-choice" data-kept>Smoothing of training <input type="range" id="smoothing" min="0" max="0.99" step="0.01" value="0"></label>\n`;
}
