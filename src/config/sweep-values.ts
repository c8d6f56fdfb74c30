import { createHash } from "node:crypto";
import { createPcg64, type Pcg64 } from "../random/pcg64.ts";
import { type Tree, toPlain } from "./tree.ts";

/** A setting with the value that a run gives it. */
export interface Assignment {
  /** As `--set` has it: `beta`, `lora.r`. */
  readonly key: string;
  readonly value: Tree;
}

export type Distribution =
  | { readonly kind: "choice"; readonly values: readonly Tree[] }
  | { readonly kind: "uniform" | "log_uniform"; readonly low: number; readonly high: number; readonly tree: Tree };

/** Every combination of the axes' values. The last axis changes fastest. */
export function combinations(axes: readonly { key: string; values: readonly Tree[] }[]): Assignment[][] {
  return axes.reduce<Assignment[][]>(
    (runs, { key, values }) => runs.flatMap((run) => values.map((value) => [...run, { key, value }])),
    [[]],
  );
}

/** Draws in a row that give nothing new before the distributions count as exhausted. */
const MAX_REPEATS = 1000;

/**
 * So many different runs, drawn from each setting's distribution; fewer where there are no more. The first runs do not
 * depend on how many are asked for.
 */
export function draw(
  parts: readonly { key: string; from: Distribution }[],
  count: number,
  seed: number,
): Assignment[][] {
  const random = createPcg64(seed);
  const runs = new Map<string, Assignment[]>();
  for (let repeats = 0; runs.size < count && repeats < MAX_REPEATS; repeats++) {
    const run = parts.map(({ key, from }): Assignment => ({ key, value: drawOne(from, random) }));
    const name = nameOf(run);
    if (runs.has(name)) continue;
    runs.set(name, run);
    repeats = 0;
  }
  return [...runs.values()];
}

/** Digits of a drawn number: enough to search by, and few enough for a folder's name. */
const DIGITS = 4;

function drawOne(from: Distribution, random: Pcg64): Tree {
  if (from.kind === "choice") return from.values[random.nextInterval(from.values.length - 1)]!;
  const { low, high, kind, tree } = from;
  const share = nextShare(random);
  const exact = kind === "uniform" ? low + share * (high - low) : low * (high / low) ** share;
  const value = Math.min(high, Math.max(low, Number(exact.toPrecision(DIGITS))));
  return { kind: "scalar", place: tree.place, value, source: String(value), isQuoted: false };
}

/** Uniform in [0, 1), with 53 bits. */
function nextShare(random: Pcg64): number {
  const [high, low] = [random.nextUint32() >>> 5, random.nextUint32() >>> 6];
  return (high * 2 ** 26 + low) / 2 ** 53;
}

/** A longer one would be hard to read, and some file systems end names at 143 bytes. */
const MAX_NAME_LENGTH = 100;

/** The folder of a run: `beta=0.1,learning_rate=1e-6`. What a name cannot hold is told apart by a hash behind it. */
export function nameOf(assignments: readonly Assignment[]): string {
  const exact = assignments.map(({ key, value }) => `${key}=${textOf(toPlain(value))}`).join(",");
  const safe = exact.replace(/[^\w.,=+-]+/g, "-");
  if (safe === exact && safe.length <= MAX_NAME_LENGTH) return safe;
  const hash = createHash("sha256").update(exact).digest("hex").slice(0, 8);
  return `${safe.slice(0, MAX_NAME_LENGTH)}-${hash}`;
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
