import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

// What a sweep of configs/twin-tiny.yaml costs beside runs of their own: npm run build && npx tsx scripts/sweep-cost.ts
//
// Both begin with an empty cache. Separate runs all cost the same, whatever they are given, so --separate measures some of
// them, in turns without and with the reference kept by the one before; their mean counts for each of the others.
// --stop-worse-only leaves out the sweep whose runs all come to their end. --keep FOLDER keeps what the runs have written. On a busy machine read the seconds of CPU.

const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** Losses of one beta are on one scale, so the runs can be compared by their evaluation loss. */
const GRID =
  "{grid: {learning_rate: [3.0e-5, 5.0e-5, 1.0e-4, 2.0e-4, 3.0e-4, 5.0e-4, 7.0e-4, 1.0e-3, 1.5e-3, 2.0e-3, 3.0e-3, 5.0e-3]}}";
const RUNS = 12;

const { values } = parseArgs({
  options: {
    separate: { type: "string", default: "2" },
    set: { type: "string", multiple: true, default: [] },
    "stop-worse-only": { type: "boolean" },
    keep: { type: "string" },
  },
});
const folder = values.keep ?? (await mkdtemp(path.join(tmpdir(), "sweep-cost-")));
try {
  const separate = { alone: [] as Cost[], cached: [] as Cost[] };
  for (let i = 0; i < Number(values.separate); i++) {
    const cache = path.join(folder, `cache-${i}`);
    separate.alone.push(await cost(["--set", `output_dir=${folder}/alone-${i}`], cache));
    separate.cached.push(await cost(["--set", `output_dir=${folder}/cached-${i}`], cache));
  }
  const sweep = (name: string, ...more: string[]) =>
    cost(
      ["sweep", "--set", `sweep=${GRID}`, "--set", `output_dir=${folder}/${name}`, ...more],
      path.join(folder, name),
    );
  const result = {
    runs: RUNS,
    separate,
    sweep: values["stop-worse-only"] ? null : await sweep("sweep"),
    sweep_stop_worse: await sweep("sweep-stop-worse", "--stop-worse", "median"),
  };
  const file = path.resolve("sweep-cost.json");
  await writeFile(file, `${JSON.stringify(result, null, 2)}\n`);
  report(result);
  console.log(`wrote ${file}`);
} finally {
  if (values.keep === undefined) await rm(folder, { recursive: true, force: true });
}

interface Cost {
  readonly seconds: number;
  /** On all cores, of user and system. */
  readonly cpuSeconds: number;
}

async function cost(args: readonly string[], cache: string): Promise<Cost> {
  const [command, ...rest] = args[0] === "sweep" ? args : ["", ...args];
  const words = [...(command ? [command] : []), "--config", "configs/twin-tiny.yaml", ...rest];
  const settings = values.set.flatMap((setting) => ["--set", setting]);
  const child = spawn(
    "bash",
    [
      "-c",
      'TIMEFORMAT="%R %U %S"; time "$@" > /dev/null',
      "bash",
      process.execPath,
      "dist/cli/main.js",
      ...words,
      ...settings,
    ],
    { cwd: ROOT, env: { ...process.env, XDG_CACHE_HOME: cache }, stdio: ["ignore", "inherit", "pipe"] },
  );
  let text = "";
  child.stderr!.setEncoding("utf8").on("data", (part: string) => {
    text += part;
  });
  const code = await new Promise((resolve) => child.on("close", resolve));
  if (code !== 0) throw new Error(`dpo-train ${words.join(" ")} ended with ${code}: ${text}`);
  const [seconds = Number.NaN, user = Number.NaN, system = Number.NaN] = text
    .trim()
    .split("\n")
    .at(-1)!
    .split(" ")
    .map(Number);
  const found = { seconds, cpuSeconds: user + system };
  console.log(`${words.join(" ").slice(0, 100)}: ${seconds} s, ${found.cpuSeconds.toFixed(0)} s of CPU`);
  return found;
}

function report(result: {
  readonly separate: { readonly alone: Cost[]; readonly cached: Cost[] };
  readonly sweep: Cost | null;
  readonly sweep_stop_worse: Cost;
}): void {
  for (const unit of ["seconds", "cpuSeconds"] as const) {
    const mean = (costs: readonly Cost[]) => costs.reduce((sum, one) => sum + one[unit], 0) / costs.length;
    const alone = RUNS * mean(result.separate.alone);
    const cached = mean(result.separate.alone) + (RUNS - 1) * mean(result.separate.cached);
    const parts = [
      `${unit}: ${RUNS} runs of their own ${alone.toFixed(0)}, sharing the reference on disk ${cached.toFixed(0)}`,
    ];
    for (const [name, found] of Object.entries({
      sweep: result.sweep,
      "--stop-worse median": result.sweep_stop_worse,
    })) {
      if (!found) continue;
      const shares = [alone, cached].map((whole) => `${((100 * found[unit]) / whole).toFixed(0)} %`);
      parts.push(`${name} ${found[unit].toFixed(0)} (${shares.join(", ")})`);
    }
    console.log(parts.join("; "));
  }
}
