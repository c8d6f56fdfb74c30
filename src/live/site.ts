import path from "node:path";
import type { Sweep } from "../config/sweep.ts";
import { InputError } from "../errors.ts";
import { html } from "../report/html.ts";
import { CHANGING_FILES, readRunFiles } from "../report/run-files.ts";
import { reportPage } from "../report/run-page.ts";
import { renderStatus } from "../report/runs-table.ts";
import type { Page } from "../report/shell.ts";
import { sweepPage } from "../report/sweep-page.ts";
import { readResults } from "../sweep/read-results.ts";
import { METRICS_FILE, PERFORMANCE_FILE } from "../train/run-folder.ts";
import { stampOf } from "./follow.ts";

/** What there is to see: one run, or the runs of a sweep. */
export type Shown =
  | { readonly kind: "run"; readonly folder: string }
  | { readonly kind: "sweep"; readonly sweep: Sweep };

/** A page that is shown while its runs go on. */
export interface LivePage {
  /** Its path, from the first slash on, percent-encoded. Its events are beside it. */
  readonly path: string;
  /** The files whose records the charts grow by, with the number that the run has in the page. */
  readonly followed: readonly FollowedFile[];
  /** The files that it is made of: as long as none of them changes it stays the same. */
  readonly files: readonly string[];
  readonly read: () => Promise<Page>;
}

export interface FollowedFile {
  readonly run: number;
  readonly path: string;
}

/** The pages of a run or of a sweep, the first one at `/`. */
export function pagesOf(shown: Shown): LivePage[] {
  if (shown.kind === "run") return [runPage("/", shown.folder)];
  const { sweep } = shown;
  const folders = sweep.runs.map(({ config }) => config.output_dir);
  return [
    {
      path: "/",
      followed: folders.map((folder, run) => ({ run, path: path.join(folder, METRICS_FILE) })),
      files: folders.flatMap(filesOf),
      read: async () =>
        sweepPage(await readResults(sweep), ({ name, status }) => (status === "pending" ? null : `.${pathOf(name)}`)),
    },
    ...sweep.runs.map(({ name, config }) => runPage(pathOf(name), config.output_dir)),
  ];
}

function runPage(pagePath: string, folder: string): LivePage {
  return {
    path: pagePath,
    followed: [METRICS_FILE, PERFORMANCE_FILE].map((name) => ({ run: 0, path: path.join(folder, name) })),
    files: filesOf(folder),
    read: async () => {
      const isBegun = (await Promise.all(filesOf(folder).map(stampOf))).some((stamp) => stamp !== "");
      try {
        return reportPage(await readRunFiles(folder));
      } catch (error) {
        if (isBegun || !(error instanceof InputError)) throw error;
        return pageOfNothing(folder);
      }
    },
  };
}

/** Of a run that has written nothing yet: it loads the model, or computes the reference. */
function pageOfNothing(folder: string): Page {
  const name = path.basename(path.resolve(folder));
  return {
    title: `${name}: dpo-train`,
    body: html`<h1>${name} ${renderStatus("pending")}</h1>
<p>The run has written nothing yet: this page fills by itself once training begins.</p>`,
  };
}

function pathOf(name: string): string {
  return `/${encodeURIComponent(name.replace(/\p{Surrogate}/gu, "\ufffd"))}/`;
}

function filesOf(folder: string): string[] {
  return CHANGING_FILES.map((name) => path.join(folder, name));
}
