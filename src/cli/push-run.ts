import type { PushedPart } from "../config/names.ts";
import type { Config } from "../config/schema.ts";
import { ExpectedError, InputError } from "../errors.ts";
import { type Environment, expandHome, hubEndpoint } from "../hub/environment.ts";
import { DEFAULT_TIMING, type RetryTiming } from "../hub/http.ts";
import { connectToPush, type PushTarget, UnreachableError } from "../hub/push-connection.ts";
import { localKind } from "../hub/resolve.ts";
import { requireWriteAccess } from "../hub/write-access.ts";
import { type Publication, preparePublication, push } from "../publish/publication.ts";
import { quote } from "../sweep/executors/shell.ts";
import type { Terminal } from "../terminal.ts";
import { formatSize, printable } from "../text.ts";
import { readEnvironment } from "../track/environment.ts";
import { formatShare } from "../train/progress.ts";

/** Where the config wants a finished run to go. */
export interface PushSettings extends PushTarget {
  readonly what: PushedPart;
  readonly baseModel: string | null;
}

/** What the config says of pushing; null where it wants none. */
export function pushSettings({
  push_to_hub,
  export: merging,
}: Pick<Config, "push_to_hub" | "export">): PushSettings | null {
  const { repo, what, private: isPrivate, revision, base_model } = push_to_hub;
  if (repo === undefined) return null;
  return {
    repository: repo,
    revision,
    isPrivate,
    what: what ?? (merging.merged_16bit ? "merged" : "adapter"),
    baseModel: base_model ?? null,
  };
}

/** `merged/ to https://huggingface.co/ada/llama-dpo (private)` */
export function describePush({ what, repository, revision, isPrivate }: PushSettings, env: Environment): string {
  const branch = revision === "main" ? "" : `, branch ${revision}`;
  return `${what}/ to ${hubEndpoint(env)}/${repository} (${isPrivate ? "private" : "public"}${branch})`;
}

/** Where a config names the repository. */
const PLACE = "push_to_hub";

/** Before a run there is no need to wait long: it goes on without the Hub. */
const QUICK: RetryTiming = { ...DEFAULT_TIMING, attempts: 3, maxWaitMs: 10_000, silenceMs: 15_000 };

/**
 * Asks before a run for what a push at its end needs: a token, and the right to write there. Where the Hub does not answer,
 * that is told, and asked again at the end.
 *
 * @param config of a run, or of a sweep's
 * @param models of the runs
 * @param subject `the run`
 * @throws InputError where the push would be refused
 */
export async function checkPush(
  config: Pick<Config, "push_to_hub" | "export">,
  models: readonly string[],
  subject: string,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const settings = pushSettings(config);
  if (settings === null) return;
  const env = readEnvironment();
  for (const model of models) await requireFindableBase(settings, model, env);
  const connection = await connectToPush(settings, PLACE, { env, timing: QUICK, signal });
  try {
    await requireWriteAccess(connection, settings);
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof UnreachableError)) throw error;
    terminal.line(`note: ${error.message}: whether the model may be pushed is asked at the end`);
  }
  terminal.line(`${subject} will push ${describePush(settings, env)}`);
}

/** Others find no folder of this machine. */
async function requireFindableBase({ what, baseModel }: PushSettings, model: string, env: Environment): Promise<void> {
  if (what === "merged" || baseModel !== null) return;
  if ((await localKind(expandHome(model, env))) === undefined) return;
  throw new InputError(
    `push_to_hub: an adapter of ${printable(model)}, a folder of this machine, is of use to others only with its base: name that one's Hub id in push_to_hub.base_model, or push the merged model (push_to_hub.what: merged)`,
  );
}

/**
 * Pushes a run that is done, where its config asks for it.
 * @throws ExpectedError that says also what is left, and how it is sent
 */
export async function pushWhenDone(
  config: Pick<Config, "push_to_hub" | "export">,
  folder: string,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const settings = pushSettings(config);
  if (settings === null) return;
  try {
    await pushFolder({ folder, ...settings }, PLACE, readEnvironment(), terminal, signal);
  } catch (error) {
    if (!(error instanceof ExpectedError)) throw error;
    const what = error.exitCode >= 128 ? "interrupted while its model was sent" : error.message;
    const text = `the run is done and ${printable(folder, 1000)} holds it, but it is not on the Hub: ${what}; ${pushCommand(settings, folder)} sends what has not arrived`;
    throw new ExpectedError(text, error.exitCode, { cause: error });
  }
}

/** By which a user pushes the same. */
export function pushCommand(
  { repository, what, isPrivate, revision, baseModel }: PushSettings,
  folder: string,
): string {
  const options = [
    `--to ${repository} --what ${what}`,
    ...(isPrivate ? [] : ["--public"]),
    ...(revision === "main" ? [] : [`--revision ${revision}`]),
    ...(baseModel === null ? [] : [`--base-model ${baseModel}`]),
  ];
  return `dpo-train push ${quote(printable(folder, 1000))} ${options.join(" ")}`;
}

/** Pushes what a finished output folder holds. @param place where the repository is named, as messages begin */
export async function pushFolder(
  request: PushSettings & { readonly folder: string },
  place: string,
  env: Environment,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const publication = await preparePublication(request);
  const connection = await connectToPush(request, place, { env, onNotice: terminal.line, signal });
  const remote = await requireWriteAccess(connection, request);
  tellOddities(publication, terminal);
  const { commitUrl, known } = await push(publication, connection, remote, ({ phase, path, doneBytes, totalBytes }) => {
    const doing = phase === "hashing" ? "reading" : "sending";
    terminal.status(`${doing} ${printable(path)}: ${formatShare(doneBytes, totalBytes)}`);
  });
  const isPrivate = remote?.isPrivate ?? request.isPrivate;
  const there = known.length > 0 ? `, of which ${known.length} had arrived before` : "";
  terminal.line(
    `pushed ${countFiles(publication)}${there}: ${connection.endpoint}/${request.repository} (${isPrivate ? "private" : "public"})`,
  );
  terminal.line(`  commit ${printable(commitUrl, 1000)}`);
  if (isPrivate && request.isPrivate) {
    terminal.line("  to show it to everybody, make it public in its settings there, and look at its model card first");
  }
  if (isPrivate && !request.isPrivate) {
    terminal.line("  note: it is private there and stays so; its settings make it public");
  }
}

/** What the user may not expect. */
export function tellOddities({ isOwnCard, leftOut, folder, what }: Publication, terminal: Terminal): void {
  const shown = `${printable(folder, 1000)}/${what}`;
  if (isOwnCard) terminal.line(`note: the model card is ${shown}/README.md as it stands, and none is written`);
  if (leftOut.length > 0) {
    terminal.line(`note: folders and hidden files of ${shown} do not go: ${printable(leftOut.join(", "))}`);
  }
}

/** `3 files, 16.06 GB` */
export function countFiles({ files }: Publication): string {
  const sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  return `${files.length} files, ${formatSize(sizeBytes)}`;
}
