import { describe, expect, it } from "vitest";
import { type Content, html, jsonForScript, trustedHtml } from "../../src/report/html.ts";

describe("html", () => {
  it("escapes every text that is put in, in elements and in attributes", () => {
    const text = `</p><script>alert("1")</script>&'`;
    expect(html`<p title="${text}">${text}</p>`.markup).toBe(`<p title="${escaped}">${escaped}</p>`);
  });

  const escaped = "&lt;/p&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;";

  it("shows control and bidirectional characters, and keeps lines, tabs and joined emoji", () => {
    expect(html`${"a\u202eb\u0000c\u001b[31m\u0085"}`.markup).toBe("a\\u202eb\\u0000c\\u001b[31m\\u0085");
    expect(html`${"a\n\tb 👩‍💻 שלום"}`.markup).toBe("a\n\tb 👩‍💻 שלום");
  });

  it("takes markup, lists and numbers as they are, and nothing for what is not there", () => {
    const items: Content = ["<", 1.5, html`<b>${"&"}</b>`, null, undefined, false, [trustedHtml("<i>")]];
    expect(html`[${items}]`.markup).toBe("[&lt;1.5<b>&amp;</b><i>]");
  });
});

it("JSON in a script element cannot end it, and reads back the same", () => {
  const data = { text: "</script><!-- <script>\u2028" };
  const { markup } = jsonForScript(data);
  expect(markup).not.toContain("<");
  expect(JSON.parse(markup)).toEqual(data);
});
