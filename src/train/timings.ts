/** Seconds of each phase of a run by its name, such as `train_s`. */
export type Timings = Record<string, number>;

/** Runs a phase of a run and adds how long it took, in seconds. */
export async function timed<T>(timings: Timings, name: string, phase: () => Promise<T>): Promise<T> {
  const startMs = performance.now();
  const result = await phase();
  timings[name] = (timings[name] ?? 0) + secondsSince(startMs);
  return result;
}

/** To the millisecond. */
export function secondsSince(startMs: number): number {
  return Math.round(performance.now() - startMs) / 1000;
}
