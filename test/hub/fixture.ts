/** A hub on loopback with one small model, and an empty Hugging Face home; nothing of the real one is read or written. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Environment } from "../../src/hub/environment.ts";
import type { RetryTiming } from "../../src/hub/http.ts";
import { type LoopbackHub, startHub } from "./loopback-hub.ts";

export const REPOSITORY = "ada/Llama-3.1-tiny";

/** Quick failures: the waits of the real program are seconds. */
export const QUICK: RetryTiming = { attempts: 3, firstWaitMs: 5, maxWaitMs: 2000, silenceMs: 300 };

export interface Fixture {
  hub: LoopbackHub;
  home: string;
  env: Environment;
  /** The repository's folder in the cache. */
  repositoryPath: string;
  /** The repository's files by name, to be changed before a download. */
  files: Map<string, Buffer>;
  close(): Promise<void>;
}

export function text(value: unknown): Buffer {
  return Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
}

/** Bytes that differ everywhere, so that a part in the wrong place is seen. */
export function pattern(sizeBytes: number, seed: number): Buffer {
  const content = Buffer.alloc(sizeBytes);
  let state = seed;
  for (let i = 0; i < sizeBytes; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    content[i] = state >>> 24;
  }
  return content;
}

export const SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] as const;

/** Turns the repository's single weight file into two shards and their index. */
export function shardWeights(files: Map<string, Buffer>): void {
  files.delete("model.safetensors");
  const weight_map = { "a.weight": SHARDS[0], "b.weight": SHARDS[1], "c.weight": SHARDS[0] };
  files.set("model.safetensors.index.json", text({ metadata: {}, weight_map }));
  files.set(SHARDS[0], pattern(70_001, 1));
  files.set(SHARDS[1], pattern(50_003, 2));
}

export async function startFixture(): Promise<Fixture> {
  const hub = await startHub();
  const home = await mkdtemp(join(tmpdir(), "dpo-train-hub-"));
  const files = new Map([
    ["config.json", text({ model_type: "llama" })],
    ["generation_config.json", text({ temperature: 0.6 })],
    ["tokenizer.json", text({ version: "1.0", greeting: "grüß dich 🙂" })],
    ["tokenizer_config.json", text({ bos_token: "<s>" })],
    ["chat_template.jinja", text("{{ messages }}")],
    ["LICENSE", text("do as you like")],
    ["model.safetensors", pattern(100_003, 7)],
  ]);
  hub.repositories.set(REPOSITORY, files);
  return {
    hub,
    home,
    files,
    env: { HOME: home, HF_HOME: home, HF_ENDPOINT: hub.endpoint },
    repositoryPath: join(home, "hub", "models--ada--Llama-3.1-tiny"),
    close: async () => {
      await hub.close();
      await rm(home, { recursive: true, force: true });
    },
  };
}
