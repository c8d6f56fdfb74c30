import type { Config } from "../config/schema.ts";
import { InputError } from "../errors.ts";
import { initialLoraA } from "../random/peft-init.ts";
import { printable } from "../text.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import { type LoraAdapter, type LoraPair, readPeftAdapter } from "../weights/peft-adapter.ts";
import type { LoraSettings } from "../weights/peft-config.ts";
import { type Projection, projectionSize } from "../weights/projections.ts";
import { loraSettingsOf } from "./settings.ts";

export interface StartAdapter {
  readonly adapter: LoraAdapter;
  /** Whether every B is 0, so that the policy starts as the reference. */
  readonly isZero: boolean;
  /** SHA-256 of the weight file that `init_adapter` names. */
  readonly sha256: string | null;
}

/**
 * The adapter that training starts from: `init_adapter`, or A as PEFT draws it for the same seed and B = 0.
 * @throws InputError where `init_adapter` cannot be read or differs from the config's `lora`
 */
export async function startAdapter(config: Config, model: LlamaConfig): Promise<StartAdapter> {
  const settings = loraSettingsOf(config);
  if (config.init_adapter === undefined) {
    return { adapter: freshAdapter(settings, model, config.seed), isZero: true, sha256: null };
  }
  const adapter = await readPeftAdapter(config.init_adapter, model);
  requireSameSettings(config.init_adapter, adapter, settings);
  const isZero = adapter.layers.every((layer) =>
    Object.values(layer).every(({ b }) => b.every((value) => value === 0)),
  );
  return { adapter, isZero, sha256: adapter.sha256Hex };
}

function freshAdapter(settings: LoraSettings, model: LlamaConfig, seed: number): LoraAdapter {
  const layers = Array.from({ length: model.layers }, (): Partial<Record<Projection, LoraPair>> => ({}));
  const modules = layers.flatMap((layer) => {
    return settings.targetModules.map((projection) => ({ layer, projection, ...projectionSize(model, projection) }));
  });
  const drawn = initialLoraA(
    modules.map(({ projection, inFeatures, outFeatures }) => ({ name: projection, inFeatures, outFeatures })),
    settings.r,
    seed,
  );
  for (const { layer, projection, outFeatures } of modules) {
    layer[projection] = { a: drawn.next().value!.values, b: new Float32Array(outFeatures * settings.r) };
  }
  return { ...settings, layers };
}

function requireSameSettings(folder: string, found: LoraSettings, wanted: LoraSettings): void {
  const list = (modules: readonly Projection[]) => `[${modules.join(", ")}]`;
  const differences = [
    found.r === wanted.r ? null : `r ${found.r} (the config's lora.r is ${wanted.r})`,
    found.loraAlpha === wanted.loraAlpha
      ? null
      : `lora_alpha ${found.loraAlpha} (the config's lora.lora_alpha is ${wanted.loraAlpha})`,
    list(found.targetModules) === list(wanted.targetModules)
      ? null
      : `target_modules ${list(found.targetModules)} (the config's are ${list(wanted.targetModules)})`,
    found.useRslora ? "use_rslora, which training does not support" : null,
  ].filter((difference) => difference !== null);
  if (differences.length === 0) return;
  throw new InputError(
    `init_adapter ${printable(folder)} must be like the config's lora, found ${differences.join("; ")}; change the config`,
  );
}
