import { RunTooLargeError } from "../errors.ts";
import type { Stored } from "../model/activations.ts";
import { PADDING } from "../ops/matrix.ts";
import { formatSize } from "../text.ts";
import { findRemedies, formatRemedies, type Remedies } from "./remedies.ts";
import { type BatchChoice, type RunShape, type Simulation, simulate } from "./simulate.ts";
import type { TokenBounds } from "./token-budget.ts";

/** What the user has decided. */
export interface Asked {
  /** `max_tokens_per_batch`. */
  readonly maxTokens: number | undefined;
  /** `gradient_checkpointing`. */
  readonly checkpointing: boolean | undefined;
}

export interface ChosenBatch {
  readonly choice: BatchChoice;
  readonly simulation: Simulation;
  /** Why, a sentence each. */
  readonly reasons: readonly string[];
  readonly isMemoryKnown: boolean;
  /** What to change where it does not fit all the same. */
  readonly remedies: () => Remedies;
}

/** Rows of a batch where nothing is known of the memory: a large GPU's products are fast from here on. */
const USUAL_TOKENS = 2048;
/** Rows beyond which a larger batch gains nothing. */
const ENOUGH_TOKENS = 8192;

/** The fastest first: each computes more again than the one before. */
const STORED: readonly Stored[] = ["everything", "without gate and up", "layer inputs"];

type Fitting = Pick<ChosenBatch, "choice" | "simulation">;
type Simulate = (run: RunShape, choice: BatchChoice) => Simulation;

/**
 * Chooses the rows of a GPU batch and what is kept of its forward pass: what makes the run fastest among what fits. It
 * changes no result.
 *
 * @param memoryBytes what the run may take, null where that is not known
 * @throws RunTooLargeError where nothing fits, with the cheapest ways to need less
 */
export function chooseBatch(run: RunShape, bounds: TokenBounds, asked: Asked, memoryBytes: number | null): ChosenBatch {
  const simulated = remembering(simulate);
  const finish = (found: Fitting, reasons: readonly string[]): ChosenBatch => ({
    ...found,
    reasons,
    isMemoryKnown: memoryBytes !== null,
    remedies: () => {
      const fewerTokens = Math.max(bounds.needed, roundDown(found.choice.maxTokens / 2));
      return findRemedies(run, found.choice, { neededTokens: bounds.needed, fewerTokens });
    },
  });
  if (memoryBytes === null) {
    const { choice, reason } = usualChoice(bounds, asked);
    return finish({ choice, simulation: simulated(run, choice) }, [
      "how much memory the GPU has is not known; --device-memory says it, and the plan is made to fit",
      reason,
    ]);
  }

  const { needed, limit } = bounds;
  const isAsked = asked.maxTokens !== undefined;
  const target = Math.min(limit, asked.maxTokens ?? fillingTokens(bounds));
  const least = isAsked ? target : Math.max(needed, Math.min(target, USUAL_TOKENS));
  const kinds = storedKinds(asked.checkpointing);
  const tooLarge: string[] = [];
  for (const stored of kinds) {
    const smallest = stored === kinds.at(-1) && !isAsked ? needed : least;
    const found = largestFitting(run, stored, smallest, target, memoryBytes, simulated);
    if (found) {
      const { maxTokens } = found.choice;
      return finish(found, [
        ...tooLarge,
        `${storedWords(stored)} takes ${formatSize(found.simulation.peakBytes)} of the ${formatSize(memoryBytes)} that may be used, with ${maxTokens} tokens in a GPU batch`,
        limitReason(maxTokens, target, isAsked, bounds),
      ]);
    }
    const bytes = simulated(run, { maxTokens: smallest, stored }).peakBytes;
    tooLarge.push(`${storedWords(stored)} would take ${formatSize(bytes)} with only ${smallest} tokens in a GPU batch`);
  }
  const choice = { maxTokens: isAsked ? target : needed, stored: kinds.at(-1)! };
  throw refusal(run, choice, bounds, memoryBytes, simulated);
}

/** What nobody knows to fit. */
function usualChoice({ needed, limit, what }: TokenBounds, asked: Asked): { choice: BatchChoice; reason: string } {
  const maxTokens = Math.min(limit, asked.maxTokens ?? Math.max(needed, USUAL_TOKENS));
  const stored = storedKinds(asked.checkpointing)[0]!;
  const why =
    asked.maxTokens !== undefined
      ? "as max_tokens_per_batch asks"
      : maxTokens > USUAL_TOKENS
        ? `as ${what} needs`
        : "as usual";
  return {
    choice: { maxTokens, stored },
    reason: `${maxTokens} tokens in a GPU batch, ${why}, ${storedWords(stored)}`,
  };
}

function limitReason(maxTokens: number, target: number, isAsked: boolean, { perStep, limit }: TokenBounds): string {
  if (maxTokens < target) return "more tokens would not fit";
  if (target === limit) return "this adapter can bind no more";
  if (isAsked) return "max_tokens_per_batch asks for no more";
  return `more tokens would gain nothing: an optimizer step has about ${Math.round(perStep)}`;
}

function refusal(
  run: RunShape,
  choice: BatchChoice,
  { needed }: TokenBounds,
  memoryBytes: number,
  simulated: Simulate,
): RunTooLargeError {
  const { maxTokens, stored } = choice;
  const neededBytes = simulated(run, choice).peakBytes;
  const fitting = largestFitting(run, stored, needed, maxTokens, memoryBytes, simulated);
  const fewerTokens = fitting?.choice.maxTokens ?? needed;
  const { found, leastBytes } = findRemedies(run, choice, { neededTokens: needed, fewerTokens }, simulated);
  const advice = [
    ...(found.length > 0 ? [formatRemedies(found)] : []),
    ...(leastBytes > memoryBytes
      ? [`with all that can be done it needs ${formatSize(leastBytes)}, so take a larger GPU or a smaller model`]
      : []),
  ];
  return new RunTooLargeError(
    `the run needs ${formatSize(neededBytes)} of GPU memory, ${storedWords(stored)} with ${maxTokens} tokens in a GPU batch, ` +
      `and ${formatSize(memoryBytes)} may be used: ${advice.join("; ")}`,
  );
}

function storedKinds(checkpointing: boolean | undefined): readonly Stored[] {
  if (checkpointing === undefined) return STORED;
  return checkpointing ? ["layer inputs"] : ["everything"];
}

/** What is kept, in words that "takes" may follow. */
export function storedWords(stored: Stored): string {
  return {
    everything: "keeping all activations",
    "without gate and up": "keeping all activations but those of gate_proj and up_proj",
    "layer inputs": "keeping only the inputs of the layers",
  }[stored];
}

/** Rows of batches of about the same size that a step's pairs make, each about enough. */
function fillingTokens({ needed, perStep }: TokenBounds): number {
  const batches = Math.max(1, Math.ceil(perStep / ENOUGH_TOKENS));
  // Pairs are not split: without room for one more, a batch would end up to a pair early and there would be more of them.
  return roundUp(perStep / batches + needed);
}

/** The largest batch from `least` to `most` rows that fits, or null. */
function largestFitting(
  run: RunShape,
  stored: Stored,
  least: number,
  most: number,
  memoryBytes: number,
  simulated: Simulate,
): Fitting | null {
  const attempt = (maxTokens: number): Fitting => {
    const choice = { maxTokens, stored };
    return { choice, simulation: simulated(run, choice) };
  };
  const fits = ({ simulation }: Fitting) => simulation.peakBytes <= memoryBytes;
  const smallest = attempt(least);
  if (!fits(smallest)) return null;
  const largest = attempt(most);
  if (fits(largest)) return largest;
  // Memory grows nearly in a straight line with the rows.
  const perRow = (largest.simulation.peakBytes - smallest.simulation.peakBytes) / (most - least);
  let rows = least + (memoryBytes - smallest.simulation.peakBytes) / perRow;
  while (roundDown(rows) > least) {
    const found = attempt(roundDown(rows));
    if (fits(found)) return found;
    rows -= Math.max(PADDING, 0.02 * rows);
  }
  return smallest;
}

/** A simulation takes a while: none is made twice. */
function remembering(simulation: Simulate): Simulate {
  const known = new Map<RunShape, Map<string, Simulation>>();
  return (run, choice) => {
    const ofRun = known.get(run) ?? new Map<string, Simulation>();
    known.set(run, ofRun);
    const name = `${choice.maxTokens} ${choice.stored}`;
    const found = ofRun.get(name) ?? simulation(run, choice);
    ofRun.set(name, found);
    return found;
  };
}

function roundUp(rows: number): number {
  return Math.ceil(rows / PADDING) * PADDING;
}

function roundDown(rows: number): number {
  return Math.floor(rows / PADDING) * PADDING;
}
