import { printableLines } from "../text.ts";

/** Markup: every text in it has been escaped. */
export interface Html {
  readonly markup: string;
}

/** What a template takes. A text is escaped; null, undefined and false leave nothing. */
export type Content = Html | string | number | null | undefined | false | readonly Content[];

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/**
 * A template of markup: html`<p title="${name}">${text}</p>`. Attributes must stand in double quotes. Of a text that is
 * put in nothing acts: markup is escaped, and control and bidirectional characters are shown by their escapes (`\u202e`).
 */
export function html(strings: TemplateStringsArray, ...contents: readonly Content[]): Html {
  return { markup: strings.map((markup, i) => (i === 0 ? markup : markupOf(contents[i - 1]) + markup)).join("") };
}

/** Markup that is safe as it stands: never of anything that came from outside. */
export function trustedHtml(markup: string): Html {
  return { markup };
}

function markupOf(content: Content): string {
  if (content === null || content === undefined || content === false) return "";
  if (typeof content === "string") return escapeHtml(content);
  if (typeof content === "number") return String(content);
  if (isList(content)) return content.map(markupOf).join("");
  return content.markup;
}

function isList(content: Html | readonly Content[]): content is readonly Content[] {
  return Array.isArray(content);
}

function escapeHtml(text: string): string {
  return printableLines(text).replace(/[&<>"']/g, (character) => ENTITIES[character]!);
}

/** Data as JSON that can stand in a script element: nothing in it ends the element or opens a comment. */
export function jsonForScript(data: unknown): Html {
  return { markup: JSON.stringify(data).replaceAll("<", "\\u003c") };
}
