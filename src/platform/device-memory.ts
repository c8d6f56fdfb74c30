import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import type { AdapterDescription } from "./adapter.ts";

/** How long a tool may take to answer. */
const TIMEOUT_MS = 5000;

/**
 * Bytes of a GPU's memory that nobody uses, asked of its driver, as WebGPU does not say; null where nobody tells. Of several
 * GPUs of the same name, the least: WebGPU does not say which is used.
 */
export async function freeMemoryBytes({ name, vendor, software }: AdapterDescription): Promise<number | null> {
  if (software) return null;
  if (vendor === "nvidia") return freeOnNvidia(name);
  if (vendor === "amd" && process.platform === "linux") return freeOnAmd("/sys/class/drm");
  return null;
}

async function freeOnNvidia(name: string): Promise<number | null> {
  try {
    const query = ["--query-gpu=name,memory.free", "--format=csv,noheader,nounits"];
    const { stdout } = await promisify(execFile)("nvidia-smi", query, { timeout: TIMEOUT_MS });
    return leastFree(stdout, name);
  } catch {
    return null; // Not there, or not allowed.
  }
}

/** From lines such as `NVIDIA H200, 142901`, in MiB. Where none has the adapter's name, all count. */
export function leastFree(csv: string, adapterName: string): number | null {
  const gpus = csv.split("\n").flatMap((line) => {
    const [, name, mib] = /^(.+), *(\d+)\s*$/.exec(line) ?? [];
    return name ? [{ name, bytes: Number(mib) * 2 ** 20 }] : [];
  });
  // The longest name: an A100 is not an A10.
  const named = gpus.filter(({ name }) => adapterName.includes(name));
  const longest = Math.max(...named.map(({ name }) => name.length));
  const meant = named.length > 0 ? named.filter(({ name }) => name.length === longest) : gpus;
  const bytes = meant.map((gpu) => gpu.bytes);
  return bytes.length > 0 ? Math.min(...bytes) : null;
}

/** amdgpu's own files: total and used bytes of each card. */
export async function freeOnAmd(folder: string): Promise<number | null> {
  const free: number[] = [];
  const cards = await readdir(folder).catch(() => []);
  for (const card of cards.filter((name) => /^card\d+$/.test(name))) {
    const [total, used] = await Promise.all(
      ["mem_info_vram_total", "mem_info_vram_used"].map((file) => readBytes(path.join(folder, card, "device", file))),
    );
    if (typeof total === "number" && typeof used === "number") free.push(Math.max(0, total - used));
  }
  return free.length > 0 ? Math.min(...free) : null;
}

async function readBytes(file: string): Promise<number | null> {
  try {
    const text = (await readFile(file, "utf8")).trim();
    return /^\d+$/.test(text) ? Number(text) : null;
  } catch {
    return null; // Another vendor's card.
  }
}
