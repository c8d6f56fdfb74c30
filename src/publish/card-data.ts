import { isRepositoryName } from "../hub/repository-name.ts";
import { formatPercent } from "../report/percent.ts";
import type { RunFiles } from "../report/run-files.ts";
import { isTree, numberAt, textAt, valueAt } from "../train/json-tree.ts";
import { table } from "./markdown.ts";

type Run = Pick<RunFiles, "run" | "config">;
type DataKey = "dataset" | "eval_dataset";

/** The data sets of the Hub that a run has read, each once. Files of this machine have no name for others. */
export function dataRepositories(run: Run): string[] {
  const names = (["dataset", "eval_dataset"] as const).map((key) => repositoryOf(run, key));
  return [...new Set(names.filter((name) => name !== null))];
}

function repositoryOf({ run }: Run, key: DataKey): string | null {
  const name = textAt(run, "data", key, "repository");
  return name !== null && isRepositoryName(name) ? name : null;
}

/** What the model has learnt from, and been measured on. */
export function dataSection(files: Run): string {
  const { run, config } = files;
  const heldOut = numberAt(config, "test_size");
  const rows = [
    ["training", nameOf(files, "dataset"), ...countsOf(run, "train")],
    ...(isTree(valueAt(run, "data", "evaluation"))
      ? [
          [
            "evaluation",
            heldOut === null ? nameOf(files, "eval_dataset") : `${formatPercent(heldOut)} of the same, held out`,
            ...countsOf(run, "evaluation"),
          ],
        ]
      : []),
  ];
  return ["## Data", table(["", "data set", "pairs", "chosen answer is longer"], rows), hashes(files)]
    .filter((part) => part !== "")
    .join("\n\n");
}

function nameOf(files: Run, key: DataKey): string {
  const name = repositoryOf(files, key);
  if (name === null) return "not published";
  const commit = textAt(files.run, "data", key, "commit");
  const at = commit !== null && /^[0-9a-f]{40}$/.test(commit) ? ` at \`${commit.slice(0, 12)}\`` : "";
  return `[${name}](https://huggingface.co/datasets/${name})${at}`;
}

function countsOf(run: RunFiles["run"], set: "train" | "evaluation"): string[] {
  const kept = numberAt(run, "data", set, "rows", "kept");
  const longer = numberAt(run, "data", set, "chosenLongerShare");
  return [kept === null ? "" : String(kept), longer === null ? "" : `in ${formatPercent(longer)} of them`];
}

/** More would be a list of shards. */
const MAX_HASHES = 4;

/** By which the owner of data that is not published can tell it apart. Its files' names stay here. */
function hashes(files: Run): string {
  if (repositoryOf(files, "dataset") !== null) return "";
  const found = valueAt(files.run, "sha256", "data");
  const all = isTree(found) ? Object.values(found) : [];
  const known = all.filter((hash) => typeof hash === "string" && /^[0-9a-f]{64}$/.test(hash));
  if (known.length === 0 || known.length > MAX_HASHES) return "";
  return `SHA-256 of the files: ${known.map((hash) => `\`${hash}\``).join(", ")}.`;
}
