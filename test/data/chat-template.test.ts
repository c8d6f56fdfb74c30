import { afterEach, expect, test, vi } from "vitest";
import { compileChatTemplate } from "../../src/data/chat-template.ts";

const render = (template: string, ...contents: string[]): string =>
  compileChatTemplate(template, { bos_token: "<s>" }, "chat_template.jinja").render(
    contents.map((content) => ({ role: "user", content })),
    false,
  );
const TRIMMED = "{% for m in messages %}[{{ m['content'] | trim }}|{{ m.content.strip() }}]{% endfor %}";

afterEach(() => vi.useRealTimers());

test("trims what Python takes for white space, and only that", () => {
  expect(render(TRIMMED, " \t\n\u000b\u000c\r\u001c\u001d\u001e\u001f\u0085\u00a0\u3000x\u2028\u2029\u202f")).toBe(
    "[x|x]",
  );
  expect(render(TRIMMED, "\ufeffx\ufeff", "\u200bx\u180e")).toBe(
    "[\ufeffx\ufeff|\ufeffx\ufeff][\u200bx\u180e|\u200bx\u180e]",
  );
  expect(render(TRIMMED, "a\u0085b\u001c\u2000\ufdd0\ufeff")).toBe(
    "[a\u0085b\u001c\u2000\ufdd0\ufeff|a\u0085b\u001c\u2000\ufdd0\ufeff]",
  );
});

test("a template sees the special tokens, tools and documents that are none, and the usual globals", () => {
  const isTrue = (condition: string): boolean => render(`{% if ${condition} %}yes{% endif %}`) === "yes";
  for (const condition of [
    "tools is defined",
    "tools is none",
    "documents == None",
    "True",
    "not false",
    "not False",
  ]) {
    expect(isTrue(condition), condition).toBe(true);
  }
  expect(isTrue("pad_token is defined")).toBe(false);
  expect(render("{{ bos_token }}")).toBe("<s>");
  expect(render("{% for i in range(3) %}{{ i }}{% endfor %};{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}")).toBe(
    "012;531",
  );
});

test("blocks take their line with them, and one line end at the end of the template goes", () => {
  expect(render("{% if true %}\n  a\n    {% endif %}\nb\n\n")).toBe("  a\nb\n");
});

test("dates are English, whatever the machine's language", () => {
  vi.useFakeTimers({ now: new Date(2024, 4, 7, 9, 5, 3) });
  expect(render("{{ strftime_now('%d %b %Y, %A %B %a %H:%M:%S %m %%') }}")).toBe(
    "07 May 2024, Tuesday May Tue 09:05:03 05 %",
  );
  expect(() => render("{{ strftime_now('%Q') }}")).toThrow("the date format %Q is not supported");
});
