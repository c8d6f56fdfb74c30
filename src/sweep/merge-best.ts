import { existsSync } from "node:fs";
import path from "node:path";
import { sizeBytes } from "../config/sizes.ts";
import type { SweepRun } from "../config/sweep.ts";
import { formatFidelity } from "../export/fidelity.ts";
import { mergeModel } from "../export/merge.ts";
import { resolveModel } from "../hub/resolve.ts";
import { openDevice } from "../platform/dawn.ts";
import type { Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { fetching } from "../train/begin-run.ts";
import { formatShare } from "../train/progress.ts";
import type { SessionRequest } from "../train/session.ts";
import { openModelFolder } from "../weights/model-folder.ts";
import { readPeftAdapter } from "../weights/peft-adapter.ts";

/** Writes `merged/` of a sweep's best run, unless it is there or the config wants none. */
export async function mergeBest(
  { name, config, export: settings }: SweepRun,
  { device }: Pick<SessionRequest, "device">,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const outputFolder = path.join(config.output_dir, "merged");
  if (!settings.merged_16bit || existsSync(outputFolder)) return;
  const model = await resolveModel(config.model, fetching("model", terminal, signal));
  const base = await openModelFolder(model.folder);
  try {
    const adapter = await readPeftAdapter(path.join(config.output_dir, "adapter"), base.config);
    const opened = await openDevice({ device });
    try {
      const report = await mergeModel({
        gpu: opened.gpu,
        base,
        adapter,
        outputFolder,
        dtype: settings.dtype,
        maxShardBytes: sizeBytes(settings.max_shard_size),
        onProgress: (done, total) => terminal.status(`merging ${printable(name)}: ${formatShare(done, total)}`),
        signal,
      });
      terminal.line(`wrote ${printable(outputFolder, 1000)}, the merged model of the best run`);
      for (const line of formatFidelity(report.fidelity)) terminal.line(line);
    } finally {
      opened.close();
    }
  } finally {
    await base.close();
  }
}
