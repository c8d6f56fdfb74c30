import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import path from "node:path";
import type { FragmentUnit } from "../gpu/fragment-unit.ts";
import type { KernelSource } from "../gpu/pipelines.ts";
import { candidateFingerprint, isCandidate } from "../ops/fragment-shapes.ts";
import { writeFileAtomically } from "../weights/atomic-file.ts";
import { makeFolder } from "../weights/make-folder.ts";
import type { AdapterDescription } from "./adapter.ts";
import { cacheFolder } from "./cache-folder.ts";
import { readKernel } from "./kernels.ts";

/** Kernels whose variants are measured. */
const KERNELS = ["matmul/tensor", "matmul/tensor_tn"];

/**
 * Where the decisions for a device are kept: under a hash of all that they depend on, the adapter (whose name ends with the
 * driver's version), the kernels and the candidates.
 */
export function decisionsFile(
  adapter: Pick<AdapterDescription, "name" | "vendor" | "architecture">,
  unit: FragmentUnit,
  { folder = cacheFolder(), kernelSource = readKernel }: { folder?: string; kernelSource?: KernelSource } = {},
): string {
  const key = [
    adapter.name,
    adapter.vendor,
    adapter.architecture,
    candidateFingerprint(unit),
    ...KERNELS.map(kernelSource),
  ];
  return path.join(folder, "tuning", `${createHash("sha256").update(JSON.stringify(key)).digest("hex")}.json`);
}

/** Decisions by name; none where nothing usable is kept. What is no candidate's number is left out. */
export async function readDecisions(file: string, unit: FragmentUnit): Promise<Map<string, number>> {
  let kept: unknown;
  try {
    kept = JSON.parse(await readFile(file, "utf8"));
  } catch {
    return new Map(); // Not there, or damaged: measuring anew mends it.
  }
  if (typeof kept !== "object" || kept === null) return new Map();
  return new Map(
    Object.entries(kept).filter(
      (entry): entry is [string, number] => typeof entry[1] === "number" && isCandidate(unit, entry[0], entry[1]),
    ),
  );
}

/** @throws InputError where the file system refuses */
export async function writeDecisions(file: string, decisions: ReadonlyMap<string, number>): Promise<void> {
  await makeFolder(path.dirname(file));
  await writeFileAtomically(file, `${JSON.stringify(Object.fromEntries(decisions), null, 2)}\n`);
}
