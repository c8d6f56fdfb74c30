import { HungDeviceError } from "../errors.ts";

export interface WatchdogLimits {
  /** Longest wait for the GPU, in milliseconds. */
  readonly limitMs: number;
  /** The same until `endGrace`: drivers may compile, or page memory in, when work is submitted for the first time. */
  readonly graceMs: number;
}

export const WATCHDOG_LIMITS: WatchdogLimits = { limitMs: 60_000, graceMs: 600_000 };

/** A device that is slow throughout is not hung: a wait may be this many times as long as the longest so far. */
const TIMES_THE_LONGEST = 10;
/** A wait is counted in ticks that had their turn, so that a host that was busy or asleep meanwhile blames nobody. */
const TICKS = 20;

/** Ends waits for a GPU that does not answer any more, which WebGPU itself would never end. */
export class Watchdog {
  readonly #limits: WatchdogLimits;
  #isInGrace = true;
  #longestMs = 0;
  #isHung = false;

  constructor(limits: WatchdogLimits) {
    this.#limits = limits;
  }

  /** Whether a wait was given up. Nothing should be asked of the device then, nor waited for. */
  get isHung(): boolean {
    return this.#isHung;
  }

  /** From now on everything that is submitted has run before. */
  endGrace(): void {
    this.#isInGrace = false;
  }

  /** Waits for the GPU. @throws HungDeviceError when it takes too long */
  async wait<T>(work: Promise<T>): Promise<T> {
    const { limitMs, graceMs } = this.#limits;
    const allowedMs = Math.max(this.#isInGrace ? graceMs : limitMs, TIMES_THE_LONGEST * this.#longestMs);
    const startMs = performance.now();
    let timer: ReturnType<typeof setInterval> | undefined;
    const hung = new Promise<never>((_, reject) => {
      let ticks = 0;
      timer = setInterval(() => {
        if (++ticks < TICKS) return;
        this.#isHung = true;
        reject(new HungDeviceError(allowedMs));
      }, allowedMs / TICKS);
    });
    try {
      return await Promise.race([work, hung]);
    } finally {
      clearInterval(timer);
      if (!this.#isHung) this.#longestMs = Math.max(this.#longestMs, performance.now() - startMs);
    }
  }
}
