import { homedir } from "node:os";
import path from "node:path";

/** Where the project keeps what can be made again: $XDG_CACHE_HOME/dpo-train, by default ~/.cache/dpo-train. */
export function cacheFolder(): string {
  return path.join(process.env.XDG_CACHE_HOME || path.join(homedir(), ".cache"), "dpo-train");
}
