import { describe, expect, it } from "vitest";
import { findContamination } from "../../src/data/inspect/contamination.ts";
import { type InspectionReport, inspectRows } from "../../src/data/inspect/inspect.ts";
import { findConcerns } from "../../src/data/inspect/inspect-text.ts";
import { readPreferenceRows } from "../../src/data/rows.ts";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { renderDataPage } from "../../src/report/data-page.ts";
import { jsonlFile, TWIN_TINY } from "../data/folders.ts";
import { accessibilityFaults } from "./axe.ts";
import { CHROMIUM, openPage, startChromium } from "./chromium.ts";

const HOSTILE = `</script><script>alert(1)</script><img src=x onerror=alert(2)>"'>\u202eevil\u0000\u001b[2J`;

async function report(withTokens: boolean): Promise<InspectionReport> {
  const rows = await readPreferenceRows(
    await jsonlFile([
      { prompt: HOSTILE, chosen: `${HOSTILE} and more`, rejected: HOSTILE },
      { prompt: "p", chosen: "Привет, мир", rejected: "" },
      { prompt: "p", chosen: "same", rejected: "same" },
    ]),
  );
  const counting = withTokens
    ? ({ tokenizer: await loadTokenizer(TWIN_TINY), promptTemplate: "none", maxLength: 1024 } as const)
    : null;
  const train = inspectRows(rows, counting);
  const contamination = findContamination(rows, rows);
  const concerns = findConcerns(train, contamination);
  return { dataset: HOSTILE, train, evaluation: train, contamination, concerns };
}

describe("the page of an inspection", () => {
  it.each([true, false])("shows what was found (with tokens: %s), and no text of the data acts", async (withTokens) => {
    const page = renderDataPage(await report(withTokens), new Date(0));
    expect(page).toContain("<h2>Training data</h2>");
    expect(page).toContain("<h2>Test data that is in the training data</h2>");
    expect(page).toContain(`<h3>Lengths in ${withTokens ? "tokens" : "characters"}</h3>`);
    expect(page).toContain("1 pairs have two equal answers and teach nothing: remove them");
    expect(page).toContain("terminal escape sequences");
    expect(page).not.toContain("<script>alert");
    expect(page).not.toContain("<img src=x");
    // biome-ignore lint/suspicious/noControlCharactersInRegex: none is to come through.
    expect(page).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u202e]/);
  });

  it("of data without anything to say about is a page too", async () => {
    const rows = await readPreferenceRows(await jsonlFile([{ prompt: "p", chosen: "good", rejected: "evil" }]));
    const train = inspectRows(rows, null);
    const page = renderDataPage({ dataset: "d", train, evaluation: null, contamination: null, concerns: [] });
    expect(page).toContain("<p>Nothing.</p>");
    expect(page).toContain("<h2>The rows</h2>");
    expect(page).not.toContain("Test data");
  });

  it.skipIf(!CHROMIUM)("opens in Chromium without faults, and axe finds nothing", async () => {
    const browser = await startChromium();
    try {
      for (const colorScheme of ["light", "dark"] as const) {
        const { page, faults } = await openPage(browser, renderDataPage(await report(true)), { colorScheme });
        expect(faults).toEqual([]);
        expect(await accessibilityFaults(page)).toEqual([]);
        await page.close();
      }
    } finally {
      await browser.close();
    }
  });
});
