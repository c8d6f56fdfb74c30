import { readdir } from "node:fs/promises";
import { join, resolve, sep } from "node:path";
import { list } from "../config/words.ts";
import { InputError } from "../errors.ts";
import { fileSizeBytes } from "../hub/cache.ts";
import { type ChooseFiles, type DatasetSnapshot, resolveDataset } from "../hub/dataset.ts";
import { RevisionNotFound } from "../hub/download-failures.ts";
import { expandHome } from "../hub/environment.ts";
import { type HubReference, localKind, parseHubReference, type ResolveOptions } from "../hub/resolve.ts";
import { printable } from "../text.ts";
import { fileError, readTextFile } from "../weights/regular-file.ts";
import { type DataFile, READ_FORMATS } from "./data-file.ts";
import { filesOfSplit, findSplits, type RepositoryFiles } from "./split-files.ts";

/** What names a data set: `dataset:` or `eval_dataset:`, with the keys that go with it. */
export interface DatasetReference {
  /** Where it is written, as messages begin. */
  readonly key: string;
  readonly reference: string;
  /** The configuration, or where the data set has none the folder; undefined for the default one. */
  readonly config: string | undefined;
  /** Undefined where it was not said: then it is `defaultSplit`. */
  readonly split: string | undefined;
  /** The key that says the split. */
  readonly splitKey: string;
  readonly defaultSplit: string;
}

export interface DatasetFiles {
  /** In the order in which they are read. */
  readonly files: readonly DataFile[];
  /** Named as such, so that there is no configuration to choose. */
  readonly isOneFile: boolean;
  /** Undefined for local files. */
  readonly hub: { readonly repository: string; readonly revision: string; readonly commit: string } | undefined;
}

/** The branch on which the Hub keeps every data set that it can read as Parquet: `config/split/0000.parquet`. */
const PARQUET_REVISION = "refs/convert/parquet";
const CONVERTED = /^([^/]+)\/(?:partial-)?([^/]+)\/\d+\.parquet$/;
const MAX_README_BYTES = 16 * 2 ** 20;

/**
 * Finds the files of a data set: a file, a folder, or a split of a data set on the Hub (`owner/name`,
 * `owner/name@revision`), from the cache or downloaded into it. Which files make a split is as in `datasets`. Where a
 * repository has no file that we read, it is the Hub's own conversion to Parquet.
 *
 * @throws InputError, a sentence with the remedy, for whatever keeps the files from being there; the signal's reason when
 *   it is aborted
 */
export async function findDatasetFiles(dataset: DatasetReference, options: ResolveOptions = {}): Promise<DatasetFiles> {
  const { key, reference, split, splitKey } = dataset;
  const local = expandHome(reference, options.env ?? process.env);
  const kind = await localKind(local);
  if (kind === "folder") return { files: await localFiles(local, dataset), isOneFile: false, hub: undefined };
  if (kind === "file") {
    if (split !== undefined) {
      throw new InputError(
        `${key} "${printable(reference)}" is one file, which ${splitKey} cannot choose from: remove ${splitKey}`,
      );
    }
    return { files: [{ path: local, name: printable(reference) }], isOneFile: true, hub: undefined };
  }
  return hubFiles(parseHubReference(reference, key, "dataset"), dataset, options);
}

async function localFiles(folder: string, dataset: DatasetReference): Promise<DataFile[]> {
  const { key, reference, config, split, splitKey, defaultSplit } = dataset;
  const subject = `${key} "${printable(reference)}"`;
  const paths = await listFolder(folder);
  const readme = paths.includes("README.md")
    ? await readTextFile(join(folder, "README.md"), MAX_README_BYTES)
    : undefined;
  const found = findSplits({ paths, readme }, config, subject);
  if (!found) throw nothingToRead(subject, paths);
  // A folder whose names tell no split is one set of rows, whatever it is used for.
  const files =
    split === undefined && !found.areNamed
      ? [...found.splits.values()].flat()
      : filesOfSplit(found, split ?? defaultSplit, splitKey, subject);
  return files.map((path) => ({ path: join(folder, path), name: printable(join(reference, path)) }));
}

/** Every file in a folder and those below it, relative to it, with "/". */
async function listFolder(folder: string): Promise<string[]> {
  try {
    const names = await readdir(folder, { recursive: true });
    const isFile = await Promise.all(
      names.map(async (name) => (await fileSizeBytes(join(folder, name))) !== undefined),
    );
    return names.filter((_, i) => isFile[i]).map((name) => name.split(sep).join("/"));
  } catch (error) {
    throw fileError(resolve(folder), "list", error);
  }
}

async function hubFiles(
  reference: HubReference,
  { key, config, split, splitKey, defaultSplit }: DatasetReference,
  options: ResolveOptions,
): Promise<DatasetFiles> {
  const { repo, revision } = reference;
  const subject = `${key} ${repo.name}`;
  const wanted = split ?? defaultSplit;
  const choose = (listing: RepositoryFiles) => {
    const found = findSplits(listing, config, subject);
    return found && filesOfSplit(found, wanted, splitKey, subject);
  };
  const original = await resolveDataset(reference, subject, choose, options);
  const snapshot =
    original.files === undefined && revision === "main"
      ? await convertedSnapshot(
          repo.name,
          subject,
          (listing) => convertedFiles(listing, config, wanted, splitKey, subject),
          options,
        )
      : original;
  if (snapshot?.files === undefined) throw nothingToRead(subject, original.paths);
  return {
    files: snapshot.files.map((path) => ({
      path: join(snapshot.folder, path),
      name: printable(`${repo.name}/${path}`),
    })),
    isOneFile: false,
    hub: {
      repository: repo.name,
      revision: snapshot === original ? revision : PARQUET_REVISION,
      commit: snapshot.commit,
    },
  };
}

/** Undefined where the Hub has converted nothing. */
async function convertedSnapshot(
  name: string,
  subject: string,
  choose: ChooseFiles,
  options: ResolveOptions,
): Promise<DatasetSnapshot | undefined> {
  try {
    return await resolveDataset(
      { repo: { type: "dataset", name }, revision: PARQUET_REVISION },
      subject,
      choose,
      options,
    );
  } catch (error) {
    if (error instanceof RevisionNotFound) return undefined;
    throw error;
  }
}

/** The files of a split on the branch of conversions, in order. */
function convertedFiles(
  { paths }: RepositoryFiles,
  config: string | undefined,
  split: string,
  splitKey: string,
  subject: string,
): readonly string[] | undefined {
  const configs = new Map<string, Map<string, string[]>>();
  for (const path of [...paths].sort()) {
    const [, ofConfig, ofSplit] = CONVERTED.exec(path) ?? [];
    if (ofConfig === undefined || ofSplit === undefined) continue;
    const splits = configs.get(ofConfig) ?? new Map<string, string[]>();
    configs.set(ofConfig, splits.set(ofSplit, [...(splits.get(ofSplit) ?? []), path]));
  }
  if (configs.size === 0) return undefined;
  const only = configs.size === 1 ? [...configs.keys()][0]! : "default";
  const splits = configs.get(config ?? only);
  if (splits) return filesOfSplit({ splits, areNamed: true }, split, splitKey, subject);
  const names = list(
    [...configs.keys()].map((name) => printable(name, 60)),
    "or",
  );
  throw new InputError(
    config === undefined
      ? `${subject} has several configurations and no default: set dataset_config to ${names}`
      : `${subject} has no configuration "${printable(config)}": set dataset_config to ${names}`,
  );
}

function nothingToRead(subject: string, paths: readonly string[]): InputError {
  const shown = paths.filter((path) => !/(^|\/)(\.[^/]*|README\.md)$/.test(path)).slice(0, 5);
  return new InputError(
    `${subject} holds no ${READ_FORMATS}; it has ${printable(shown.join(", ")) || "no files"}: ` +
      'convert it in Python with datasets.load_dataset(…, split="train").to_json("rows.jsonl"), and give that file',
  );
}
