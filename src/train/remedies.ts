import { list } from "../config/words.ts";
import { PADDING } from "../ops/matrix.ts";
import { formatSize } from "../text.ts";
import { type BatchChoice, type RunShape, type Simulation, simulate } from "./simulate.ts";

/** A setting that makes a run need less memory. */
export interface Remedy {
  /** As `--set` takes it. */
  readonly setting: string;
  readonly savedBytes: number;
}

export interface Remedies {
  /** Those that change nothing but the time first, what costs least before what costs more; at most three. */
  readonly found: readonly Remedy[];
  /** What the run would need with all of them. */
  readonly leastBytes: number;
}

/** How many are named. */
const MOST = 3;
/** Of what is needed: less is not worth naming. */
const LEAST_SHARE = 0.01;

/**
 * What would make a run need less than `choice` does. What each saves is beside the others, but for a shorter max_length:
 * that makes the smallest batch smaller.
 *
 * @param neededTokens rows that a GPU batch must have
 * @param fewerTokens rows that a batch may have instead
 */
export function findRemedies(
  run: RunShape,
  { maxTokens, stored }: BatchChoice,
  { neededTokens, fewerTokens }: { readonly neededTokens: number; readonly fewerTokens: number },
  simulated: (run: RunShape, choice: BatchChoice) => Pick<Simulation, "peakBytes"> = simulate,
): Remedies {
  const bytes = (choice: BatchChoice, of = run) => simulated(of, choice).peakBytes;
  const before = bytes({ maxTokens, stored });
  const in4Bit = { ...run, in4Bit: true };
  const shorterTokens = Math.max(PADDING, Math.floor(neededTokens / 2));
  const candidates: { setting: string; isOpen: boolean; saved: () => number }[] = [
    {
      setting: `max_tokens_per_batch=${fewerTokens}`,
      isOpen: fewerTokens < maxTokens,
      saved: () => before - bytes({ maxTokens: fewerTokens, stored }),
    },
    {
      setting: "gradient_checkpointing=true",
      isOpen: stored !== "layer inputs",
      saved: () => before - bytes({ maxTokens, stored: "layer inputs" }),
    },
    {
      setting: "load_in_4bit=true",
      isOpen: !run.in4Bit,
      saved: () => before - bytes({ maxTokens, stored }, in4Bit),
    },
    {
      setting: `max_length=${Math.floor(run.maxPositions / 2)}`,
      isOpen: run.maxPositions >= 4 && shorterTokens < neededTokens,
      saved: () => bytes({ maxTokens: neededTokens, stored }) - bytes({ maxTokens: shorterTokens, stored }),
    },
  ];
  const found: Remedy[] = [];
  for (const { setting, isOpen, saved } of candidates) {
    if (!isOpen || found.length === MOST) continue;
    const savedBytes = saved();
    if (savedBytes > LEAST_SHARE * before) found.push({ setting, savedBytes });
  }
  return {
    found,
    leastBytes: bytes({ maxTokens: shorterTokens, stored: "layer inputs" }, in4Bit),
  };
}

/** `max_tokens_per_batch=1024 saves 2.10 GB or max_length=512 saves 1.05 GB`. */
export function formatRemedies(found: readonly Remedy[]): string {
  return list(
    found.map(({ setting, savedBytes }) => `${setting} saves ${formatSize(savedBytes)}`),
    "or",
  );
}
