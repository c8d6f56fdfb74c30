import { cpus } from "node:os";

/** Milliseconds that the processors have worked since they were started, for anybody, and that they have been idle. */
function processorTimes(): { busyMs: number; idleMs: number } {
  const totals = { busyMs: 0, idleMs: 0 };
  for (const { times } of cpus()) {
    totals.busyMs += times.user + times.nice + times.sys + times.irq;
    totals.idleMs += times.idle;
  }
  return totals;
}

/** Returns a function that tells the share of the processors' time that other processes have taken since: 0 to 1. */
export function watchOthers(): () => number {
  const start = processorTimes();
  const own = process.cpuUsage();
  return () => {
    const end = processorTimes();
    const { user, system } = process.cpuUsage(own);
    const busyMs = end.busyMs - start.busyMs;
    const totalMs = busyMs + end.idleMs - start.idleMs;
    return Math.max(0, busyMs - (user + system) / 1000) / totalMs;
  };
}
