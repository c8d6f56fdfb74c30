import { createHash } from "node:crypto";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { Sweep } from "../config/sweep.ts";
import { InputError } from "../errors.ts";
import type { OpenRun } from "../sweep/check-sweep.ts";
import type { ExecutorOptions, TaskCommand, UnfinishedRun } from "../sweep/executors/executor.ts";
import { placesFor, sharedPlaces } from "../sweep/executors/gpu-pinning.ts";
import { writeKubernetesManifest } from "../sweep/executors/kubernetes.ts";
import { runLocally } from "../sweep/executors/local.ts";
import { listGpus } from "../sweep/executors/local-gpus.ts";
import { runOnSlurm } from "../sweep/executors/slurm.ts";
import { readRecords, readState } from "../sweep/run-files.ts";
import type { Terminal } from "../terminal.ts";
import { writeFileAtomically } from "../weights/atomic-file.ts";
import type { DeviceOptions } from "./device-options.ts";
import { parseWholeNumber } from "./option-values.ts";

export const EXECUTORS = ["local", "slurm", "kubernetes"] as const;

export interface ExecutorChoice extends DeviceOptions {
  readonly executor?: (typeof EXECUTORS)[number];
  readonly gpus?: string;
  readonly throttle?: string;
  readonly retries?: string;
  readonly sbatch?: readonly string[];
  readonly image?: string;
  readonly claim?: string;
  readonly namespace?: string;
  readonly stopWorse?: string;
}

/** Which executors an option is for. */
const OPTIONS = {
  gpus: ["local"],
  throttle: ["slurm", "kubernetes"],
  retries: EXECUTORS,
  sbatch: ["slurm"],
  image: ["kubernetes"],
  claim: ["kubernetes"],
  namespace: ["kubernetes"],
} as const;

/** How often a task that was lost is begun again without having got any further. */
const RETRIES = 3;

/** @throws InputError where an option is given that does nothing, or one is missing */
export function checkExecutor(choice: ExecutorChoice): void {
  for (const [name, executors] of Object.entries(OPTIONS)) {
    const isUsed = (executors as readonly string[]).includes(choice.executor ?? "");
    if (choice[name as keyof typeof OPTIONS] === undefined || isUsed) continue;
    throw new InputError(`--${name} has no effect without --executor ${executors.join(" or ")}`);
  }
  if (choice.executor === "local" && choice.gpus === undefined) {
    throw new InputError("--executor local needs --gpus N: how many GPUs of this machine to train on");
  }
  if (choice.executor === "kubernetes" && (choice.image === undefined || choice.claim === undefined)) {
    throw new InputError(
      "--executor kubernetes needs --image, an image with dpo-train in it, and --claim, the PersistentVolumeClaim that holds this folder",
    );
  }
}

/**
 * Trains runs in processes of their own, on this machine or on others that share its files; for Kubernetes it only says how.
 * Returns the runs that were given up; null where nothing was trained yet.
 */
export async function runElsewhere(
  sweep: Sweep,
  open: readonly OpenRun[],
  choice: ExecutorChoice,
  onChange: () => Promise<void>,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<readonly UnfinishedRun[] | null> {
  const sweepFolder = path.resolve(sweep.folder);
  const sweepId = createHash("sha256").update(sweep.yaml).digest("hex").slice(0, 12);
  // The config may be edited while tasks still wait for their turn.
  const config = path.join(sweepFolder, `sweep-${sweepId}.yaml`);
  await writeFileAtomically(config, sweep.yaml);
  const arguments_ = ["sweep", "--config", config, ...passedOn(choice)];
  const number = (option: "throttle" | "retries") =>
    choice[option] === undefined
      ? null
      : parseWholeNumber(`--${option}`, choice[option], { least: option === "retries" ? 0 : 1 });
  const options: ExecutorOptions = {
    tasks: open.map(({ run, index }) => ({ index, name: run.name, folder: path.resolve(run.config.output_dir) })),
    taskCommand: taskCommand([process.execPath, fileURLToPath(new URL("main.js", import.meta.url))], arguments_),
    statusOf: async ({ folder }) => (await readState(folder)).status,
    stepsOf: async ({ folder }) => (await readRecords(folder)).train.at(-1)?.step ?? 0,
    sweepFolder,
    terminal,
    signal,
    retries: number("retries") ?? RETRIES,
    onChange,
  };
  const throttle = number("throttle");
  switch (choice.executor!) {
    case "slurm":
      return runOnSlurm({ ...options, sweepId, throttle, sbatchOptions: choice.sbatch ?? [] });
    case "local":
      return runLocally({ ...options, places: placesOf(choice, terminal) });
    case "kubernetes":
      await writeKubernetesManifest(
        {
          ...options,
          taskCommand: taskCommand(["dpo-train"], arguments_),
          image: choice.image!,
          claim: choice.claim!,
          mountPath: process.cwd(),
          throttle,
          gpuResource: choice.device === "software" ? null : "nvidia.com/gpu",
          namespace: choice.namespace ?? null,
        },
        terminal,
      );
      return null;
  }
}

function taskCommand(program: readonly string[], arguments_: readonly string[]): TaskCommand {
  return (index) => [...program, ...arguments_, "--only", String(index)];
}

/** What tasks are told besides which run to train. */
function passedOn({ device, precision, weightsCache, deviceMemory, safe, watch, stopWorse }: ExecutorChoice): string[] {
  return [
    ...["--device", device, "--precision", precision],
    ...(weightsCache ? ["--weights-cache"] : []),
    ...(deviceMemory === undefined ? [] : ["--device-memory", deviceMemory]),
    ...(safe ? ["--safe"] : []),
    ...(watch ? ["--watch"] : []),
    ...(stopWorse === undefined ? [] : ["--stop-worse", stopWorse]),
  ];
}

function placesOf({ gpus, device }: ExecutorChoice, terminal: Terminal) {
  const count = parseWholeNumber("--gpus", gpus!, { least: 1 });
  const found = device === "software" ? [] : listGpus();
  if (found.length > 0) return placesFor(count, found);
  if (count > 1) terminal.line(`no GPU found: ${count} processes share the CPU`);
  return sharedPlaces(count);
}
