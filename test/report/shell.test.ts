import { createHash } from "node:crypto";
import { Script } from "node:vm";
import { describe, expect, it } from "vitest";
import { html } from "../../src/report/html.ts";
import { renderPage } from "../../src/report/shell.ts";

const page = renderPage({ title: "<a title>", body: html`<h1>A page</h1>`, now: new Date("2026-11-21T13:30:00Z") });
const policy = /Content-Security-Policy" content="([^"]+)"/.exec(page)![1]!.replaceAll("&#39;", "'");
const inlined = (tag: string) =>
  [...page.matchAll(new RegExp(`<${tag}(?: type="module")?>(.*?)</${tag}>`, "gs"))].map(([, text]) => text!);
const hashOf = (text: string) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

describe("a page", () => {
  it("allows by its policy what is written into it, by hash, and nothing else", () => {
    const [scripts, styles] = [inlined("script"), inlined("style")];
    expect([scripts.length, styles.length]).toEqual([2, 1]);
    expect(policy.split("; ")).toEqual([
      "default-src 'none'",
      `script-src ${scripts.map(hashOf).join(" ")}`,
      `style-src ${styles.map(hashOf).join(" ")}`,
      "base-uri 'none'",
      "form-action 'none'",
    ]);
  });

  it("may ask its server only where it has one", () => {
    expect(renderPage({ title: "", body: "", events: "./events" })).toContain("connect-src &#39;self&#39;");
  });

  it("is one file with its scripts in full, which need nothing from elsewhere", () => {
    const [library, script] = inlined("script");
    expect(library).toMatch(/^\/\*! https:\/\/github.com\/leeoniya\/uPlot /);
    expect(script).not.toMatch(/^\s*(import|export)\b/m);
    for (const text of [library, script]) expect(() => new Script(`(() => {${text}})`)).not.toThrow();
    expect(page.replaceAll(library!, "")).not.toMatch(/https?:/);
  });

  it("says when it was made, and escapes its title", () => {
    expect(page).toContain('<time datetime="2026-11-21T13:30:00.000Z">2026-11-21 13:30 UTC</time>');
    expect(page).toContain("<title>&lt;a title&gt;</title>");
  });
});
