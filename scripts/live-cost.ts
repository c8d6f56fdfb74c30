import { appendFile, cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { serveLive } from "../src/live/server.ts";

// What the live page costs: npx tsx scripts/live-cost.ts RUN_FOLDER [--history N] [--rate N] [--readers N] [--seconds N]
//
// Serves a copy of a run that has N records behind it and makes more at a rate (in a second), to readers that take what
// comes, and prints the processor time of the whole, as a share of one core. What writes the records, and the readers, are
// in it: the thread beside a run costs less.

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
  const server = await serveLive({ kind: "run", folder: copy }, 0, console.error);
  for (let i = 0; i < readers; i++) void read(server.url);
  await sleep(5000); // What every page costs once.
  const [before, startMs] = [process.cpuUsage(), performance.now()];
  for (let step = history + 1; performance.now() - startMs < 1000 * seconds; step++) {
    await appendFile(metrics, line(step));
    await sleep(1000 / rate);
  }
  const { user, system } = process.cpuUsage(before);
  const share = (user + system) / 1000 / (performance.now() - startMs);
  console.log(
    JSON.stringify({ history, records_per_second: rate, readers, share_of_a_core: Number(share.toFixed(4)) }),
  );
  await server.end();
} finally {
  await rm(folder, { recursive: true, force: true });
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
