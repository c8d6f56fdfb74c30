import { parentPort, workerData } from "node:worker_threads";
import { InputError } from "../errors.ts";
import { serveLive } from "./server.ts";
import type { Shown } from "./site.ts";

/** What a worker is started with. */
export interface LiveRequest {
  readonly shown: Shown;
  readonly port: number | null;
}

/** What it says: at first where it listens or why it cannot, then what goes wrong. It ends after whatever it is told. */
export type LiveMessage =
  | { readonly kind: "listening"; readonly url: string }
  | { readonly kind: "refused"; readonly reason: string }
  | { readonly kind: "problem"; readonly message: string };

const parent = parentPort!;
const say = (message: LiveMessage) => parent.postMessage(message);
const { shown, port } = workerData as LiveRequest;
try {
  const server = await serveLive(shown, port, (message) => say({ kind: "problem", message }));
  parent.once("message", () => {
    void server.end().then(() => parent.close());
  });
  say({ kind: "listening", url: server.url });
} catch (error) {
  if (!(error instanceof InputError)) throw error;
  say({ kind: "refused", reason: error.message });
}
