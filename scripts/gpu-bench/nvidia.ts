import { spawn } from "node:child_process";
import { median } from "../bench/measure.ts";

// What NVIDIA's own tool says of the cards while something runs. It is only asked; no setting is touched.

const FIELDS = ["index", "name", "driver_version", "memory.used", "clocks.sm", "power.draw"] as const;
const INTERVAL_MS = 250;
const MIB = 2 ** 20;

export interface CardSample {
  readonly index: number;
  readonly name: string;
  readonly driver: string;
  readonly usedBytes: number;
  readonly clockMhz: number;
  readonly powerWatts: number;
}

export interface CardUse {
  readonly name: string;
  readonly driver: string;
  /** Memory in use on the card, by anybody: before, and the most. */
  readonly used_before_bytes: number;
  readonly peak_bytes: number;
  readonly clock_mhz: number;
  readonly power_watts: number;
}

/** A line of `nvidia-smi --query-gpu=… --format=csv,noheader,nounits`, or null where it is none. */
export function parseSample(line: string): CardSample | null {
  const [index, name, driver, memory, clock, power] = line.split(",").map((field) => field.trim());
  if (power === undefined || !/^\d+$/.test(index!) || !/^\d+$/.test(memory!)) return null;
  return {
    index: Number(index),
    name: name!,
    driver: driver!,
    usedBytes: Number(memory) * MIB,
    clockMhz: Number(clock),
    powerWatts: Number(power),
  };
}

/** The card whose memory grew most; clock and power are medians over the time when it was in use. */
export function summarizeSamples(samples: readonly CardSample[]): CardUse | null {
  const cards = [...new Set(samples.map(({ index }) => index))].map((card): CardUse & { growth: number } => {
    const own = samples.filter(({ index }) => index === card);
    const [first] = own as [CardSample];
    const peak = Math.max(...own.map(({ usedBytes }) => usedBytes));
    const busy = own.filter(({ usedBytes }) => usedBytes >= (first.usedBytes + peak) / 2);
    return {
      name: first.name,
      driver: first.driver,
      used_before_bytes: first.usedBytes,
      peak_bytes: peak,
      clock_mhz: median(busy.map(({ clockMhz }) => clockMhz)),
      power_watts: median(busy.map(({ powerWatts }) => powerWatts)),
      growth: peak - first.usedBytes,
    };
  });
  const [most] = cards.sort((a, b) => b.growth - a.growth);
  if (!most) return null;
  const { growth, ...use } = most;
  return use;
}

/** Watches from now until it is stopped. Null where there is no nvidia-smi. */
export function watchCards(): { readonly stop: () => CardUse | null } {
  const samples: CardSample[] = [];
  const child = spawn(
    "nvidia-smi",
    [`--query-gpu=${FIELDS.join()}`, "--format=csv,noheader,nounits", `--loop-ms=${INTERVAL_MS}`],
    { stdio: ["ignore", "pipe", "ignore"] },
  );
  let rest = "";
  child.on("error", () => {}); // It is not installed: there are no samples.
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      const sample = parseSample(line);
      if (sample) samples.push(sample);
    }
  });
  return {
    stop: () => {
      child.kill();
      return summarizeSamples(samples);
    },
  };
}
