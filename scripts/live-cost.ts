import { spawn } from "node:child_process";
import { appendFile, cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

// What the live page costs, on Linux: npm run build && npx tsx scripts/live-cost.ts RUN_FOLDER [--history N] [--rate N]
// [--readers N] [--seconds N]
//
// `dpo-train report --live` serves a copy of a run that has N records behind it and gets more at a rate (in a second), to
// readers that take what comes. Prints the processor time of that process as a share of one core: a run has the same in a
// thread of its own.

const MAIN = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    history: { type: "string", default: "0" },
    rate: { type: "string", default: "1" },
    readers: { type: "string", default: "1" },
    seconds: { type: "string", default: "30" },
  },
});
const [history, rate, readers, seconds] = [values.history, values.rate, values.readers, values.seconds].map(Number) as [
  number,
  number,
  number,
  number,
];
const [run] = positionals;
if (run === undefined) throw new Error("name the output folder of a run");
const folder = await mkdtemp(path.join(tmpdir(), "live-cost-"));
try {
  const copy = path.join(folder, "run");
  await cp(run, copy, {
    recursive: true,
    filter: (file) => !/(checkpoints|adapter|merged|tensorboard|tracking)$/.test(file),
  });
  const metrics = path.join(copy, "metrics.jsonl");
  await writeFile(metrics, Array.from({ length: history }, (_, i) => line(i + 1)).join(""));
  const server = spawn(process.execPath, [MAIN, "report", copy, "--live", "0"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const url = await addressOf(server.stdout);
  for (let i = 0; i < readers; i++) void read(url).catch(() => {});
  await sleep(5000); // What every page costs once.
  const [beforeMs, startMs] = [await processorMs(server.pid!), performance.now()];
  for (let step = history + 1; performance.now() - startMs < 1000 * seconds; step++) {
    await appendFile(metrics, line(step));
    await sleep(1000 / rate);
  }
  const share = ((await processorMs(server.pid!)) - beforeMs) / (performance.now() - startMs);
  console.log(
    JSON.stringify({ history, records_per_second: rate, readers, share_of_a_core: Number(share.toFixed(4)) }),
  );
  server.kill();
} finally {
  await rm(folder, { recursive: true, force: true });
}

async function addressOf(output: AsyncIterable<Buffer>): Promise<string> {
  let text = "";
  for await (const part of output) {
    text += part.toString();
    const address = /^live page: (http:\S+)$/m.exec(text)?.[1];
    if (address) return address;
  }
  throw new Error("it serves nothing");
}

/** Of user and system, in clock ticks of 10 ms: see proc(5). */
async function processorMs(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8");
  const [user, system] = text.slice(text.lastIndexOf(")")).split(" ").slice(12, 14).map(Number);
  return 10 * (user! + system!);
}

function line(step: number): string {
  const names = ["loss", "grad_norm", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"];
  const more = ["logps/chosen", "logps/rejected", "kl", "learning_rate", "entropy", "mean_token_accuracy"];
  const found = [...names, ...more].map((name, i) => [name, Math.sin(step / 50 + i)]);
  return `${JSON.stringify({ step, epoch: step / 1000, ...Object.fromEntries(found) })}\n`;
}

/** Takes all events of a page, as an open page does. */
async function read(url: string): Promise<void> {
  const page = await (await fetch(url)).text();
  const { events } = JSON.parse(/id="page-data">([^<]*)</.exec(page)![1]!) as { events: string };
  const response = await fetch(new URL(events, url));
  for await (const _ of response.body!);
}
