import type { Config } from "../config/schema.ts";
import type { Journal } from "../curation/ask/journal.ts";
import { uploadAdapter } from "../model/lora.ts";
import type { LoadedBase } from "../platform/load-base.ts";
import type { Terminal } from "../terminal.ts";
import type { Metrics } from "../train/metrics.ts";
import { Session, type SessionRequest } from "../train/session.ts";
import { readEosTokenIds } from "../weights/generation-config.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import type { StoredAdapter } from "../weights/peft-adapter.ts";
import { type Answer, type AskedModel, type AskSettings, answerQuestions } from "./answer-questions.ts";
import type { Material } from "./material.ts";
import { preferenceOf, referenceOf } from "./preference.ts";

/** The base, and what was made of it: an adapter, or a model of its own. */
export interface ComparedModels {
  readonly base: ModelFolder;
  readonly trained: StoredAdapter | ModelFolder;
}

export interface ComputeOptions extends ComparedModels {
  readonly config: Config;
  readonly session: SessionRequest;
  readonly material: Material;
  readonly ask: AskSettings;
  readonly journal: Journal;
}

export interface Computed {
  /** In the order of the questions. */
  readonly base: readonly Answer[];
  readonly trained: readonly Answer[];
  /** Null without held-out pairs. */
  readonly preference: Metrics | null;
  readonly device: string;
  /** How the base's weights were kept on it. */
  readonly format: string;
  readonly sha256: { readonly base: Sha256; readonly trained: Sha256 };
}

/** Of an adapter's file, or of each file of a model by its name. */
type Sha256 = string | Readonly<Record<string, string>>;

/** All that needs the GPU: answers of both models, and what they make of the held-out pairs. */
export async function computeOnGpu(
  options: ComputeOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<Computed> {
  const { base: folder, trained, config, material, ask: settings, journal } = options;
  const { tokenizer, questions, pairs } = material;
  const session = await Session.open(options.session, terminal);
  try {
    const { gpu, adapter: device } = session.opened;
    const asking = { gpu, tokenizer, questions, settings, journal, terminal, signal };
    const scoring = { gpu, config, pairs, terminal, signal };
    const load = async (model: ModelFolder) =>
      (await session.base(model, config.load_in_4bit, {}, terminal, signal)).base;
    const askedModel = async (model: ModelFolder, { weights, format, sha256 }: LoadedBase): Promise<AskedModel> => ({
      weights,
      adapter: null,
      stopIds: new Set([...(await readEosTokenIds(model.path, model.config)), tokenizer.eos.id]),
      identity: { sha256, format, device: device.name },
    });

    const base = await load(folder);
    const asked = await askedModel(folder, base);
    const { format, sha256 } = base;
    const references = await referenceOf(base.weights, scoring);
    if (isAdapter(trained)) {
      const { r, loraAlpha, useRslora, sha256Hex } = trained;
      const adapter = uploadAdapter(gpu, folder.config, trained);
      const preference = await preferenceOf({ weights: base.weights, adapter }, references, scoring);
      const identity = [asked.identity, sha256Hex, r, loraAlpha, useRslora];
      const [answers, others] = await answerQuestions([asked, { ...asked, adapter, identity }], asking);
      const sums = { base: sha256, trained: sha256Hex };
      return { base: answers!, trained: others!, preference, device: device.name, format, sha256: sums };
    }
    const [answers] = await answerQuestions([asked], asking);
    const other = await load(trained);
    const preference = await preferenceOf({ weights: other.weights, adapter: null }, references, scoring);
    const [others] = await answerQuestions([await askedModel(trained, other)], asking);
    const sums = { base: sha256, trained: other.sha256 };
    return { base: answers!, trained: others!, preference, device: device.name, format, sha256: sums };
  } finally {
    session.close();
  }
}

function isAdapter(trained: ComparedModels["trained"]): trained is StoredAdapter {
  return "sha256Hex" in trained;
}
