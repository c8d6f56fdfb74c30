import { type Content, type Html, html } from "./html.ts";

export interface Card {
  readonly name: string;
  readonly content: Content;
  /** For more than a number. */
  readonly isWide?: boolean;
}

/** A few values in large, each under its name. Those that are null are left out. */
export function renderCards(cards: readonly (Card | null)[]): Html {
  const known = cards.filter((card) => card !== null);
  return html`<dl class="cards">${known.map(({ name, content, isWide }) => html`<div${isWide && html` class="wide"`}><dt>${name}</dt><dd>${content}</dd></div>\n`)}</dl>`;
}
