import { basename, join, relative, resolve } from "node:path";
import { stringify } from "yaml";
import { InputError } from "../../errors.ts";
import type { Terminal } from "../../terminal.ts";
import { printable } from "../../text.ts";
import { writeFileAtomically } from "../../weights/atomic-file.ts";
import type { SweepTask, TaskCommand } from "./executor.ts";
import { quote } from "./shell.ts";

export interface KubernetesOptions {
  /** The runs that are not at their end, at least one. */
  readonly tasks: readonly SweepTask[];
  /** What a container runs, so with the image's program in it, not this machine's. */
  readonly taskCommand: TaskCommand;
  /** The sweep's output folder, absolute. */
  readonly sweepFolder: string;
  /** The image that has dpo-train in it. */
  readonly image: string;
  /** The PersistentVolumeClaim that holds what this machine has under `mountPath`. */
  readonly claim: string;
  /** Where containers have the claim's files: the same absolute path as here. Relative paths of the config begin there. */
  readonly mountPath: string;
  /** Most pods at once; null: all. */
  readonly throttle: number | null;
  /** How often the pod of a run is made again after it broke off. */
  readonly retries: number;
  /** The extended resource that stands for one GPU; null: none. */
  readonly gpuResource: string | null;
  readonly namespace: string | null;
}

/** Kubernetes puts a pod's index in place of this, in a command as well as in a value of the environment. */
const INDEX = "$(JOB_COMPLETION_INDEX)";
const CONTAINER = "dpo-train";
/** Exit codes after which the same would come again: bad input, and a non-finite value. */
const LASTING_EXIT_CODES = [2, 4];
/** From being told to end to being killed: the time to finish a step and save a checkpoint. */
const GRACE_SECONDS = 120;
/** A label's length in DNS, less what Kubernetes puts behind a Job's name for a pod's. */
const MAX_NAME_LENGTH = 50;

/**
 * The manifest (YAML) of an Indexed Job that trains each run in a pod of its own: batch/v1 of Kubernetes 1.29 or newer. A
 * pod that breaks off is made again, `retries` times for each run; one that was evicted or preempted, always; one that ended
 * with exit code 2 or 4, never.
 *
 * @throws InputError where the sweep's folder is not under the mount path
 */
export function kubernetesManifest(options: KubernetesOptions): string {
  const { tasks, sweepFolder, mountPath, throttle, retries, namespace } = options;
  const path = relative(resolve(mountPath), sweepFolder);
  if (path.startsWith("..") || path === sweepFolder) {
    throw new InputError(
      `the sweep's output folder must be in the mounted folder ${printable(mountPath)}, got ${printable(sweepFolder)}`,
    );
  }
  const manifest = {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: {
      name: jobName(sweepFolder),
      ...(namespace === null ? {} : { namespace }),
      labels: { "app.kubernetes.io/name": "dpo-train" },
    },
    spec: {
      completionMode: "Indexed",
      completions: tasks.length,
      parallelism: Math.min(throttle ?? tasks.length, tasks.length),
      backoffLimitPerIndex: retries,
      podFailurePolicy: {
        rules: [
          {
            action: "FailIndex",
            onExitCodes: { containerName: CONTAINER, operator: "In", values: LASTING_EXIT_CODES },
          },
          { action: "Ignore", onPodConditions: [{ type: "DisruptionTarget", status: "True" }] },
        ],
      },
      template: { spec: podSpec(options) },
    },
  };
  // Long lines stay whole, so that a command can be read and copied.
  return stringify(manifest, { lineWidth: 0 });
}

function podSpec({ image, claim, mountPath, gpuResource, ...options }: KubernetesOptions): object {
  const isNvidia = gpuResource?.startsWith("nvidia.com/") ?? false;
  return {
    // A pod that broke off is replaced by the Job, which counts it.
    restartPolicy: "Never",
    terminationGracePeriodSeconds: GRACE_SECONDS,
    containers: [
      {
        name: CONTAINER,
        image,
        command: podCommand(options),
        workingDir: mountPath,
        // Without `graphics`, NVIDIA's container runtime leaves its Vulkan driver out.
        ...(isNvidia ? { env: [{ name: "NVIDIA_DRIVER_CAPABILITIES", value: "compute,graphics,utility" }] } : {}),
        ...(gpuResource === null ? {} : { resources: { limits: { [gpuResource]: 1 } } }),
        volumeMounts: [{ name: "files", mountPath }],
      },
    ],
    volumes: [{ name: "files", persistentVolumeClaim: { claimName: claim } }],
  };
}

function podCommand({ tasks, taskCommand }: Pick<KubernetesOptions, "tasks" | "taskCommand">): string[] {
  const indices = tasks.map(({ index }) => index);
  if (indices.every((index, place) => index === place)) {
    return taskCommand(INDEX).map((word) => (word === INDEX ? word : literal(word)));
  }
  // Of a sweep in which some runs are at their end, the pods have the numbers of those that are not.
  const words = taskCommand("$1").map((word) => (word === "$1" ? '"$1"' : quote(word)));
  const script = literal(`shift ${INDEX_OF_SHELL}; exec ${words.join(" ")}`);
  return ["/bin/sh", "-c", script, "sh", ...indices.map(String)];
}

/** The pod's index as its shell knows it: Kubernetes sets the variable in every pod of an Indexed Job. */
const INDEX_OF_SHELL = '"$JOB_COMPLETION_INDEX"';

/** A word that Kubernetes leaves as it is. */
function literal(word: string): string {
  return word.replaceAll("$(", "$$$$(");
}

/** A Job's name after the sweep's folder: a label of DNS (RFC 1123). */
function jobName(sweepFolder: string): string {
  const name = basename(sweepFolder)
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-");
  return `dpo-train-${name}`.slice(0, MAX_NAME_LENGTH).replace(/-+$/, "");
}

/**
 * Writes the manifest beside the sweep and says how to use it. Returns its path.
 *
 * @throws InputError
 */
export async function writeKubernetesManifest(options: KubernetesOptions, terminal: Terminal): Promise<string> {
  const manifest = kubernetesManifest(options);
  const path = join(options.sweepFolder, "kubernetes.yaml");
  await writeFileAtomically(path, manifest);
  const name = jobName(options.sweepFolder);
  const inNamespace = options.namespace === null ? "" : ` --namespace=${options.namespace}`;
  terminal.line(`wrote ${path}`);
  terminal.line(`  begin   kubectl apply -f ${quote(path)}`);
  terminal.line(`  follow  kubectl get job/${name} --watch${inNamespace}`);
  terminal.line(`  logs    kubectl logs --prefix --follow --selector=job-name=${name}${inNamespace}`);
  terminal.line(`  end     kubectl delete job/${name}${inNamespace} (each run saves a checkpoint)`);
  return path;
}
