import { type Content, type Html, html } from "./html.ts";

/** A few values in large, each under its name. Those that are null are left out. */
export function renderCards(cards: readonly (readonly [string, Content] | null)[]): Html {
  const known = cards.filter((card) => card !== null);
  return html`<dl class="cards">${known.map(([name, content]) => html`<div><dt>${name}</dt><dd>${content}</dd></div>\n`)}</dl>`;
}
