import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import type { SweepTask } from "../../../src/sweep/executors/executor.ts";
import {
  type KubernetesOptions,
  kubernetesManifest,
  writeKubernetesManifest,
} from "../../../src/sweep/executors/kubernetes.ts";

function tasks(...indices: number[]): SweepTask[] {
  return indices.map((index) => ({ index, name: `run-${index}`, folder: `/mnt/runs/β sweep/${index}` }));
}

const OPTIONS: KubernetesOptions = {
  tasks: tasks(0, 1, 2, 3),
  taskCommand: (index) => ["dpo-train", "sweep", "--config", "/mnt/runs/$(HOME) it's/sweep.yaml", "--only", `${index}`],
  sweepFolder: "/mnt/runs/Beta_sweep #2",
  image: "registry.example/dpo-train:1",
  claim: "experiments",
  mountPath: "/mnt",
  throttle: 2,
  retries: 3,
  gpuResource: "nvidia.com/gpu",
  namespace: null,
};

function manifestOf(options: Partial<KubernetesOptions> = {}) {
  return parse(kubernetesManifest({ ...OPTIONS, ...options }));
}

function containerOf(options: Partial<KubernetesOptions> = {}) {
  return manifestOf(options).spec.template.spec.containers[0];
}

/** What a container runs, as Kubernetes and then its shell expand it. */
function run(command: readonly string[], index: number): string {
  const words = command.map((word) =>
    word.replace(/\$\$|\$\((\w+)\)/g, (text, name) =>
      text === "$$" ? "$" : name === "JOB_COMPLETION_INDEX" ? `${index}` : "?",
    ),
  );
  const environment = { ...process.env, JOB_COMPLETION_INDEX: String(index) };
  const [program, ...args] = words[0] === "dpo-train" ? ["printf", "%s\\n", ...words.slice(1)] : words;
  const shown = args.map((arg) => arg.replace("exec dpo-train", "printf '%s\\n'"));
  return execFileSync(program!, shown, { env: environment, encoding: "utf8" }).trim().split("\n").join("|");
}

describe("the manifest for Kubernetes", () => {
  it("is an Indexed Job with a pod and a GPU for each run", () => {
    expect(manifestOf()).toMatchObject({
      apiVersion: "batch/v1",
      kind: "Job",
      metadata: { name: "dpo-train-beta-sweep-2" },
      spec: {
        completionMode: "Indexed",
        completions: 4,
        parallelism: 2,
        backoffLimitPerIndex: 3,
        template: {
          spec: { restartPolicy: "Never", volumes: [{ persistentVolumeClaim: { claimName: "experiments" } }] },
        },
      },
    });
    expect(containerOf()).toMatchObject({
      image: "registry.example/dpo-train:1",
      workingDir: "/mnt",
      resources: { limits: { "nvidia.com/gpu": 1 } },
      volumeMounts: [{ mountPath: "/mnt" }],
    });
    expect(containerOf().env[0].value).toContain("graphics");
  });

  it("does not begin again what ended with exit code 2 or 4, and does not count evictions", () => {
    const [lasting, disrupted] = manifestOf().spec.podFailurePolicy.rules;
    expect(lasting).toEqual({
      action: "FailIndex",
      onExitCodes: { containerName: containerOf().name, operator: "In", values: [2, 4] },
    });
    expect(disrupted).toEqual({ action: "Ignore", onPodConditions: [{ type: "DisruptionTarget", status: "True" }] });
  });

  it("gives each pod its run, with every other word as it is", () => {
    const { command } = containerOf();
    expect(run(command, 2)).toBe("sweep|--config|/mnt/runs/$(HOME) it's/sweep.yaml|--only|2");
  });

  it("gives the pods the runs that are left, also where those do not count from 0", () => {
    const options = { tasks: tasks(1, 5, 17) };
    const { command } = containerOf(options);
    expect(manifestOf(options).spec.completions).toBe(3);
    expect([0, 1, 2].map((index) => run(command, index))).toEqual(
      [1, 5, 17].map((index) => `sweep|--config|/mnt/runs/$(HOME) it's/sweep.yaml|--only|${index}`),
    );
  });

  it("has no more pods at once than runs, and all of them without a throttle", () => {
    expect(manifestOf({ throttle: 100 }).spec.parallelism).toBe(4);
    expect(manifestOf({ throttle: null }).spec.parallelism).toBe(4);
  });

  it("asks for other vendors' GPUs, or for none", () => {
    expect(containerOf({ gpuResource: "amd.com/gpu" })).toMatchObject({ resources: { limits: { "amd.com/gpu": 1 } } });
    expect(containerOf({ gpuResource: "amd.com/gpu" }).env).toBeUndefined();
    expect(containerOf({ gpuResource: null }).resources).toBeUndefined();
  });

  it("has a name that DNS takes, whatever the folder's", () => {
    const names = ["/mnt/ÄÖÜ", `/mnt/${"long-".repeat(30)}`, "/mnt/a--.b"].map(
      (sweepFolder) => manifestOf({ sweepFolder }).metadata.name as string,
    );
    expect(names.every((name) => /^[a-z]([a-z0-9-]{0,48}[a-z0-9])?$/.test(name))).toBe(true);
  });

  it("must be of a sweep in the mounted folder", () => {
    for (const sweepFolder of ["/elsewhere/sweep", "/workshop"]) {
      expect(() => kubernetesManifest({ ...OPTIONS, sweepFolder })).toThrow(
        `the sweep's output folder must be in the mounted folder /mnt, got ${sweepFolder}`,
      );
    }
  });

  it("is written beside the sweep, and told how to use", async () => {
    const folder = mkdtempSync(join(tmpdir(), "kubernetes sweep "));
    try {
      const lines: string[] = [];
      const line = (text: string) => void lines.push(text);
      const options = { ...OPTIONS, sweepFolder: folder, mountPath: tmpdir(), namespace: "research" };
      const path = await writeKubernetesManifest(options, { line, status: line, progress: line });
      expect(path).toBe(join(folder, "kubernetes.yaml"));
      expect(readFileSync(path, "utf8")).toBe(kubernetesManifest(options));
      expect(lines[1]).toBe(`  begin   kubectl apply -f '${path}'`);
      expect(lines.at(-1)).toMatch(/kubectl delete job\/dpo-train-kubernetes-sweep-\w+ --namespace=research/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  const reason = whyNoKubectl();
  it.skipIf(reason !== null)(
    `has only fields that Kubernetes knows${reason === null ? "" : `: skipped, ${reason}`}`,
    () => {
      const folder = mkdtempSync(join(tmpdir(), "kubectl-"));
      try {
        const file = join(folder, "job.yaml");
        const manifest = kubernetesManifest({ ...OPTIONS, namespace: "research" });
        writeFileSync(file, manifest);
        // Without a cluster: kubectl reads the file into its own types, which drop what they do not know, and writes them.
        const args = ["set", "image", "--local", `--filename=${file}`, "dpo-train=another", "--output=json"];
        const known = JSON.parse(execFileSync("kubectl", args, { encoding: "utf8" }));
        const written = parse(manifest);
        const [container] = written.spec.template.spec.containers;
        container.image = "another"; // It writes what it was told to change alone.
        container.resources.limits["nvidia.com/gpu"] = "1"; // As Kubernetes writes amounts.
        expect(known).toMatchObject(written);
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  );
});

function whyNoKubectl(): string | null {
  try {
    execFileSync("kubectl", ["version", "--client"], { stdio: "ignore" });
    return null;
  } catch {
    return "kubectl is not installed";
  }
}
