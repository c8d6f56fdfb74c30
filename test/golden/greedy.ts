import { readGoldenJson, readTensors } from "./read.ts";

/** A greedy answer of transformers in float32, made by scripts/golden/generate.py. */
export interface GreedyAnswer {
  /** As the logits are named: `twin-tiny`. */
  readonly name: string;
  /** Folders, from the repository's root. */
  readonly model: string;
  readonly adapter: string | null;
  readonly prompt_template: "none" | "alpaca" | "chat";
  readonly prompt: string;
  readonly prompt_ids: readonly number[];
  readonly new_tokens: readonly number[];
  readonly text: string;
}

/** The answers of each model with and without its adapter, in turns of one model. */
export function greedyAnswers(): { readonly max_new_tokens: number; readonly cases: readonly GreedyAnswer[] } {
  return readGoldenJson("generate.json");
}

/** (2, vocabulary): the logits of the first two tokens that answer the first prompt. */
export function greedyLogits(name: string, adapter: string | null): Float32Array {
  const tensor = readTensors("generate.safetensors").get(`${name}/${adapter === null ? "base" : "adapter"}`);
  if (tensor?.dtype !== "F32") throw new Error(`no logits of ${name}`);
  return tensor.data as Float32Array;
}
