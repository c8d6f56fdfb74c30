import type { ExportDtype } from "../config/names.ts";
import { PROJECTIONS, type Projection } from "../weights/projections.ts";
import { addSums, type MergeSums, noSums } from "./merge-sums.ts";

/**
 * How much of an update Δ = s·BA is still there in rounded weights. c = round(W + Δ) − round(W) is what arrived of it:
 * the difference between the merged model and the base, both in the export's dtype. So what rounding does to W itself,
 * where the base has more digits than the export, does not count as an update.
 */
export interface Kept {
  /**
   * max(0, 1 − error²): 1 where the update arrived whole, 0 where it is lost, or drowned in rounding. The share of its
   * variance that what arrived explains. Advice goes by this.
   */
  readonly fidelity: number;
  /**
   * ⟨c, Δ⟩ / ‖Δ‖²: what arrived, measured along the update. Alone it can look well by chance: rounding a float32 base to
   * bfloat16 moves a few elements by whole steps, and in the mean right, while `error` is many times the update.
   */
  readonly kept: number;
  /** ‖c − Δ‖ / ‖Δ‖ */
  readonly error: number;
}

/** As in run.json. Null where the adapter changes nothing, or a sum has left float32's range. */
export interface ModuleFidelity {
  readonly fidelity: number | null;
  readonly kept: number | null;
  readonly error: number | null;
  /** Share of the elements with c ≠ 0. */
  readonly changed: number;
  /** ‖Δ‖ and ‖W‖. */
  readonly update_norm: number | null;
  readonly weight_norm: number | null;
  /** What an export in float16 would keep, null too where a value lies beyond float16. */
  readonly float16: Kept | null;
}

/** The merge-fidelity report, as in run.json. */
export interface FidelityReport {
  readonly dtype: ExportDtype;
  readonly overall: ModuleFidelity;
  readonly projections: Readonly<Partial<Record<Projection, ModuleFidelity>>>;
  readonly modules: readonly ({ readonly layer: number; readonly projection: Projection } & ModuleFidelity)[];
  /** What to do about an update that was mostly lost; null where enough arrived. */
  readonly advice: string | null;
}

/** Below this fidelity, where ‖c − Δ‖ is half of ‖Δ‖, there is advice. */
const ENOUGH = 0.75;

export interface ModuleSums {
  readonly layer: number;
  readonly projection: Projection;
  readonly sums: MergeSums;
}

/** Norms and inner products are summed over the layers of a projection, and over all, before they are divided. */
export function fidelityReport(dtype: ExportDtype, modules: readonly ModuleSums[]): FidelityReport {
  const total = (parts: readonly ModuleSums[]): ModuleFidelity => {
    const sums = noSums();
    for (const part of parts) addSums(sums, part.sums);
    return moduleFidelity(sums);
  };
  const projections: Partial<Record<Projection, ModuleFidelity>> = {};
  for (const projection of PROJECTIONS) {
    const parts = modules.filter((part) => part.projection === projection);
    if (parts.length > 0) projections[projection] = total(parts);
  }
  const overall = total(modules);
  return {
    dtype,
    overall,
    projections,
    modules: modules.map(({ layer, projection, sums }) => ({ layer, projection, ...moduleFidelity(sums) })),
    advice: adviceFor(dtype, overall),
  };
}

function moduleFidelity(sums: MergeSums): ModuleFidelity {
  const kept = keptOf(sums.updateSquares, sums.arrivedUpdate, sums.lostSquares);
  return {
    ...(kept ?? { fidelity: null, kept: null, error: null }),
    changed: round(sums.changed / sums.elements),
    update_norm: norm(sums.updateSquares),
    weight_norm: norm(sums.weightSquares),
    float16: keptOf(sums.updateSquares, sums.arrivedUpdate16, sums.lostSquares16),
  };
}

function keptOf(updateSquares: number, arrivedUpdate: number, lostSquares: number): Kept | null {
  const kept = arrivedUpdate / updateSquares;
  const error = Math.sqrt(lostSquares / updateSquares);
  if (!Number.isFinite(kept) || !Number.isFinite(error)) return null;
  return { fidelity: round(Math.max(0, 1 - error * error)), kept: round(kept), error: round(error) };
}

function norm(squares: number): number | null {
  return Number.isFinite(squares) ? round(Math.sqrt(squares)) : null;
}

/** Six digits: what sums in float32 are good for. */
function round(value: number): number {
  return Number(value.toPrecision(6));
}

function adviceFor(dtype: ExportDtype, { fidelity, error, update_norm, float16 }: ModuleFidelity): string | null {
  if (update_norm === 0) return "the adapter changes nothing, B·A is 0 in every module: the merged model is the base";
  if (fidelity === null || error === null || fidelity >= ENOUGH) return null;
  const what =
    error > 1
      ? `rounding to ${dtype} moves the weights ${error.toPrecision(2)} times as far as training did, and drowns what was learnt`
      : `rounding to ${dtype} lost ${Math.round(100 * (1 - fidelity))}% of what was learnt: the merged model stays close to the base`;
  const isBetter = dtype === "bfloat16" && float16 !== null && float16.fidelity > fidelity + 0.1;
  const remedies = [
    ...(isBetter ? [`export in float16 (fidelity ${formatFraction(float16.fidelity)})`] : []),
    ...(dtype === "float32" ? [] : ["export in float32"]),
    "keep the adapter apart and load it beside the base",
    "train with a larger learning rate",
  ];
  return `${what}; ${remedies.slice(0, -1).join(", ")}, or ${remedies.at(-1)}`;
}

/** The report for a terminal, a line each. */
export function formatFidelity({ dtype, overall, projections, advice }: FidelityReport): string[] {
  if (overall.fidelity === null) return advice === null ? ["merge fidelity: not measurable"] : [`merge: ${advice}`];
  const hasFloat16 = dtype !== "float16";
  const cells = (name: string, { fidelity, kept, error, float16 }: ModuleFidelity) => {
    const numbers = [fidelity, kept, error, ...(hasFloat16 ? [float16?.fidelity ?? null] : [])];
    return [name, ...numbers.map(formatFraction)];
  };
  const table = [
    ["", "fidelity", "kept", "error", ...(hasFloat16 ? ["in float16"] : [])],
    ...Object.entries(projections).map(([projection, fidelity]) => cells(projection, fidelity)),
    cells("all", overall),
  ];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  const lines = table.map((row) => {
    return `  ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  ")}`;
  });
  return [
    `merge fidelity in ${dtype} (1: the update arrived whole, 0: it is lost in rounding)`,
    ...lines,
    ...(advice === null ? [] : [`advice: ${advice}`]),
  ];
}

function formatFraction(value: number | null): string {
  if (value === null) return "-";
  return Math.abs(value) < 100 ? value.toFixed(3) : value.toPrecision(3);
}
