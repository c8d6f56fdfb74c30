import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { compileChatTemplate } from "../../src/data/chat-template.ts";
import { loadTokenizer, type PairTokenizer } from "../../src/data/tokenizer.ts";
import { InputError } from "../../src/errors.ts";
import { type AnswerRequest, completeAnswer, type LogitSource, streamAnswer } from "../../src/generate/answer.ts";
import { encodeQuestion, positionsFor } from "../../src/generate/question.ts";
import type { BaseWeights } from "../../src/model/base-weights.ts";
import { Generator } from "../../src/model/generator.ts";
import { useDevice } from "../device.ts";
import { type GreedyAnswer, greedyAnswers } from "../golden/greedy.ts";
import { loadAdapter, loadModel, rootPath } from "../model/golden-model.ts";

const device = useDevice();
const GREEDY = { temperature: 0, topK: 0, topP: 1, seed: 0 };

const { cases, max_new_tokens: maxNewTokens } = greedyAnswers();
const f16 = cases.filter(({ name }) => name === "f16-one-kv");
const gqa = cases.filter(({ name }) => name === "gqa-llama3");

let tokenizers: Map<string, PairTokenizer>;
let models: Map<string, BaseWeights>;

beforeAll(async () => {
  const folders = [...new Set([...f16, ...gqa].map(({ model }) => model))];
  tokenizers = new Map(
    await Promise.all(folders.map(async (folder) => [folder, await loadTokenizer(rootPath(folder))] as const)),
  );
  models = new Map();
  for (const folder of folders) models.set(folder, await loadModel(device.gpu, folder));
});

/** What it takes to repeat a golden answer. */
async function requestOf(golden: GreedyAnswer, change: Partial<AnswerRequest> = {}): Promise<AnswerRequest> {
  const { gpu } = device;
  const weights = models.get(golden.model)!;
  const tokenizer = tokenizers.get(golden.model)!;
  const adapter = await loadAdapter(gpu, weights, golden.adapter);
  const maxPositions = golden.prompt_ids.length + maxNewTokens;
  const generator = new Generator({ gpu, weights, adapter, maxPositions });
  onTestFinished(() => generator.destroy());
  const stopIds = new Set([tokenizer.eos.id]);
  const { prompt_ids: promptIds } = golden;
  return { generator, tokenizer, promptIds, sampling: GREEDY, stopIds, maxNewTokens, ...change };
}

async function piecesOf(request: AnswerRequest): Promise<string[]> {
  const pieces: string[] = [];
  for await (const piece of streamAnswer(request)) pieces.push(piece);
  return pieces;
}

describe("an answer is transformers' text", () => {
  // Random models: their text is full of characters of several bytes, and of bytes that make no character.
  it.each(
    [...f16, ...gqa].map(
      (golden) => [`${golden.name} ${golden.adapter} ${golden.prompt.slice(0, 12)}`, golden] as const,
    ),
  )("%s", async (_, golden) => {
    const request = await requestOf(golden);
    const { text, summary } = await completeAnswer(request);
    expect(text).toBe(golden.text);
    const isStopped = golden.new_tokens.at(-1) === request.tokenizer.eos.id;
    expect(summary.end).toBe(isStopped ? "stop_token" : "max_new_tokens");
    expect(summary.newTokens).toBe(golden.new_tokens.length);
    expect(summary.promptTokens).toBe(golden.prompt_ids.length);
  });

  it("stops at an EOS in some of them", () => {
    expect(f16.some(({ new_tokens: tokens }) => tokens.length < maxNewTokens)).toBe(true);
  });
});

describe("an answer ends", () => {
  it("at any stop token, which makes no text", async () => {
    const [golden] = gqa;
    const stopAt = golden!.new_tokens[5]!;
    const first = golden!.new_tokens.indexOf(stopAt);
    const request = await requestOf(golden!, { stopIds: new Set([3, stopAt, 4]) });
    const { text, summary } = await completeAnswer(request);
    expect(summary).toMatchObject({ end: "stop_token", newTokens: first + 1 });
    expect(text).toBe(request.tokenizer.decode(golden!.new_tokens.slice(0, first), { skipSpecialTokens: true }));
  });

  it("after max_new_tokens, be it one", async () => {
    const [golden] = gqa;
    for (const count of [1, 2, 7]) {
      const { summary } = await completeAnswer(await requestOf(golden!, { maxNewTokens: count }));
      expect(summary).toMatchObject({ end: "max_new_tokens", newTokens: count });
      expect(summary.tokensPerSecond === null).toBe(count === 1);
    }
  });

  it("where the cache ends, with a token that needs no position", async () => {
    const { gpu } = device;
    const [golden] = gqa;
    const promptTokens = golden!.prompt_ids.length;
    for (const room of [0, 1, 5]) {
      const generator = new Generator({
        gpu,
        weights: models.get(golden!.model)!,
        adapter: null,
        maxPositions: promptTokens + room,
      });
      const { text, summary } = await completeAnswer(await requestOf(golden!, { generator }));
      expect(summary).toMatchObject({ end: "context", newTokens: room + 1, promptTokens });
      expect(golden!.text.startsWith(text.replace(/\ufffd+$/, ""))).toBe(true);
      generator.destroy();
    }
  });

  it("when it is aborted, with the text so far", async () => {
    const [golden] = gqa;
    const abort = new AbortController();
    const stream = streamAnswer(await requestOf(golden!, { signal: abort.signal }));
    let text = (await stream.next()).value as string;
    abort.abort();
    let next = await stream.next();
    for (; !next.done; next = await stream.next()) text += next.value;
    expect(next.value).toMatchObject({ end: "aborted" });
    expect(next.value.newTokens).toBeLessThan(5);
    expect(golden!.text.startsWith(text.replace(/\ufffd+$/, ""))).toBe(true);
  });

  it("and begins anew with the same generator", async () => {
    const [golden] = gqa;
    const request = await requestOf(golden!);
    expect((await completeAnswer(request)).text).toBe(golden!.text);
    expect((await completeAnswer(request)).text).toBe(golden!.text);
  });
});

describe("a sampled answer", () => {
  const sampling = { temperature: 1.3, topK: 0, topP: 0.95, seed: 11 };

  it("is the same with the same seed, and another with another", async () => {
    const [golden] = gqa;
    const request = await requestOf(golden!, { sampling });
    const { text } = await completeAnswer(request);
    expect((await completeAnswer(request)).text).toBe(text);
    expect((await completeAnswer({ ...request, sampling: { ...sampling, seed: 12 } })).text).not.toBe(text);
  });
});

/** A model that says these tokens, whatever it is asked. */
function scripted(tokens: readonly number[], vocabularySize: number): LogitSource {
  let length = 0;
  let said = 0;
  return {
    maxPositions: 1000,
    get length() {
      return length;
    },
    reset: () => {
      length = 0;
      said = 0;
    },
    append: async (appended) => {
      length += appended.length;
      const logits = new Float32Array(vocabularySize);
      logits[tokens[said++]!] = 1;
      return logits;
    },
  };
}

describe("streamed text", () => {
  const text = "Größe 你好 🦙 e\u0301 👩\u200d👩\u200d👧 عربى";
  const request = (maxTokens: number): AnswerRequest => {
    const tokenizer = tokenizers.get(f16[0]!.model)!;
    const tokens = tokenizer.encode(text, false);
    expect(tokens.length).toBeGreaterThan(40); // Nearly a token for each byte.
    return {
      generator: scripted(tokens, tokenizer.vocabularySize),
      tokenizer,
      promptIds: [1],
      sampling: GREEDY,
      stopIds: new Set(),
      maxNewTokens: Math.min(maxTokens, tokens.length),
    };
  };

  it("comes in whole characters", async () => {
    const pieces = await piecesOf(request(1000));
    expect(pieces.join("")).toBe(text);
    const characters = [...text];
    for (const piece of pieces) {
      expect(piece).not.toContain("\ufffd");
      expect(characters.splice(0, [...piece].length).join("")).toBe(piece);
    }
    expect(pieces.length).toBeGreaterThan(20);
  });

  it("that ends inside a character says so, once", async () => {
    // After "Gr", which is one token or two, come the two bytes of "ö".
    const whole = await piecesOf(request(1000));
    const firstTokens = whole.indexOf("ö") + 1;
    const pieces = await piecesOf(request(firstTokens));
    expect(pieces.join("")).toBe("Gr\ufffd");
  });
});

describe("a question", () => {
  const optionsOf = (model: string, promptTemplate: "none" | "alpaca" | "chat") => ({
    tokenizer: tokenizers.get(model)!,
    config: models.get(model)!.config,
    promptTemplate,
    place: "--prompt",
  });

  it.each([...new Map([...f16, ...gqa].map((golden) => [golden.prompt_ids.join(), golden])).values()])(
    "is encoded as transformers does: $name $prompt_template",
    ({ model, prompt, prompt_template: template, prompt_ids: expected }) => {
      expect(encodeQuestion(prompt, optionsOf(model, template))).toEqual(expected);
    },
  );

  it("may be empty, where the tokenizer begins a text by itself", () => {
    expect(encodeQuestion("", optionsOf(f16[0]!.model, "none"))).toEqual([300]);
  });

  it("fills the context exactly, but does not exceed it", () => {
    const options = optionsOf(f16[0]!.model, "none");
    const fits = { ...options, config: { ...options.config, maxPositionEmbeddings: 9 } };
    const prompt = "\u0001\u0002\u0003\u0004\u0005\u0006\u0007\u0008"; // 8 tokens and the BOS.
    const ids = encodeQuestion(prompt, fits);
    expect(ids.length).toBe(9);
    expect(positionsFor(ids.length, 5, fits.config)).toBe(9);
    expect(positionsFor(ids.length, 5, options.config)).toBe(13);
    expect(() => encodeQuestion(`${prompt}\u0001`, fits)).toThrow(
      "--prompt: must make at most 9 tokens, the model's context (max_position_embeddings), found 10; shorten it",
    );
  });

  it("is refused in words", () => {
    const options = optionsOf(f16[0]!.model, "none");
    const small = { ...options, config: { ...options.config, vocabSize: 200 } };
    expect(() => encodeQuestion("a", small)).toThrow(
      "--prompt: the tokenizer gives token 300, but the model's vocab_size is 200",
    );
    const without = { ...options, tokenizer: { ...options.tokenizer, encode: () => [] } };
    expect(() => encodeQuestion("", without)).toThrow("--prompt: must make at least one token, found none");
    expect(() => encodeQuestion("a", optionsOf(f16[0]!.model, "chat"))).toThrow(InputError);
    const strict = compileChatTemplate("{{ raise_exception('no \u001b[31m users here') }}", {}, "template");
    const chat = {
      ...options,
      promptTemplate: "chat" as const,
      tokenizer: { ...options.tokenizer, chatTemplate: strict },
    };
    expect(() => encodeQuestion("a", chat)).toThrow(InputError);
    expect(() => encodeQuestion("a", chat)).toThrow(
      "--prompt: the chat template refuses the prompt: no \\u001b[31m users here",
    );
  });
});
