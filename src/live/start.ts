import { once } from "node:events";
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { InputError } from "../errors.ts";
import type { LiveServer } from "./server.ts";
import type { Shown } from "./site.ts";
import type { LiveMessage, LiveRequest } from "./worker.ts";

/**
 * Serves pages in a thread of its own, which reads the runs' files: training waits for none of it. What goes wrong there
 * later is told once, and costs the run nothing.
 *
 * @throws InputError where the port cannot be had
 */
export async function startLive(
  shown: Shown,
  port: number | null,
  notice: (text: string) => void,
): Promise<LiveServer> {
  const file = new URL(`./worker${extname(import.meta.url)}`, import.meta.url);
  const worker = new Worker(file, { workerData: { shown, port } satisfies LiveRequest });
  const told = new Set<string>();
  const tell = (message: string) => {
    if (!told.has(message)) notice(`live page: ${message}; training goes on`);
    told.add(message);
  };
  const [first] = (await once(worker, "message")) as [LiveMessage];
  if (first.kind === "refused") throw new InputError(first.reason);
  if (first.kind === "problem") throw new Error(`internal: ${first.message}`);
  let isOver = false;
  const over = new Promise<void>((resolve) => {
    worker.once("exit", () => {
      isOver = true;
      resolve();
    });
  });
  worker.on("error", (error) => tell(`it has ended: ${error.message}`));
  worker.on("message", (message: LiveMessage) => message.kind === "problem" && tell(message.message));
  worker.unref();
  return {
    url: first.url,
    end: async () => {
      if (isOver) return;
      worker.ref();
      worker.postMessage("end");
      await over;
    },
  };
}
