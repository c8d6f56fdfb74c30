import { InputError } from "../errors.ts";
import { parseCase } from "../ops/fragment-shapes.ts";
import { tuneProducts } from "../ops/tune.ts";
import type { OpenedDevice } from "../platform/dawn.ts";
import { decisionsFile, readDecisions, writeDecisions } from "../platform/kept-decisions.ts";
import type { Terminal } from "../terminal.ts";

/**
 * Measures which tiles suit the products of a run on this device, once: what was measured before is read from the disk. On a
 * driver for the CPU the guess stands, as compiling the candidates would take longer than any of them saves.
 *
 * @param cases of `Gpu.decisions` that the run will ask for
 * @param signal aborted with the error to throw
 */
export async function tuneDevice(
  { gpu, adapter }: Pick<OpenedDevice, "gpu" | "adapter">,
  cases: readonly string[],
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  if (!gpu.fragments || adapter.software) return;
  const file = decisionsFile(adapter, gpu.fragments);
  const kept = await readDecisions(file, gpu.fragments);
  for (const [name, variant] of kept) gpu.decisions.decide(name, variant);
  const open = cases.filter((name) => parseCase(name) && !kept.has(name));
  if (open.length === 0) return;

  const startMs = performance.now();
  await tuneProducts(
    gpu,
    open,
    () => performance.now(),
    (done, total) => {
      signal.throwIfAborted();
      terminal.status(`measuring tiles for this GPU: ${done} of ${total} products`);
    },
  );
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
  try {
    await writeDecisions(file, gpu.decisions.made);
    terminal.line(`measured the tiles of ${open.length} products in ${seconds} s, kept for later runs on this GPU`);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    terminal.line(`note: the measured tiles could not be kept, so the next run measures again: ${error.message}`);
  }
}
