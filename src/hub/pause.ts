import { setTimeout as sleep } from "node:timers/promises";

/** Waits. @throws the signal's reason as soon as it is aborted. */
export async function pause(waitMs: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(waitMs, undefined, signal ? { signal } : {});
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}
