import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import path from "node:path";
import { pause } from "../hub/pause.ts";
import { printable } from "../text.ts";
import { RUN_FILE, TENSORBOARD_FOLDER, TRACKING_FOLDER } from "../train/run-folder.ts";
import { RefusedFailure, TransientFailure } from "./failures.ts";
import { createSender, type Sender } from "./sender.ts";
import type { Tracker } from "./tracker.ts";

export interface TrackingTiming {
  /** Between two looks at metrics.jsonl. */
  readonly pollMs: number;
  /** Wait after a first failure; doubles each time, up to the longest. */
  readonly firstWaitMs: number;
  readonly maxWaitMs: number;
  /** What the end of a run may wait for the rest; where the tracker did not answer of late, less. */
  readonly endingMs: number;
  readonly failingEndingMs: number;
}

export const DEFAULT_TIMING: TrackingTiming = {
  pollMs: 1000,
  firstWaitMs: 1000,
  maxWaitMs: 60_000,
  endingMs: 10_000,
  failingEndingMs: 2000,
};

export type Notice = (text: string) => void;

/** Owns the sending of one run's records to trackers, in the background. */
export interface Tracking {
  /**
   * Sends the rest and how the run ended, and says what has not arrived. Waits some seconds at most. To be called when
   * the run's files are as it leaves them. Never throws.
   */
  readonly end: () => Promise<void>;
}

/** Begins to send a run's records. Whatever goes wrong is said once and costs the run nothing. */
export function startTracking(
  folder: string,
  trackers: readonly Tracker[],
  notice: Notice,
  timing: TrackingTiming = DEFAULT_TIMING,
): Tracking {
  const followers = trackers.map((tracker) => follow(folder, tracker, notice, timing));
  return {
    end: async () => {
      if (existsSync(path.join(folder, RUN_FILE))) {
        await Promise.all(followers.map(({ end }) => end()));
        return;
      }
      // It ended before its first step and has removed what it wrote: the folder is free for the next run.
      await Promise.all(followers.map(({ drop }) => drop()));
      for (const name of [TRACKING_FOLDER, TENSORBOARD_FOLDER]) {
        await rm(path.join(folder, name), { recursive: true, force: true }).catch(() => {});
      }
    },
  };
}

function follow(folder: string, tracker: Tracker, notice: Notice, timing: TrackingTiming) {
  const sender = createSender(folder, tracker);
  const stop = new AbortController();
  const cut = new AbortController();
  const say = (text: string) => notice(`${tracker.name}: ${withoutSecrets(text, tracker)}`);
  let failures = 0;
  let isRefused = false;
  let isShown = false;

  /** Whether to go on. */
  const onFailure = async (error: unknown): Promise<boolean> => {
    if (stop.signal.aborted) return false;
    failures += 1;
    const mayMend = !(error instanceof RefusedFailure);
    if (failures === 1 || !mayMend) {
      const then = mayMend ? "trying again in the background" : `not sent; mend it, then: ${syncCommand(folder)}`;
      say(`${messageOf(error)}: training goes on, ${then}`);
    }
    isRefused = !mayMend;
    if (mayMend) await pause(waitAfter(error, failures, timing), stop.signal).catch(() => {});
    return mayMend;
  };
  const followUntilStopped = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      try {
        while (!stop.signal.aborted && (await sender.advance(cut.signal))) failures = 0;
        const place = sender.place();
        if (!isShown && place !== null) say(place);
        isShown ||= place !== null;
        await pause(timing.pollMs, stop.signal).catch(() => {});
      } catch (error) {
        if (!(await onFailure(error))) return;
      }
    }
  };
  const running = followUntilStopped();

  const finish = async (): Promise<unknown> => {
    await running;
    for (let attempt = 1; ; attempt++) {
      try {
        await sendAll(sender, cut.signal);
        return null;
      } catch (error) {
        if (cut.signal.aborted || !(error instanceof TransientFailure)) return error;
        await pause(waitAfter(error, attempt, timing), cut.signal).catch(() => {});
      }
    }
  };
  return {
    end: async () => {
      stop.abort();
      if (isRefused) return; // Said already.
      const limitMs = failures > 0 ? timing.failingEndingMs : timing.endingMs;
      const timer = setTimeout(() => cut.abort(new Error("it took too long")), limitMs);
      const error = await finish();
      clearTimeout(timer);
      if (error === null) return;
      say(
        `${messageOf(error)}: not all is sent (${sender.sent()} records are); to send the rest: ${syncCommand(folder)}`,
      );
    },
    drop: async () => {
      stop.abort();
      cut.abort(new Error("the run has left nothing"));
      await running;
    },
  };
}

/** Sends all records there are, and the end. @throws as `Sender` */
async function sendAll(sender: Sender, signal: AbortSignal): Promise<void> {
  do {
    while (await sender.advance(signal)) signal.throwIfAborted();
  } while (!(await sender.finish(signal)));
}

export interface Synced {
  readonly sent: number;
  /** Where people look at the run. */
  readonly place: string | null;
  /** Why not all has arrived; null where it has. */
  readonly problem: string | null;
}

const SYNC_ATTEMPTS = 4;

/** Sends what a tracker does not have of a run that nobody trains. @throws the signal's reason */
export async function syncRun(
  folder: string,
  tracker: Tracker,
  signal: AbortSignal,
  timing: TrackingTiming = DEFAULT_TIMING,
): Promise<Synced> {
  const sender = createSender(folder, tracker);
  const synced = (problem: string | null): Synced => ({ sent: sender.sent(), place: sender.place(), problem });
  let furthest = 0;
  for (let attempt = 1; ; attempt++) {
    try {
      await sendAll(sender, signal);
      return synced(null);
    } catch (error) {
      signal.throwIfAborted();
      if (sender.sent() > furthest) attempt = 1;
      furthest = sender.sent();
      if (!(error instanceof TransientFailure) || attempt >= SYNC_ATTEMPTS) {
        return synced(withoutSecrets(messageOf(error), tracker));
      }
      await pause(waitAfter(error, attempt, timing), signal);
    }
  }
}

function waitAfter(error: unknown, failures: number, { firstWaitMs, maxWaitMs }: TrackingTiming): number {
  const asked = error instanceof TransientFailure ? error.waitMs : undefined;
  return Math.min(maxWaitMs, asked ?? firstWaitMs * 2 ** Math.min(failures - 1, 16));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function syncCommand(folder: string): string {
  return `dpo-train report --sync ${printable(folder, 1000)}`;
}

/** A server may say back what it was sent. */
function withoutSecrets(text: string, { secrets }: Tracker): string {
  return secrets.reduce((shown, secret) => shown.replaceAll(secret, "***"), text);
}
