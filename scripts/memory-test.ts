import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { loadConfig } from "../src/config/load.ts";
import { run } from "../src/train/run.ts";

// Trains for thousands of tiny steps, each time in a process of its own, and tells how its memory grows:
// npx tsx scripts/memory-test.ts [--steps 2000] [--every 100] [--device software]

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** What a run does besides its steps. */
export const VARIANTS = {
  "steps alone": "",
  "with an evaluation every 50 steps and a checkpoint every 20": `eval_dataset: test/golden/data/plain-eval.jsonl
eval_strategy: steps
eval_steps: 50
save_steps: 20
`,
} as const;

export type Variant = keyof typeof VARIANTS;

/** The process after so many steps. */
export interface MemorySample {
  readonly step: number;
  /** Of the whole process: JavaScript, Dawn, and a driver for the CPU with what it takes for the GPU's memory. */
  readonly residentBytes: number;
  /** JavaScript's, and what it holds outside of its heap. Where garbage is collected first: what is in use. */
  readonly heapBytes: number;
}

export interface MemoryTestOptions {
  readonly variant: Variant;
  readonly steps: number;
  /** Steps between two samples. */
  readonly every: number;
  readonly device: string;
  /** Whether garbage is collected before each sample. */
  readonly collectsGarbage: boolean;
}

/** Trains in this process. The working directory must be the repository's root, from where the config's paths are. */
export async function measureMemory(options: MemoryTestOptions): Promise<MemorySample[]> {
  const { variant, steps, every, device, collectsGarbage } = options;
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc") as () => void;
  const folder = await mkdtemp(join(tmpdir(), "dpo-train-memory-"));
  const samples: MemorySample[] = [];
  let step = 0;
  const onStep = () => {
    if (++step % every !== 0) return;
    if (collectsGarbage) collectGarbage();
    const { rss, heapUsed, external } = process.memoryUsage();
    samples.push({ step, residentBytes: rss, heapBytes: heapUsed + external });
  };
  try {
    const file = join(folder, "train.yaml");
    await writeFile(
      file,
      `model: test/golden/models/f16-one-kv
dataset: test/golden/data/plain-train.jsonl
prompt_template: alpaca
lora: {r: 2, lora_alpha: 4, target_modules: [q_proj]}
learning_rate: 1.0e-4
per_device_train_batch_size: 1
gradient_accumulation_steps: 1
max_steps: ${steps}
save_total_limit: 1
reference_cache: false
export: {merged_16bit: false}
output_dir: ${join(folder, "run")}
${VARIANTS[variant]}`,
    );
    const { config } = loadConfig(file, []);
    const terminal = { line: () => {}, status: () => {}, progress: onStep };
    await run({ config, device, profile: "fast", precision: "f32", dryRun: false }, terminal);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return samples;
}

/** `measureMemory` in a process of its own, as training has one. */
function measureApart(options: MemoryTestOptions): Promise<MemorySample[]> {
  const args = ["--import", "tsx", fileURLToPath(import.meta.url), "--only", JSON.stringify(options)];
  const child = spawn(process.execPath, args, { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (more: string) => {
    text += more;
  });
  return new Promise((resolve, reject) => {
    child.on("close", (code) => {
      if (code === 0) resolve(JSON.parse(text) as MemorySample[]);
      else reject(new Error(`the training ended with exit code ${code}`));
    });
  });
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      steps: { type: "string", default: "2000" },
      every: { type: "string", default: "100" },
      device: { type: "string", default: "software" },
      only: { type: "string" },
    },
  });
  if (values.only !== undefined) {
    process.stdout.write(JSON.stringify(await measureMemory(JSON.parse(values.only) as MemoryTestOptions)));
    return;
  }
  const { device } = values;
  const [steps, every] = [Number(values.steps), Number(values.every)];
  const mebibytes = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
  for (const variant of Object.keys(VARIANTS) as Variant[]) {
    console.log(
      `\n${variant}, resident memory and JavaScript's heap in use:\n\n| step | resident MiB | heap MiB |\n|--:|--:|--:|`,
    );
    const [natural, collected] = [
      await measureApart({ variant, steps, every, device, collectsGarbage: false }),
      await measureApart({ variant, steps, every, device, collectsGarbage: true }),
    ];
    for (const [i, { step, residentBytes }] of natural.entries()) {
      console.log(`| ${step} | ${mebibytes(residentBytes)} | ${mebibytes(collected[i]!.heapBytes)} |`);
    }
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) await main();
