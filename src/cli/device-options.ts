import type { SessionRequest } from "../train/session.ts";
import { parseMemory, parsePrecision } from "./option-values.ts";

/** Options of every command that trains. */
export interface DeviceOptions {
  readonly device: string;
  readonly precision: string;
  readonly weightsCache?: boolean;
  readonly deviceMemory?: string;
  readonly safe?: boolean;
  readonly watch?: boolean;
}

/** @throws InputError where an option has no such value */
export function sessionRequest(options: DeviceOptions): SessionRequest {
  const { device, precision, weightsCache = false, deviceMemory, safe = false, watch = false } = options;
  return {
    device,
    profile: safe ? "safe" : "fast",
    precision: parsePrecision(precision),
    weightsCache,
    deviceMemory: deviceMemory === undefined ? null : parseMemory(deviceMemory),
    watch,
  };
}
