import path from "node:path";
import { type Command, Option } from "commander";
import { loadConfig } from "../config/load.ts";
import { PUSHED_PARTS, type PushedPart } from "../config/names.ts";
import type { Config } from "../config/schema.ts";
import { InputError } from "../errors.ts";
import { type Environment, findToken, hubEndpoint, isOffline } from "../hub/environment.ts";
import { connectToPush, UnreachableError } from "../hub/push-connection.ts";
import { isBranch, isRepositoryName } from "../hub/repository-name.ts";
import { localKind } from "../hub/resolve.ts";
import { requireWriteAccess } from "../hub/write-access.ts";
import { partFolder } from "../publish/finished-run.ts";
import { type Publication, preparePublication, requireGoodCard, requireNoOtherModel } from "../publish/publication.ts";
import { createTerminal, type Terminal } from "../terminal.ts";
import { formatSize, printable } from "../text.ts";
import { readEnvironment } from "../track/environment.ts";
import { CONFIG_FILE } from "../train/run-folder.ts";
import { addExamples } from "./examples.ts";
import { countFiles, describePush, type PushSettings, pushFolder, pushSettings, tellOddities } from "./push-run.ts";
import { runCommand } from "./run-command.ts";

interface PushOptions {
  readonly to?: string;
  readonly what?: PushedPart;
  readonly public?: boolean;
  readonly private?: boolean;
  readonly revision?: string;
  readonly baseModel?: string;
  readonly dryRun?: boolean;
}

const INTERRUPTED = "interrupted; the same command sends what has not arrived";

/** `dpo-train push DIR`: a finished run's model to the Hugging Face Hub, with a model card. */
export function addPushCommand(program: Command): void {
  const command = program
    .command("push")
    .summary("put a trained model on the Hugging Face Hub")
    .description(
      "put the adapter or the merged model of a finished run on the Hugging Face Hub, with a model card; what has arrived before is not sent again",
    )
    .argument("<dir>", "the output folder of a run")
    .option("--to <owner/name>", "the repository, made where there is none (default: push_to_hub of the run's config)")
    .addOption(
      new Option("--what <part>", "default: push_to_hub.what, else merged where there is one").choices(PUSHED_PARTS),
    )
    .addOption(new Option("--public", "everybody may see it").conflicts("private"))
    .option("--private", "only the owner may see it (default)")
    .option("--revision <branch>", "the branch, made where there is none (default: main)")
    .option(
      "--base-model <owner/name>",
      "where others find the base, if it was a folder of this machine; an adapter needs it",
    )
    .option("--dry-run", "show what would go, with the whole model card, and stop; needs no token");
  addExamples(command, [
    "dpo-train push runs/twin-tiny --to ada/twin-tiny --dry-run",
    "dpo-train push runs/twin-tiny --to ada/twin-tiny --public",
    "dpo-train push runs/my-run --to ada/my-run-lora --what adapter --base-model meta-llama/Llama-3.2-1B",
  ]).action((folder: string, options: PushOptions) => {
    const terminal = createTerminal();
    return runCommand({ terminal, whenInterrupted: INTERRUPTED }, async (signal) => {
      const env = readEnvironment();
      const request = { folder, ...(await settingsFor(folder, options)) };
      const place = options.to === undefined ? "push_to_hub" : "--to";
      if (options.dryRun) await showPush(request, place, env, terminal, signal);
      else await pushFolder(request, place, env, terminal, signal);
    });
  });
}

/** The options, else the run's config. @throws InputError */
async function settingsFor(folder: string, options: PushOptions): Promise<PushSettings> {
  const { to, what, revision, baseModel } = options;
  requireName("--to", to);
  requireName("--base-model", baseModel);
  if (revision !== undefined && !isBranch(revision)) {
    throw new InputError(`--revision must be the name of a branch, got "${printable(revision)}"`);
  }
  const config = await configOf(folder);
  const configured = config && pushSettings(config);
  const repository = to ?? configured?.repository;
  if (repository === undefined) {
    throw new InputError(
      `--to owner/name is needed: ${printable(folder, 1000)} was trained without push_to_hub, which would name the repository`,
    );
  }
  return {
    repository,
    revision: revision ?? configured?.revision ?? "main",
    isPrivate: options.private ?? (options.public ? false : (configured?.isPrivate ?? true)),
    what: what ?? config?.push_to_hub.what ?? (await mergedIfThere(folder)),
    baseModel: baseModel ?? configured?.baseModel ?? null,
  };
}

function requireName(option: string, name: string | undefined): void {
  if (name === undefined || isRepositoryName(name)) return;
  throw new InputError(`${option} must be a Hugging Face Hub id as owner/name, got "${printable(name)}"`);
}

/** Null where the folder has none: that it holds no run is told by who reads it. */
async function configOf(folder: string): Promise<Config | null> {
  const file = path.join(folder, CONFIG_FILE);
  return (await localKind(file)) === "file" ? loadConfig(file).config : null;
}

async function mergedIfThere(folder: string): Promise<PushedPart> {
  return (await localKind(partFolder(folder, "merged"))) === "folder" ? "merged" : "adapter";
}

async function showPush(
  request: PushSettings & { readonly folder: string },
  place: string,
  env: Environment,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const publication = await preparePublication(request);
  terminal.line(`would push ${describePush(request, env)}:`);
  const width = Math.max(...publication.files.map(({ path }) => printable(path).length));
  for (const file of publication.files) {
    terminal.line(`  ${printable(file.path).padEnd(width)}  ${shownSize(file.sizeBytes).padStart(12)}`);
  }
  terminal.line(countFiles(publication));
  tellOddities(publication, terminal);
  terminal.line(await askHub(publication, place, env, signal));
  terminal.line(`\nREADME.md:\n${publication.card}`);
}

function shownSize(sizeBytes: number): string {
  return sizeBytes < 1e5 ? `${sizeBytes} bytes` : formatSize(sizeBytes);
}

/** What the Hub says to it, if it can be asked. */
async function askHub(publication: Publication, place: string, env: Environment, signal: AbortSignal): Promise<string> {
  if (isOffline(env)) return "the Hub was not asked: HF_HUB_OFFLINE forbids the network";
  if ((await findToken(env)) === undefined) return "the Hub was not asked: there is no token (HF_TOKEN)";
  try {
    const connection = await connectToPush(publication, place, { env, signal });
    const remote = await requireWriteAccess(connection, publication);
    requireNoOtherModel(publication, remote);
    await requireGoodCard(publication, connection);
    if (remote === null) return `${publication.repository} would be made on ${hubEndpoint(env)}`;
    return `${publication.repository} is on ${hubEndpoint(env)} already, ${remote.isPrivate ? "private" : "public"}, and the token may write there`;
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof UnreachableError)) throw error;
    return `the Hub was not asked: ${error.message}`;
  }
}
