import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { extname } from "node:path";

const require = createRequire(import.meta.url);

/** The modules of the pages' script, each after those that it imports. A name is at the top of one of them only. */
const MODULES = ["numbers", "palette", "store", "sorting", "smoothing", "legend", "chart", "page"];
/** What a page has besides that hears of new records. */
const LIVE_MODULES = ["live"];

export interface BrowserCode {
  readonly scripts: readonly string[];
  readonly styles: string;
}

const loaded = new Map<boolean, BrowserCode>();

/**
 * What the pages run: uPlot, then our own script, a JavaScript module. Both are written into the page, which is to work
 * from a disk, without a server, for good.
 *
 * @param isLive with what a page needs that a server sends new records to
 */
export function browserCode(isLive = false): BrowserCode {
  const known = loaded.get(isLive);
  if (known) return known;
  const script = [...MODULES, ...(isLive ? LIVE_MODULES : [])].map(moduleSource).join("\n");
  const code = {
    scripts: [packageFile("uplot/dist/uPlot.iife.min.js"), script].map(requireInlinable),
    styles: packageFile("uplot/dist/uPlot.min.css"),
  };
  loaded.set(isLive, code);
  return code;
}

function packageFile(name: string): string {
  return readFileSync(require.resolve(name), "utf8");
}

/** A module's statements without imports and exports: the modules stand one behind the other. */
function moduleSource(name: string): string {
  // As this module itself: compiled, or where TypeScript runs as it stands.
  const extension = extname(import.meta.url);
  const source = readFileSync(new URL(`./browser/${name}${extension}`, import.meta.url), "utf8");
  const script = extension === ".ts" ? withoutTypes(source) : source;
  return script.replace(/^import\b[^;]*;\n/gm, "").replace(/^export (?=\w)/gm, "");
}

/** For tests and development, where esbuild is there. */
function withoutTypes(source: string): string {
  const { transformSync } = require("esbuild") as typeof import("esbuild");
  return transformSync(source, { loader: "ts", target: "es2023" }).code;
}

function requireInlinable(script: string): string {
  if (/<\/script|<!--/i.test(script)) throw new Error("internal: a script of the pages would end its element");
  return script;
}
