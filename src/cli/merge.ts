import { type Command, Option } from "commander";
import { EXPORT_DTYPES, type ExportDtype } from "../config/names.ts";
import { SIZE, sizeBytes } from "../config/sizes.ts";
import { InputError } from "../errors.ts";
import { formatFidelity } from "../export/fidelity.ts";
import { type MergeReport, mergeModel } from "../export/merge.ts";
import { requireFreshTarget } from "../export/staged-folder.ts";
import { resolveModel } from "../hub/resolve.ts";
import { openDevice } from "../platform/dawn.ts";
import { createTerminal, type Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { formatShare } from "../train/progress.ts";
import { openModelFolder } from "../weights/model-folder.ts";
import { readPeftAdapter } from "../weights/peft-adapter.ts";
import { addExamples } from "./examples.ts";
import { namingOption } from "./option-values.ts";
import { runCommand } from "./run-command.ts";

interface MergeCommandOptions {
  readonly model: string;
  readonly adapter: string;
  readonly output: string;
  readonly dtype: ExportDtype;
  readonly maxShardSize: string;
  readonly device: string;
  readonly json?: boolean;
}

/** `dpo-train merge`: a base and any PEFT LoRA adapter → a Hugging Face model folder, and how much the rounding kept. */
export function addMergeCommand(program: Command): void {
  const command = program
    .command("merge")
    .summary("fold an adapter into its base model")
    .description("fold a LoRA adapter into its base model, and report how much of it the rounding kept")
    .requiredOption("--model <folder or id>", "the base: a model folder or a Hugging Face Hub id")
    .requiredOption("--adapter <folder>", "a PEFT LoRA adapter")
    .requiredOption("--output <folder>", "where to write the merged model: a folder that does not exist, or is empty")
    .addOption(new Option("--dtype <dtype>", "number format of the weights").choices(EXPORT_DTYPES).default("bfloat16"))
    .option("--max-shard-size <size>", "largest size of one weight file, such as 5GB or 500MiB", "5GB")
    .option("--device <name>", "auto, software, or part of an adapter's name", "auto")
    .option("--json", "print the report as JSON");
  addExamples(command, [
    "dpo-train merge --model examples/twin-tiny/model --adapter runs/twin-tiny/adapter --output merged",
    "dpo-train merge --model meta-llama/Llama-3.2-1B-Instruct --adapter my-adapter --output merged --dtype float16",
  ]).action((options: MergeCommandOptions) => {
    const terminal = createTerminal(process.stderr);
    return runCommand({ terminal, whenInterrupted: "interrupted; nothing was written" }, (signal) =>
      merge(options, terminal, signal),
    );
  });
}

/** Whatever can be refused is refused before the model is fetched, and nothing is written before the device is open. */
async function merge(options: MergeCommandOptions, terminal: Terminal, signal: AbortSignal): Promise<void> {
  const maxShardBytes = parseSize(options.maxShardSize);
  await requireFreshTarget(options.output);
  const model = await resolveModel(options.model, {
    place: "--model",
    onNotice: terminal.line,
    onProgress: ({ doneBytes, totalBytes }) =>
      terminal.status(`fetching the model: ${formatShare(doneBytes, totalBytes)}`),
    signal,
  });
  const base = await openModelFolder(model.folder);
  try {
    const adapter = await namingOption("--adapter", readPeftAdapter(options.adapter, base.config));
    const device = await openDevice({ device: options.device });
    try {
      if (device.notice !== null) terminal.line(`dpo-train: ${device.notice}`);
      const startMs = performance.now();
      const report = await mergeModel({
        gpu: device.gpu,
        base,
        adapter,
        outputFolder: options.output,
        dtype: options.dtype,
        maxShardBytes,
        onProgress: (doneBytes, totalBytes) => terminal.status(`merging: ${formatShare(doneBytes, totalBytes)}`),
        signal,
      });
      terminal.line(summary(options.output, report, performance.now() - startMs));
      const result = { output: options.output, adapter_sha256: adapter.sha256Hex, ...report };
      const text = options.json ? JSON.stringify(result, null, 2) : formatFidelity(report.fidelity).join("\n");
      process.stdout.write(`${text}\n`);
    } finally {
      device.close();
    }
  } finally {
    await base.close();
  }
}

function parseSize(text: string): number {
  if (SIZE.test(text)) return sizeBytes(text);
  throw new InputError(`--max-shard-size must be a size such as 5GB or 500MiB, found "${printable(text)}"`);
}

function summary(output: string, { files, fidelity }: MergeReport, elapsedMs: number): string {
  const megabytes = files.reduce((sum, file) => sum + file.size_bytes, 0) / 1e6;
  const count = files.length === 1 ? "1 weight file" : `${files.length} weight files`;
  return `wrote ${printable(output, 1000)}: ${count}, ${megabytes.toFixed(1)} MB in ${fidelity.dtype}, in ${(elapsedMs / 1000).toFixed(1)} s`;
}
