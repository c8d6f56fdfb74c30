import type { Shown } from "../live/site.ts";
import { startLive } from "../live/start.ts";
import type { Terminal } from "../terminal.ts";
import { parseWholeNumber } from "./option-values.ts";

/** `--live [port]`: true where it stands alone; undefined where it does not stand. */
export type LiveOption = string | true | undefined;

/**
 * Runs what trains while browsers are shown it, if that is asked for.
 * @throws InputError where the port is none or cannot be had; what `work` throws
 */
export async function withLive<T>(
  option: LiveOption,
  shown: Shown,
  terminal: Terminal,
  work: () => Promise<T>,
): Promise<T> {
  if (option === undefined) return work();
  const server = await startLive(shown, parsePort(option), terminal.line);
  terminal.line(`live page: ${server.url}`);
  try {
    return await work();
  } finally {
    await server.end();
  }
}

/** Null for any. @throws InputError */
function parsePort(option: string | true): number | null {
  return option === true ? null : parseWholeNumber("--live", option, { least: 0, most: 65535 });
}
