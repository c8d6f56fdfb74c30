/** How far a run has come, and in which time: evaluations are left out. */
export interface Progress {
  readonly steps: number;
  readonly pairs: number;
  readonly tokens: number;
  readonly elapsedMs: number;
}

/** What a run has taken, now. */
export interface MemoryUse {
  /** Of the GPU: all buffers. */
  readonly gpuBytes: number;
  /** Of the host: the process's resident set. */
  readonly hostBytes: number;
}

/** A line of performance.jsonl. Rates are over the steps since the line before it; evaluations are left out of all times. */
export interface PerformanceRecord {
  readonly step: number;
  /** In training steps since the run began, in all its processes. */
  readonly elapsed_s: number;
  readonly pairs_per_second: number;
  /** Of prompts and both answers, without padding. */
  readonly tokens_per_second: number;
  /** In 10⁹ bytes. */
  readonly gpu_memory_gb: number;
  readonly host_memory_gb: number;
}

const RATE_DIGITS = 4;

export function performanceRecord(now: Progress, before: Progress, memory: MemoryUse): PerformanceRecord {
  const seconds = Math.max(1, now.elapsedMs - before.elapsedMs) / 1000;
  const rate = (count: number) => Number((count / seconds).toPrecision(RATE_DIGITS));
  return {
    step: now.steps,
    elapsed_s: Math.round(now.elapsedMs) / 1000,
    pairs_per_second: rate(now.pairs - before.pairs),
    tokens_per_second: rate(now.tokens - before.tokens),
    gpu_memory_gb: gigabytes(memory.gpuBytes),
    host_memory_gb: gigabytes(memory.hostBytes),
  };
}

function gigabytes(bytes: number): number {
  return Math.round(bytes / 1e6) / 1000;
}
