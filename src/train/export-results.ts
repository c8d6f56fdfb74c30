import { join } from "node:path";
import { sizeBytes } from "../config/sizes.ts";
import { readLoraAdapter } from "../export/adapter.ts";
import { formatFidelity } from "../export/fidelity.ts";
import { type MergeReport, mergeModel } from "../export/merge.ts";
import type { Gpu } from "../gpu/gpu.ts";
import type { LoraBuffers } from "../model/lora.ts";
import type { Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { writePeftAdapter } from "../weights/peft-adapter.ts";
import type { PreparedRun } from "./prepare-run.ts";
import { formatShare } from "./progress.ts";

export interface ExportedResults {
  readonly adapterSha256: string;
  /** Null where the config asks for no merged model. */
  readonly merge: MergeReport | null;
}

/** The id or path by which PEFT finds the base of a run's adapter. */
export function baseModelOf({ config, model }: Pick<PreparedRun, "config" | "model">): string {
  return model.source === "local" ? config.model : model.repository;
}

/** Writes `adapter/` as PEFT reads it and `merged/` as transformers does, and tells how much of it the rounding kept. */
export async function exportResults(
  { config, model, folder }: PreparedRun,
  gpu: Gpu,
  buffers: LoraBuffers,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<ExportedResults> {
  const adapter = await readLoraAdapter(gpu, buffers);
  const adapterFolder = join(config.output_dir, "adapter");
  const adapterSha256 = await writePeftAdapter(adapterFolder, adapter, folder.config, baseModelOf({ config, model }));
  terminal.line(`wrote ${printable(adapterFolder, 1000)}`);
  if (!config.export.merged_16bit) return { adapterSha256, merge: null };

  const outputFolder = join(config.output_dir, "merged");
  const merge = await mergeModel({
    gpu,
    base: folder,
    adapter,
    outputFolder,
    dtype: config.export.dtype,
    maxShardBytes: sizeBytes(config.export.max_shard_size),
    onProgress: (doneBytes, totalBytes) => terminal.status(`merging: ${formatShare(doneBytes, totalBytes)}`),
    signal,
  });
  terminal.line(`wrote ${printable(outputFolder, 1000)}`);
  if (config.load_in_4bit) {
    terminal.line(
      "the adapter was merged into the model's own weights, not into the 4-bit ones that it was trained on",
    );
  }
  for (const line of formatFidelity(merge.fidelity)) terminal.line(line);
  return { adapterSha256, merge };
}
