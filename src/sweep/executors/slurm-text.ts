import { isInQueue, type QueueEntry } from "./slurm-commands.ts";

/** How a task was lost, for a sentence, and what helps against it. */
export function lossOf(entry: QueueEntry | null): { what: string; remedy: string } {
  // What was last seen in the queue does not say as what it left.
  const { state, node } = entry === null || isInQueue(entry) ? { state: "", node: "" } : entry;
  const where = node === "" ? "" : ` on ${node}`;
  const what = `its task left the queue${where}${state === "" ? "" : ` as ${state}`} before the run's end`;
  return { what, remedy: REMEDIES[state]?.(node) ?? "mend what its log shows, and start the same command again" };
}

const REMEDIES: Readonly<Record<string, (node: string) => string>> = {
  CANCELLED: () => "the same command, started again, submits it",
  TIMEOUT: () => "give each task more time (--time), or save more often (save_steps)",
  OUT_OF_MEMORY: () => "give each task more memory (--mem)",
  NODE_FAIL: (node) => `leave the node out (--exclude=${node}), and start the same command again`,
  PREEMPTED: () => "take a partition or QOS whose jobs are not preempted, or save more often (save_steps)",
};

/** `10 runs: 3 ended, 2 running, 5 pending (Resources)`. */
export function queueSummary(tracked: readonly { place: string; entry: QueueEntry | null }[]): string {
  const counts = new Map<string, number>();
  for (const { place, entry } of tracked) {
    const state = place === "queued" ? (entry?.state ?? "") : place;
    counts.set(state, (counts.get(state) ?? 0) + 1);
  }
  const reasons = tracked.flatMap(({ place, entry }) =>
    place === "queued" && entry?.state === "PENDING" && entry.reason !== "" ? [entry.reason] : [],
  );
  const parts = [...counts].map(([state, count]) => {
    const reason = state === "PENDING" && reasons.length > 0 ? ` (${[...new Set(reasons)].join(", ")})` : "";
    return `${count} ${state.toLowerCase().replaceAll("_", " ")}${reason}`;
  });
  return `${tracked.length === 1 ? "1 run" : `${tracked.length} runs`}: ${parts.join(", ")}`;
}
