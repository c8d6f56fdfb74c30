import type { TimedDispatch } from "../gpu/profiler.ts";

/** What a kernel cost in the profiled steps. */
export interface KernelProfile {
  readonly kernel: string;
  readonly dispatches: number;
  readonly ms: number;
  /** Of the time in which any kernel ran. */
  readonly share: number;
  /** Per second of the kernel's own time; null where its ops do not say how much they compute or move. */
  readonly flopsPerSecond: number | null;
  readonly bytesPerSecond: number | null;
}

/** Time in which no kernel ran, between one kernel and another: all such gaps together. */
export interface IdleGap {
  readonly after: string;
  readonly before: string;
  readonly count: number;
  readonly ms: number;
}

export interface GpuProfile {
  readonly steps: readonly [first: number, last: number];
  /** From the start of the first dispatch to the end of the last. */
  readonly spanMs: number;
  /** Of the span: no kernel ran. The host was at work, data were copied, or passes were changed. */
  readonly idleShare: number;
  /** Where most of that was lost, the longest first. */
  readonly gaps: readonly IdleGap[];
  /** The dearest first. */
  readonly kernels: readonly KernelProfile[];
}

const SHOWN_GAPS = 5;

/** @throws RangeError where nothing was timed */
export function summarize(timed: readonly TimedDispatch[], steps: GpuProfile["steps"]): GpuProfile {
  if (timed.length === 0) throw new RangeError("internal: nothing was timed");
  const byKernel = new Map<string, TimedDispatch[]>();
  for (const dispatch of timed) {
    const dispatches = byKernel.get(dispatch.label);
    if (dispatches) dispatches.push(dispatch);
    else byKernel.set(dispatch.label, [dispatch]);
  }
  const startNs = firstStart(timed);
  const spanNs = timed.reduce((latest, { endNs }) => Math.max(latest, endNs), startNs) - startNs;
  const gaps = gapsOf(timed);
  const busyNs = spanNs - gaps.reduce((sum, { ms }) => sum + ms * 1e6, 0);
  const kernels = [...byKernel].map(([kernel, dispatches]): KernelProfile => {
    const ns = dispatches.reduce((sum, { startNs, endNs }) => sum + endNs - startNs, 0);
    const rate = (amount: (dispatch: TimedDispatch) => number | undefined): number | null => {
      const total = dispatches.reduce((sum, dispatch) => sum + (amount(dispatch) ?? 0), 0);
      return total > 0 && ns > 0 ? (total / ns) * 1e9 : null;
    };
    return {
      kernel,
      dispatches: dispatches.length,
      ms: ns / 1e6,
      share: busyNs > 0 ? ns / busyNs : 0,
      flopsPerSecond: rate(({ work }) => work?.flops),
      bytesPerSecond: rate(({ work }) => work?.bytes),
    };
  });
  return {
    steps,
    spanMs: spanNs / 1e6,
    idleShare: spanNs > 0 ? 1 - busyNs / spanNs : 0,
    gaps: gaps.slice(0, SHOWN_GAPS),
    kernels: kernels.sort((a, b) => b.ms - a.ms),
  };
}

function firstStart(timed: readonly TimedDispatch[]): number {
  return timed.reduce((earliest, { startNs }) => Math.min(earliest, startNs), Number.POSITIVE_INFINITY);
}

/** The stretches in which no dispatch ran, by the kernels on their two sides, the longest first. */
function gapsOf(timed: readonly TimedDispatch[]): IdleGap[] {
  const gaps = new Map<string, IdleGap>();
  let last: TimedDispatch | undefined;
  for (const next of [...timed].sort((a, b) => a.startNs - b.startNs)) {
    if (last && next.startNs > last.endNs) {
      const [after, before] = [last.label, next.label];
      const key = JSON.stringify([after, before]);
      const { count, ms } = gaps.get(key) ?? { count: 0, ms: 0 };
      gaps.set(key, { after, before, count: count + 1, ms: ms + (next.startNs - last.endNs) / 1e6 });
    }
    if (!last || next.endNs > last.endNs) last = next;
  }
  return [...gaps.values()].sort((a, b) => b.ms - a.ms);
}

/** A table for a terminal. */
export function formatProfile({ steps: [first, last], spanMs, idleShare, gaps, kernels }: GpuProfile): string[] {
  const steps = last - first + 1;
  const cells = kernels.map(({ kernel, dispatches, ms, share, flopsPerSecond, bytesPerSecond }) => [
    kernel,
    (dispatches / steps).toFixed(0),
    (ms / steps).toFixed(3),
    `${(100 * share).toFixed(1)}%`,
    flopsPerSecond === null ? "-" : (flopsPerSecond / 1e9).toPrecision(3),
    bytesPerSecond === null ? "-" : (bytesPerSecond / 1e9).toPrecision(3),
  ]);
  const rows = [["kernel", "dispatches", "ms", "share", "GFLOP/s", "GB/s"], ...cells];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return [
    `GPU profile of steps ${first} to ${last}, per step: ${(spanMs / steps).toFixed(1)} ms, ${(100 * idleShare).toFixed(1)}% of it idle`,
    ...rows.map((row) =>
      row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  "),
    ),
    ...gaps.map(({ after, before, count, ms }) => {
      return `idle ${(ms / steps).toFixed(3)} ms from ${after} to ${before}, ${(count / steps).toFixed(0)} times`;
    }),
  ];
}

/** The dispatches for chrome://tracing or ui.perfetto.dev (Trace Event Format, complete events, microseconds). */
export function chromeTrace(timed: readonly TimedDispatch[]): string {
  const originNs = firstStart(timed);
  const traceEvents = timed.map(({ label, startNs, endNs, work }) => ({
    name: label,
    cat: "kernel",
    ph: "X",
    pid: 1,
    tid: 1,
    ts: (startNs - originNs) / 1000,
    dur: (endNs - startNs) / 1000,
    ...(work && { args: work }),
  }));
  return JSON.stringify({ displayTimeUnit: "ms", traceEvents });
}
