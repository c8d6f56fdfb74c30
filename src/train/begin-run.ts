import type { Config } from "../config/schema.ts";
import { type ResolveOptions, resolveModel } from "../hub/resolve.ts";
import type { Terminal } from "../terminal.ts";
import { openModelFolder } from "../weights/model-folder.ts";
import { findCheckpoint, type ResumeChoice, type Resumed } from "./checkpoint/find-checkpoint.ts";
import { factsOfConfig, requireSameFacts } from "./checkpoint/identity.ts";
import type { Inputs } from "./inputs.ts";
import { type PreparedRun, prepareRun } from "./prepare-run.ts";
import { formatShare } from "./progress.ts";

/** A run that has all it needs but a device. */
export interface BegunRun {
  readonly prepared: PreparedRun;
  /** Null where it starts from the beginning. */
  readonly resumed: Resumed | null;
}

/**
 * Reads and checks what a run needs, and closes the model's files when `use` is done with it. Whatever can be refused is
 * refused here: the output folder first, the data's rows before the model is fetched. Nothing is written.
 *
 * @param resume the checkpoint to continue from, true for the newest that is whole; undefined to begin
 * @throws InputError for whatever keeps the run from starting, or from going on as it began
 */
export async function withRun<T>(
  config: Config,
  resume: ResumeChoice,
  inputs: Inputs,
  terminal: Terminal,
  signal: AbortSignal,
  use: (begun: BegunRun) => Promise<T>,
): Promise<T> {
  const resumed = await findCheckpoint(config.output_dir, resume, terminal);
  const rows = await inputs.rows(config, fetching("data", terminal, signal));
  const model = await resolveModel(config.model, fetching("model", terminal, signal));
  const folder = await openModelFolder(model.folder);
  try {
    const prepared = await prepareRun(config, rows, model, folder, inputs);
    if (resumed) requireSameFacts(resumed.state.identity, factsOfConfig(prepared), resumed.path);
    return await use({ prepared, resumed });
  } finally {
    await folder.close();
  }
}

/** How a download tells what it does. */
export function fetching(what: string, terminal: Terminal, signal: AbortSignal): ResolveOptions {
  return {
    signal,
    onNotice: terminal.line,
    onProgress: ({ doneBytes, totalBytes }) =>
      terminal.status(`fetching the ${what}: ${formatShare(doneBytes, totalBytes)}`),
  };
}
