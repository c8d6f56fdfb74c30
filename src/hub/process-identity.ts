import { readFile, readlink } from "node:fs/promises";
import { hostname } from "node:os";

/** A process, told from all others: those of other machines, those before a restart, and those that get its number later. */
export interface ProcessIdentity {
  readonly host: string;
  /** Of the machine's last start, and of the numbers that processes have in a container; empty where the system does not say. */
  readonly bootId: string;
  readonly pidNamespace: string;
  readonly pid: number;
  /** When it began, in ticks of the system's clock; null where the system does not say. */
  readonly startTicks: string | null;
}

export async function thisProcess(): Promise<ProcessIdentity> {
  const [bootId, pidNamespace, status] = await Promise.all([
    readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => ""),
    readlink("/proc/self/ns/pid").catch(() => ""),
    readStatus(process.pid),
  ]);
  return {
    host: hostname(),
    bootId: bootId.trim(),
    pidNamespace,
    pid: process.pid,
    startTicks: status?.startTicks ?? null,
  };
}

/** Unknown of a process of another machine, and where its number is in use and the system does not say by whom. */
export async function lifeOf(of: ProcessIdentity): Promise<"alive" | "gone" | "unknown"> {
  const own = await thisProcess();
  if (of.host !== own.host || of.bootId !== own.bootId || of.pidNamespace !== own.pidNamespace) return "unknown";
  try {
    process.kill(of.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return "gone";
  }
  const status = await readStatus(of.pid);
  if (!status || of.startTicks === null) return "unknown";
  return status.startTicks === of.startTicks && !status.hasEnded ? "alive" : "gone";
}

/** Of `man 5 proc`: field 3, and field 22. The command's name, in parentheses before them, may hold anything. */
async function readStatus(pid: number): Promise<{ startTicks: string; hasEnded: boolean } | null> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state, startTicks] = [fields[0], fields[19]];
  // One that has ended keeps its number until its parent has asked for its exit code.
  return startTicks === undefined ? null : { startTicks, hasEnded: state === "Z" || state === "X" };
}
