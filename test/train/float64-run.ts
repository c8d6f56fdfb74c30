import { join } from "node:path";
import { readLlamaConfig } from "../../src/weights/model-folder.ts";
import { readPeftAdapter } from "../../src/weights/peft-adapter.ts";
import { loraScale } from "../../src/weights/peft-config.ts";
import { type OracleExample, readTensors } from "../golden/read.ts";
import { rootPath } from "../model/golden-model.ts";
import { referenceModel } from "../model/tiny-model.ts";
import { divergence } from "../reference/head.ts";
import { llamaLogps, type ReferenceAdapter, type ReferenceModel } from "../reference/llama.ts";
import { causalSequence, type Sequence } from "../reference/sequences.ts";

// What the policy of a run says of a pair, in float64.

export interface Float64Policy {
  readonly model: ReferenceModel;
  readonly adapter: ReferenceAdapter;
}

/**
 * @param modelFolder from the repository's root, with its weights in one file, in float32
 * @param runFolder of a run on that model: its adapter as it was exported
 */
export async function float64Policy(modelFolder: string, runFolder: string): Promise<Float64Policy> {
  const config = await readLlamaConfig(rootPath(modelFolder));
  const tensors = readTensors(rootPath(`${modelFolder}/model.safetensors`)) as Map<string, { data: Float32Array }>;
  const values = new Map([...tensors].map(([name, { data }]) => [name, data]));
  const adapter = await readPeftAdapter(join(runFolder, "adapter"), config);
  const { r, layers } = adapter;
  return { model: referenceModel(config, values), adapter: { r, scale: loraScale(adapter), layers } };
}

type Answer = "chosen" | "rejected";
const BOTH: readonly Answer[] = ["chosen", "rejected"];

/** Of each completion token of the answers, cut to `maxLength` with the prompt, r − 1 − ln r with r = π_ref / π. */
export function k3Terms(
  { model, adapter }: Float64Policy,
  example: OracleExample,
  maxLength: number,
  answers = BOTH,
): number[] {
  return sequencesOf(example, answers, maxLength).flatMap((sequence) => {
    const [policy, base] = [adapter, null].map((of) => llamaLogps(model, of, sequence)) as [Float64Array, Float64Array];
    return Array.from(policy, (logp, t) => Math.expm1(base[t]! - logp) - (base[t]! - logp));
  });
}

/** KL(π ‖ π_ref) over the whole vocabulary where each completion token of the answers is predicted. */
export function divergences(
  { model, adapter }: Float64Policy,
  example: OracleExample,
  maxLength: number,
  answers = BOTH,
): number[] {
  const { vocabSize } = model.config;
  return sequencesOf(example, answers, maxLength).flatMap((sequence) => {
    const targets = sequence.targets.flatMap(({ row }) =>
      Array.from({ length: vocabSize }, (_, token) => ({ row, token })),
    );
    const [policy, base] = [adapter, null].map((of) => llamaLogps(model, of, { ...sequence, targets }));
    return [...divergence(policy!, base!, vocabSize)];
  });
}

function sequencesOf(example: OracleExample, answers: readonly Answer[], maxLength: number): Sequence[] {
  const { prompt_ids: promptIds } = example;
  return answers.map((answer) =>
    causalSequence(promptIds, example[`${answer}_ids`].slice(0, maxLength - promptIds.length)),
  );
}
