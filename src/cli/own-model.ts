import { readdir, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import type { PromptTemplate } from "../config/names.ts";
import type { OpenModel, OwnModel } from "../curation/own-answers.ts";
import { loadTokenizer } from "../data/tokenizer.ts";
import { completeAnswer } from "../generate/answer.ts";
import { encodeQuestion, positionsFor } from "../generate/question.ts";
import { Generator } from "../model/generator.ts";
import { uploadAdapter } from "../model/lora.ts";
import { openDevice } from "../platform/dawn.ts";
import { loadBaseWeights } from "../platform/load-base.ts";
import type { Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { formatShare } from "../train/progress.ts";
import { readEosTokenIds } from "../weights/generation-config.ts";
import { openModelFolder } from "../weights/model-folder.ts";
import { readPeftAdapter } from "../weights/peft-adapter.ts";
import { fileError } from "../weights/regular-file.ts";

export interface OwnModelOptions {
  readonly folder: string;
  readonly adapter: string | null;
  readonly promptTemplate: PromptTemplate;
  readonly temperature: number;
  readonly maxNewTokens: number;
  readonly device: string;
}

/** A model folder, with or without an adapter, whose answers are those to be rejected. Opens no device yet. */
export async function describeOwnModel(
  options: OwnModelOptions,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<OwnModel> {
  const { folder, adapter, promptTemplate, temperature, maxNewTokens } = options;
  // Read through once, so that what is wrong with it is told before anything is asked of a server.
  const opened = await openModelFolder(folder);
  try {
    await loadTokenizer(folder);
    if (adapter !== null) await readPeftAdapter(adapter, opened.config);
  } finally {
    await opened.close();
  }
  const files = [await fingerprint(folder), adapter === null ? null : await fingerprint(adapter)];
  return {
    name: printable(adapter === null ? folder : `${folder} with ${adapter}`),
    identity: JSON.stringify([files, promptTemplate, temperature, maxNewTokens]),
    open: () => openOwnModel(options, terminal, signal),
  };
}

/** Names, sizes and times of a folder's files: whoever changes a model changes one of these. */
async function fingerprint(folder: string): Promise<unknown> {
  try {
    const names = (await readdir(folder)).filter((name) => /\.(safetensors|json|jinja)$/.test(name)).sort();
    const files = names.map(async (name) => {
      const { size, mtimeMs } = await stat(join(folder, name));
      return [name, size, mtimeMs];
    });
    return [await realpath(folder), await Promise.all(files)];
  } catch (error) {
    throw fileError(folder, "read", error);
  }
}

async function openOwnModel(options: OwnModelOptions, terminal: Terminal, signal: AbortSignal): Promise<OpenModel> {
  const { folder, promptTemplate, temperature, maxNewTokens } = options;
  const modelFolder = await openModelFolder(folder);
  let close = async () => modelFolder.close();
  try {
    const { config } = modelFolder;
    const tokenizer = await loadTokenizer(folder);
    const stopIds = new Set([...(await readEosTokenIds(folder, config)), tokenizer.eos.id]);
    const adapter = options.adapter === null ? null : await readPeftAdapter(options.adapter, config);
    const device = await openDevice({ device: options.device });
    close = async () => {
      device.close();
      await modelFolder.close();
    };
    if (device.notice !== null) terminal.line(`dpo-train: ${device.notice}`);
    const { gpu } = device;
    const onProgress = (doneBytes: number, totalBytes: number): void => {
      signal.throwIfAborted();
      terminal.status(`loading ${printable(folder)}: ${formatShare(doneBytes, totalBytes)}`);
    };
    const { weights } = await loadBaseWeights(gpu, modelFolder, "f32", { onProgress });
    const lora = adapter && uploadAdapter(gpu, config, adapter);

    return {
      answer: async (prompt, seed) => {
        const place = `the instruction "${printable(prompt, 60)}"`;
        const promptIds = encodeQuestion(prompt, { tokenizer, config, promptTemplate, place });
        const maxPositions = positionsFor(promptIds.length, maxNewTokens, config);
        const generator = new Generator({ gpu, weights, adapter: lora, maxPositions });
        try {
          const sampling = { temperature, topK: 0, topP: 1, seed };
          const request = { generator, tokenizer, promptIds, sampling, stopIds, maxNewTokens, signal };
          const { text, summary } = await completeAnswer(request);
          signal.throwIfAborted();
          return { text, isCut: summary.end !== "stop_token" };
        } finally {
          generator.destroy();
        }
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
