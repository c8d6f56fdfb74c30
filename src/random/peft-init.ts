import { kaimingUniform } from "./kaiming.ts";
import { createMt19937 } from "./mt19937.ts";

/** The size of a linear layer that LoRA adapts. */
export interface AdaptedModule {
  name: string;
  inFeatures: number;
  outFeatures: number;
}

/** The starting value of one module's A: (rank, inFeatures) f32, row-major. B starts at zero. */
export interface InitialLoraA {
  name: string;
  values: Float32Array<ArrayBuffer>;
}

/**
 * The lora_A matrices that PEFT's `get_peft_model` makes right after `transformers.set_seed(seed)` for a float32 base,
 * bit for bit. Loading a complete checkpoint draws nothing. Each LoRA layer draws from torch's global generator three
 * times: `nn.Linear`'s own initialization of A, then of B, then PEFT's of A, which stays.
 * For a bfloat16 or float16 base PEFT rounds A to that type; here A stays float32.
 *
 * One matrix at a time, so that a large model's adapter need not be held twice.
 *
 * @param modules in the model's module order: layer by layer q, k, v, o, gate, up, down, those that are adapted
 * @param seed an integer in [0, 2^53)
 */
export function* initialLoraA(modules: Iterable<AdaptedModule>, rank: number, seed: number): Generator<InitialLoraA> {
  const generator = createMt19937(seed);
  for (const { name, inFeatures, outFeatures } of modules) {
    generator.skip(rank * inFeatures + outFeatures * rank);
    yield { name, values: kaimingUniform(generator, rank, inFeatures) };
  }
}
