import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { hostname, tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";

/** A whole Slurm cluster on this machine: munged, slurmctld and one slurmd, on loopback, in a temporary folder. */
export interface SlurmCluster {
  /** For the environment of Slurm's commands. */
  readonly configFile: string;
  readonly node: string;
  /** Runs a command of Slurm and returns what it prints. */
  readonly command: (name: string, ...args: string[]) => Promise<string>;
  readonly startController: () => Promise<void>;
  readonly stopController: () => Promise<void>;
  /** Ends every process and removes the folder. */
  readonly stop: () => Promise<void>;
}

/** Device files that stand for GPUs: what Slurm asks of them is that they exist. */
const GPU_FILES = ["/dev/null", "/dev/zero", "/dev/full"];
const START_TIMEOUT_MS = 30_000;

/** Where Debian has the daemons, which are not on every user's PATH. */
const PROGRAM_FOLDERS = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

function findProgram(name: string): string | null {
  const folders = [...PROGRAM_FOLDERS, ...(process.env.PATH ?? "").split(":")];
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path)) ?? null;
}

/** Why no cluster can be started here; null where one can. */
export function whyNoSlurm(): string | null {
  const missing = ["munged", "slurmctld", "slurmd", "sbatch", "squeue"].filter((name) => findProgram(name) === null);
  if (missing.length > 0) return `${missing.join(", ")} not found (Debian: apt-get install slurm-wlm munge)`;
  if (process.getuid?.() !== 0) return "slurmd must be started by root";
  return null;
}

/** @throws with the daemons' logs where they do not come up */
export async function startSlurm(): Promise<SlurmCluster> {
  const folder = mkdtempSync(join(tmpdir(), "slurm-"));
  chmodSync(folder, 0o755); // munged refuses others.
  const configFile = join(folder, "slurm.conf");
  const node = hostname().split(".")[0]!;
  const daemons = new Map<string, number>();

  /** Starts a daemon, which leaves its id in a file when it is up. */
  const start = async (program: string, args: string[], pidFile: string) => {
    rmSync(pidFile, { force: true });
    await promisify(execFile)(findProgram(program)!, args, { env: { ...process.env, SLURM_CONF: configFile } });
    const pid = await until(`${program} to start`, () => Number(existsSync(pidFile) && readFileSync(pidFile, "utf8")));
    daemons.set(program, pid);
  };
  const end = async (program: string, signal: NodeJS.Signals = "SIGTERM") => {
    const pid = daemons.get(program);
    daemons.delete(program);
    if (pid === undefined || !isAlive(pid)) return;
    process.kill(pid, signal);
    await until(`${program} to end`, () => !isAlive(pid)).catch(() => process.kill(pid, "SIGKILL"));
  };
  const command = async (name: string, ...args: string[]) => {
    const environment = { ...process.env, SLURM_CONF: configFile };
    const { stdout } = await promisify(execFile)(findProgram(name)!, args, { env: environment });
    return stdout;
  };
  const startController = async () => {
    await start("slurmctld", [], join(folder, "slurmctld.pid"));
    await until("the node to be idle", async () => /idle|mix|alloc/.test(await answer(command("sinfo", "-ho", "%t"))));
  };
  /** For a test process that ends without having come to `stop`. */
  const endAtOnce = () => {
    for (const pid of daemons.values()) if (isAlive(pid)) process.kill(pid, "SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  };
  process.once("exit", endAtOnce);
  const stop = async () => {
    try {
      if (daemons.has("slurmctld")) {
        await answer(command("scancel", `--user=${userInfo().username}`));
        await until("the queue to be empty", async () => (await command("squeue", "-h")) === "").catch(() => {});
      }
    } finally {
      for (const program of ["slurmctld", "slurmd", "munged"]) await end(program);
      process.off("exit", endAtOnce);
      rmSync(folder, { recursive: true, force: true });
    }
  };

  try {
    await writeFiles(folder, configFile, node);
    const munge = ["key-file", "socket", "pid-file", "log-file", "seed-file"].map(
      (name) => `--${name}=${join(folder, "munge", name)}`,
    );
    await start("munged", ["--force", ...munge], join(folder, "munge", "pid-file"));
    await start("slurmd", [], join(folder, "slurmd.pid"));
    await startController();
  } catch (cause) {
    const logs = ["slurmctld.log", "slurmd.log", "munge/log-file"].map((log) => join(folder, log)).filter(existsSync);
    const text = logs
      .map((log) => `${log}:\n${readFileSync(log, "utf8").split("\n").slice(-15).join("\n")}`)
      .join("\n");
    await stop();
    throw new Error(`no Slurm cluster could be started: ${String(cause)}\n${text}`, { cause });
  }
  return { configFile, node, command, startController, stopController: () => end("slurmctld"), stop };
}

async function writeFiles(folder: string, configFile: string, node: string): Promise<void> {
  for (const name of ["munge", "state", "spool"]) mkdirSync(join(folder, name), { mode: 0o755 });
  writeFileSync(join(folder, "munge", "key-file"), randomBytes(128), { mode: 0o600 });
  const { username } = userInfo();
  const [controllerPort, nodePort] = [await freePort(), await freePort()];
  writeFileSync(
    configFile,
    `ClusterName=test
SlurmctldHost=${node}(127.0.0.1)
SlurmctldPort=${controllerPort}
SlurmdPort=${nodePort}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=${username}
SlurmdUser=${username}
AuthType=auth/munge
AuthInfo=socket=${join(folder, "munge", "socket")}
CredType=cred/munge
StateSaveLocation=${join(folder, "state")}
SlurmdSpoolDir=${join(folder, "spool")}
SlurmctldPidFile=${join(folder, "slurmctld.pid")}
SlurmdPidFile=${join(folder, "slurmd.pid")}
SlurmctldLogFile=${join(folder, "slurmctld.log")}
SlurmdLogFile=${join(folder, "slurmd.log")}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
KillWait=5
MessageTimeout=5
SlurmdTimeout=30
ReturnToService=2
GresTypes=gpu
NodeName=${node} NodeAddr=127.0.0.1 CPUs=16 RealMemory=500 Gres=gpu:${GPU_FILES.length}
PartitionName=low Nodes=${node} Default=YES PriorityTier=1
PartitionName=high Nodes=${node} PriorityTier=10 PreemptMode=OFF
`,
  );
  const gpus = GPU_FILES.map((file) => `NodeName=${node} Name=gpu File=${file}\n`);
  writeFileSync(join(folder, "gres.conf"), gpus.join(""));
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("a listening server has a port");
  return address.port;
}

/** What a command prints, and nothing where it fails. */
async function answer(output: Promise<string>): Promise<string> {
  return output.catch(() => "");
}

/** Whether a process is at work. One that ended, and that nobody has asked about yet, is not. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** Waits for something to be true, and returns it. */
export async function until<T>(what: string, check: () => T | Promise<T>, timeoutMs = START_TIMEOUT_MS): Promise<T> {
  for (const endMs = Date.now() + timeoutMs; Date.now() < endMs; await delay(100)) {
    const value = await check();
    if (value) return value;
  }
  throw new Error(`waited ${timeoutMs / 1000} s in vain for ${what}`);
}
