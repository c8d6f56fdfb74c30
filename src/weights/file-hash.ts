import { createHash, type Hash } from "node:crypto";
import { Worker } from "node:worker_threads";

/** The SHA-256 of a file whose bytes come in order. `close` it in any case. */
export interface FileHash {
  /** Takes bytes in. Their memory moves: resolves to them, where they may be read and changed again. */
  update(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
  /** In hexadecimal. */
  digest(): Promise<string>;
  close(): Promise<void>;
}

/** From here on a thread, which takes some 30 ms to start, pays. */
const THREAD_MIN_BYTES = 64 * 2 ** 20;

/** A large file's is computed in a thread of its own: SHA-256 is slower than reading, and than all else that is done. */
export function createFileHash(sizeBytes: number): FileHash {
  return sizeBytes < THREAD_MIN_BYTES ? new HashHere() : new HashThread();
}

class HashHere implements FileHash {
  readonly #hash: Hash = createHash("sha256");

  async update(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    this.#hash.update(bytes);
    return bytes;
  }

  async digest(): Promise<string> {
    return this.#hash.digest("hex");
  }

  async close(): Promise<void> {}
}

/** Plain JavaScript in a string: a file's name would be another one in the sources than in the package. */
const THREAD_CODE = `
const { parentPort } = require("node:worker_threads");
const hash = require("node:crypto").createHash("sha256");
parentPort.on("message", (bytes) => {
  if (bytes === null) {
    parentPort.postMessage(hash.digest("hex"));
  } else {
    hash.update(bytes);
    parentPort.postMessage(bytes, [bytes.buffer]);
  }
});`;

interface Waiting {
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** Owns a thread. It answers in the order in which it is asked. */
class HashThread implements FileHash {
  // Without the arguments of this process, which may load modules into every thread.
  readonly #worker = new Worker(THREAD_CODE, { eval: true, execArgv: [] });
  readonly #waiting: Waiting[] = [];
  #failure: unknown;

  constructor() {
    this.#worker.on("message", (answer: unknown) => this.#waiting.shift()!.resolve(answer));
    this.#worker.on("error", (error) => {
      this.#failure = error;
      for (const { reject } of this.#waiting.splice(0)) reject(error);
    });
  }

  update(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    return this.#ask(bytes, [bytes.buffer]) as Promise<Uint8Array<ArrayBuffer>>;
  }

  digest(): Promise<string> {
    return this.#ask(null, []) as Promise<string>;
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }

  #ask(message: Uint8Array<ArrayBuffer> | null, transfer: ArrayBuffer[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure);
        return;
      }
      this.#waiting.push({ resolve, reject });
      this.#worker.postMessage(message, transfer);
    });
  }
}
