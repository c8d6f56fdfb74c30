import { type DeviceChoice, type OpenedDevice, openDevice } from "../platform/dawn.ts";
import { freeMemoryBytes } from "../platform/device-memory.ts";
import type { LoadedBase, Precision } from "../platform/load-base.ts";
import type { DeviceProfile } from "../platform/toggles.ts";
import type { Terminal } from "../terminal.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import { loadModel } from "./load-model.ts";
import { choosePrecision, type PrecisionChoice } from "./precision.ts";
import type { PreparedData } from "./prepare-data.ts";
import type { RunReference } from "./reference-source.ts";
import type { SampleAnswer } from "./sample.ts";
import type { Timings } from "./timings.ts";

export interface SessionRequest {
  readonly device: DeviceChoice;
  readonly profile: DeviceProfile;
  readonly precision: PrecisionChoice;
  /** Keep the weights on disk as they lie on the GPU, and use what an earlier run has kept. */
  readonly weightsCache?: boolean;
  /** Bytes that a run may take on the GPU; null to ask the driver. */
  readonly deviceMemory?: number | null;
  /** Look for work that the driver drops in silence, and for writes outside of buffers. */
  readonly watch?: boolean;
}

/** A base on the GPU, and what has been computed with it alone. */
export interface SharedBase {
  readonly base: LoadedBase;
  /** Reference log-probabilities of the data that runs were trained on. */
  readonly references: Map<PreparedData, RunReference>;
  /** Its own answers, by the question and how it was asked. */
  readonly answers: Map<string, SampleAnswer>;
}

interface HeldBase {
  readonly folder: string;
  readonly in4Bit: boolean;
  readonly shared: SharedBase;
}

/** Owns a device and the base on it, for the runs that come one after the other. */
export class Session {
  readonly opened: OpenedDevice;
  readonly precision: Precision;
  /** Bytes that a run and its base may take; null where nobody says. */
  readonly memoryBytes: number | null;
  readonly #weightsCache: boolean;
  #held: HeldBase | null = null;

  /** @throws DeviceError where there is no such device, or not of this precision */
  static async open(request: SessionRequest, terminal: Terminal): Promise<Session> {
    const { device, profile, precision, weightsCache = false, deviceMemory = null, watch = false } = request;
    const opened = await openDevice({ device, profile, memoryLimitBytes: deviceMemory, watch });
    try {
      if (opened.notice) terminal.line(opened.notice);
      // Asked while the device is empty: later the base is on it.
      const memoryBytes = deviceMemory ?? (await freeMemoryBytes(opened.adapter));
      return new Session(opened, choosePrecision(precision, opened), memoryBytes, weightsCache);
    } catch (error) {
      opened.close();
      throw error;
    }
  }

  private constructor(opened: OpenedDevice, precision: Precision, memoryBytes: number | null, weightsCache: boolean) {
    this.opened = opened;
    this.precision = precision;
    this.memoryBytes = memoryBytes;
    this.#weightsCache = weightsCache;
  }

  /** The base of a run: the one that is there already, or in its place this one. Arguments as those of `loadModel`. */
  async base(
    folder: ModelFolder,
    in4Bit: boolean,
    timings: Timings,
    terminal: Terminal,
    signal: AbortSignal,
  ): Promise<SharedBase> {
    if (this.#held?.folder === folder.path && this.#held.in4Bit === in4Bit) return this.#held.shared;
    this.#held?.shared.base.release();
    this.#held = null;
    const settings = { precision: this.precision, weightsCache: this.#weightsCache, in4Bit };
    const base = await loadModel(this.opened.gpu, folder, settings, timings, terminal, signal);
    this.#held = {
      folder: folder.path,
      in4Bit,
      shared: { base, references: new Map(), answers: new Map() },
    };
    return this.#held.shared;
  }

  close(): void {
    this.opened.close();
  }
}
