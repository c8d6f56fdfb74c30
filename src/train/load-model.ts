import path from "node:path";
import type { Gpu } from "../gpu/gpu.ts";
import { cacheFolder } from "../platform/cache-folder.ts";
import { type LoadedBase, loadBaseWeights, type Precision } from "../platform/load-base.ts";
import type { Terminal } from "../terminal.ts";
import { formatSize } from "../text.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import { formatShare } from "./progress.ts";

export interface LoadSettings {
  readonly precision: Precision;
  /** Keep the weights as they lie on the GPU, and read what an earlier run has kept. */
  readonly weightsCache: boolean;
  /** Keep the projections in 4 bits. */
  readonly in4Bit: boolean;
}

/**
 * The base on the GPU; progress and speed go to the terminal. Into `timings` go load_s, load_bytes_per_s, and where
 * weights are kept for the next run keep_weights_s.
 *
 * @throws InputError as `loadBaseWeights`, the signal's reason when it is aborted
 */
export async function loadModel(
  gpu: Gpu,
  folder: ModelFolder,
  { precision, weightsCache, in4Bit }: LoadSettings,
  timings: Record<string, number>,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<LoadedBase> {
  const startMs = performance.now();
  const show = (what: string) => (doneBytes: number, totalBytes: number) => {
    signal.throwIfAborted();
    terminal.status(`${what}: ${formatShare(doneBytes, totalBytes)}`);
  };
  const base = await loadBaseWeights(gpu, folder, precision, {
    in4Bit,
    onProgress: show("loading the model"),
    cache: weightsCache
      ? {
          folder: path.join(cacheFolder(), "weights"),
          onNotice: terminal.line,
          onKeeping: show("keeping the converted weights"),
        }
      : null,
  });
  gpu.releaseStaging();
  const seconds = base.loadMs / 1000;
  const bytesPerSecond = base.readBytes / seconds;
  timings.load_s = rounded(seconds);
  timings.load_bytes_per_s = Math.round(bytesPerSecond);
  if (weightsCache && base.from === "files") {
    timings.keep_weights_s = rounded((performance.now() - startMs) / 1000 - seconds);
  }
  terminal.line(
    `loaded ${formatSize(base.readBytes)} in ${seconds.toFixed(1)} s (${formatSize(bytesPerSecond)}/s)` +
      `${base.from === "cache" ? " from the converted weights that an earlier run kept" : ""}`,
  );
  if (base.rounded > 0) terminal.line(`f16 rounded ${base.rounded} of the base's weights, which are below its range`);
  return base;
}

function rounded(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
