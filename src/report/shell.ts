import { createHash } from "node:crypto";
import { browserCode } from "./browser-code.ts";
import { type Content, html, jsonForScript, trustedHtml } from "./html.ts";
import type { PageData } from "./page-data.ts";
import { PAGE_STYLES } from "./styles.ts";

export interface Page {
  readonly title: string;
  /** What stands in `main`, from an h1 on. */
  readonly body: Content;
  /** The lines of the charts in `body`. */
  readonly data?: PageData;
  /** When the page was made. */
  readonly now?: Date;
  /** The address that the page hears of new records from, of the server that it comes from. A page on a disk asks nobody. */
  readonly events?: string;
}

const NO_DATA: PageData = { steps: [], series: [], charts: [] };

/**
 * A whole page in one file: no network, nothing that runs or styles it but what is allowed by its hash. Readable on a
 * phone, in light and dark, and printed.
 */
export function renderPage({ title, body, data = NO_DATA, now = new Date(), events }: Page): string {
  const isLive = events !== undefined;
  const code = browserCode(isLive);
  const styles = `${code.styles}\n${PAGE_STYLES}`;
  const policy = [
    "default-src 'none'",
    `script-src ${code.scripts.map(hashSource).join(" ")}`,
    `style-src ${hashSource(styles)}`,
    ...(isLive ? ["connect-src 'self'"] : []),
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
  const [library, script] = code.scripts.map(trustedHtml);
  const made = now.toISOString();
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
${trustedHtml(GENERATOR_TAG)}
<title>${title}</title>
<style>${trustedHtml(styles)}</style>
</head>
<body>
${isLive && html`<p id="connection" role="status">connecting</p>`}
<main>
${body}
</main>
<footer>Made by dpo-train, <time datetime="${made}">${made.slice(0, 16).replace("T", " ")} UTC</time></footer>
<script type="application/json" id="page-data">${jsonForScript({ ...data, ...(isLive && { events }) })}</script>
<script>${library}</script>
<script type="module">${script}</script>
</body>
</html>
`.markup;
}

/** What stands in `main` of a page. */
export function renderMain({ body }: Page): string {
  return html`${body}`.markup;
}

/** By which a page is known as one of ours. */
export const GENERATOR_TAG = '<meta name="generator" content="dpo-train">';

function hashSource(text: string): string {
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
}
