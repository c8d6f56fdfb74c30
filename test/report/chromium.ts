import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { onTestFinished } from "vitest";
import { temporaryFolder } from "../weights/fixtures.ts";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** The browser that the tests of the pages run in; undefined where there is none. */
export const CHROMIUM = process.env.CHROMIUM ?? PLACES.find((place) => existsSync(place));

if (!CHROMIUM) {
  console.warn(
    "no Chromium is installed: the tests of the pages in a browser are left out (apt-get install chromium, or name one in CHROMIUM)",
  );
}

export async function startChromium(): Promise<Browser> {
  return chromium.launch({ executablePath: CHROMIUM!, args: ["--no-sandbox"] });
}

export interface OpenedPage {
  readonly page: Page;
  /** What went wrong in it: errors of scripts, on the console, of the policy, and requests to anywhere. */
  readonly faults: readonly string[];
}

/** Opens a page from a file, as its users do. */
export async function openPage(
  browser: Browser,
  text: string,
  options: BrowserContextOptions = {},
): Promise<OpenedPage> {
  const file = join(await temporaryFolder(), "page.html");
  await writeFile(file, text);
  return openUrl(browser, pathToFileURL(file).href, options);
}

/** Opens a page that may ask the server that it comes from, and nobody else. */
export async function openUrl(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<OpenedPage> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  onTestFinished(() => context.close());
  const page = await context.newPage();
  const faults: string[] = [];
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") faults.push(`console: ${message.text()}`);
  });
  page.on("dialog", (dialog) => {
    faults.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  const isOwn = (asked: string) =>
    asked === url || (url.startsWith("http:") && asked.startsWith(new URL("/", url).href));
  page.on("request", (request) => {
    if (!isOwn(request.url())) faults.push(`request: ${request.url()}`);
  });
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) =>
      console.error(`policy: ${event.violatedDirective}`),
    );
  });
  await page.goto(url);
  return { page, faults };
}
