import { dirname, join } from "node:path";
import type { TokenizedPair } from "../data/tokenize.ts";
import { InputError } from "../errors.ts";
import type { PairModel } from "../model/pair-model.ts";
import { cacheFolder } from "../platform/cache-folder.ts";
import type { OpenedDevice } from "../platform/dawn.ts";
import type { LoadedBase } from "../platform/load-base.ts";
import type { Terminal } from "../terminal.ts";
import type { Resumed } from "./checkpoint/find-checkpoint.ts";
import { factsOfReference, requireSameFacts } from "./checkpoint/identity.ts";
import { referenceFile } from "./checkpoint/saver.ts";
import type { ReferenceLogps } from "./objective.ts";
import type { PreparedData } from "./prepare-data.ts";
import type { PreparedRun } from "./prepare-run.ts";
import { computeReference } from "./reference.ts";
import { readReferenceCache, referenceCachePath, writeReferenceCache } from "./reference-cache.ts";

export interface RunReference {
  readonly train: readonly ReferenceLogps[];
  readonly evaluation: readonly ReferenceLogps[];
  readonly from: "computed" | "cache";
}

/** Pairs of a kept reference that are computed again before it is believed. */
const CHECKED_PAIRS = 4;
/** Far above what another order of additions can change, far below what another model would. */
const CHECK_TOLERANCE = 1e-3;

/** A run's pairs, and what scores them. */
export interface Scored {
  readonly prepared: Pick<PreparedRun, "config" | "folder" | "data">;
  readonly shared: {
    readonly base: Pick<LoadedBase, "sha256" | "format">;
    readonly references: Map<PreparedData, RunReference>;
  };
  readonly opened: Pick<OpenedDevice, "adapter">;
  readonly model: PairModel;
}

/**
 * The reference's log-probabilities of a run's pairs: from this process or from the disk, where an earlier run on the same
 * model, tokens and device has left them (those from the disk only if a few computed anew agree), else computed and kept.
 *
 * @throws NonFiniteError where the base gives none, the signal's reason when it is aborted
 */
export async function obtainReference(scored: Scored, terminal: Terminal, signal?: AbortSignal): Promise<RunReference> {
  const { prepared, shared } = scored;
  const { data } = prepared;
  const known = shared.references.get(data);
  if (known) return { ...known, from: "cache" };
  const reference = await readOrCompute(scored, terminal, signal);
  shared.references.clear(); // Of data that no run asks for any more.
  shared.references.set(data, reference);
  return reference;
}

async function readOrCompute(
  { prepared: { config, folder, data }, shared: { base }, opened: { adapter }, model }: Scored,
  terminal: Terminal,
  signal: AbortSignal | undefined,
): Promise<RunReference> {
  const pairs: TokenizedPair[] = [...data.train, ...data.evaluation];
  const compute = (): Promise<ReferenceLogps[]> =>
    computeReference(model, pairs, (done) => {
      signal?.throwIfAborted();
      terminal.status(`reference log-probabilities: ${done} of ${pairs.length} pairs`);
    });
  if (!config.reference_cache) return divide(await compute(), data, "computed");

  const file = referenceCachePath(join(cacheFolder(), "reference"), {
    config: folder.config,
    weights: base.sha256,
    precision: base.format,
    adapter: adapter.name,
    pairs,
  });
  const kept = await readKeptReference(file, pairs, terminal);
  if (kept && (await agrees(model, pairs, kept))) {
    terminal.line(`reference log-probabilities of ${pairs.length} pairs: from an earlier run`);
    return divide(kept, data, "cache");
  }
  if (kept)
    terminal.line("reference log-probabilities of an earlier run do not agree with the model: computing them anew");
  const logps = await compute();
  try {
    await writeReferenceCache(file, logps);
  } catch (error) {
    // A cache that cannot be written is no reason to lose the run.
    if (!(error instanceof InputError)) throw error;
    terminal.line(`note: the reference's log-probabilities could not be kept: ${error.message}`);
  }
  return divide(logps, data, "computed");
}

/** The reference that a run began with: kept beside its checkpoints, or made anew, and then the same to the last bit. */
export async function obtainSameReference(
  { path, state }: Resumed,
  scored: Scored,
  terminal: Terminal,
  signal?: AbortSignal,
): Promise<RunReference> {
  const { data } = scored.prepared;
  const kept = await readKeptReference(referenceFile(dirname(path)), [...data.train, ...data.evaluation], terminal);
  const reference = kept ? divide(kept, data, "cache") : await obtainReference(scored, terminal, signal);
  requireSameFacts(state.identity, factsOfReference([...reference.train, ...reference.evaluation]), path);
  return reference;
}

function divide(logps: readonly ReferenceLogps[], { train }: PreparedData, from: RunReference["from"]): RunReference {
  return { train: logps.slice(0, train.length), evaluation: logps.slice(train.length), from };
}

/** What a file keeps of these pairs; null, with a note where it is damaged, where they must be computed. */
async function readKeptReference(
  file: string,
  pairs: readonly TokenizedPair[],
  terminal: Terminal,
): Promise<ReferenceLogps[] | null> {
  try {
    return await readReferenceCache(file, pairs);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    terminal.line(
      `note: the reference's log-probabilities of an earlier run are damaged, computing them anew: ${error.message}`,
    );
    return null;
  }
}

async function agrees(
  model: PairModel,
  pairs: readonly TokenizedPair[],
  kept: readonly ReferenceLogps[],
): Promise<boolean> {
  const anew = await computeReference(model, pairs.slice(0, CHECKED_PAIRS));
  return anew.every(({ chosen, rejected }, i) => {
    const isNear = (values: Float64Array, others: Float64Array) =>
      values.every((value, t) => Math.abs(value - others[t]!) <= CHECK_TOLERANCE);
    return isNear(chosen, kept[i]!.chosen) && isNear(rejected, kept[i]!.rejected);
  });
}
