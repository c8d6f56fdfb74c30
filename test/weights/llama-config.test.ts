import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parseLlamaConfig } from "../../src/weights/llama-config.ts";
import { PROJECTIONS, projectionModule, projectionSize } from "../../src/weights/projections.ts";
import { inputErrorOf } from "./fixtures.ts";

const LLAMA3 = { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_position_embeddings: 8192 };
const LLAMA3_SCALING = { factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositionEmbeddings: 8192 };

const parse = (config: object) => parseLlamaConfig(JSON.stringify({ model_type: "llama", ...config }), "config.json");
/** The problems of a config, without the file's name before each. */
async function problemsOf(config: object): Promise<string[]> {
  const message = await inputErrorOf(() => parse(config));
  return message.split("\n").map((line) => {
    expect(line.startsWith("config.json: "), line).toBe(true);
    return line.slice("config.json: ".length);
  });
}

describe("accepted", () => {
  test("absent keys have the defaults of transformers 5.18's LlamaConfig", () => {
    expect(parse({})).toEqual({
      vocabSize: 32000,
      hiddenSize: 4096,
      intermediateSize: 11008,
      layers: 32,
      heads: 32,
      keyValueHeads: 32,
      headDim: 128,
      rmsNormEps: 1e-6,
      tieWordEmbeddings: false,
      maxPositionEmbeddings: 2048,
      rope: { theta: 10000, scaling: null },
      bosTokenId: 1,
      eosTokenIds: [2],
      padTokenId: null,
      dtype: null,
    });
  });

  test("the example's config", () => {
    const path = new URL("../../examples/twin-tiny/model/config.json", import.meta.url);
    expect(parseLlamaConfig(readFileSync(path, "utf8"), "config.json")).toEqual({
      vocabSize: 4160,
      hiddenSize: 192,
      intermediateSize: 512,
      layers: 6,
      heads: 6,
      keyValueHeads: 2,
      headDim: 32,
      rmsNormEps: 1e-5,
      tieWordEmbeddings: false,
      maxPositionEmbeddings: 2048,
      rope: { theta: 500000, scaling: { ...LLAMA3_SCALING, originalMaxPositionEmbeddings: 512 } },
      bosTokenId: 4096,
      eosTokenIds: [4097],
      padTokenId: 4098,
      dtype: "bfloat16",
    });
  });

  test("Llama-3.1-8B-Instruct's config, as Meta published it", () => {
    const config = parse({
      architectures: ["LlamaForCausalLM"],
      attention_bias: false,
      attention_dropout: 0.0,
      bos_token_id: 128000,
      eos_token_id: [128001, 128008, 128009],
      hidden_act: "silu",
      hidden_size: 4096,
      initializer_range: 0.02,
      intermediate_size: 14336,
      max_position_embeddings: 131072,
      mlp_bias: false,
      num_attention_heads: 32,
      num_hidden_layers: 32,
      num_key_value_heads: 8,
      pretraining_tp: 1,
      rms_norm_eps: 1e-5,
      rope_scaling: { ...LLAMA3, rope_type: "llama3" },
      rope_theta: 500000.0,
      tie_word_embeddings: false,
      torch_dtype: "bfloat16",
      transformers_version: "4.42.3",
      use_cache: true,
      vocab_size: 128256,
    });
    expect(config.rope).toEqual({ theta: 500000, scaling: LLAMA3_SCALING });
    expect(config.eosTokenIds).toEqual([128001, 128008, 128009]);
    expect([config.keyValueHeads, config.headDim, config.dtype]).toEqual([8, 128, "bfloat16"]);
  });

  test.each<[string, object, object]>([
    [
      "grouped queries",
      { num_attention_heads: 12, hidden_size: 96, num_key_value_heads: 3 },
      { keyValueHeads: 3, headDim: 8 },
    ],
    ["one key-value head", { num_key_value_heads: 1 }, { keyValueHeads: 1 }],
    ["null key-value heads", { num_key_value_heads: null }, { keyValueHeads: 32 }],
    ["head_dim given", { hidden_size: 96, num_attention_heads: 6, head_dim: 32 }, { headDim: 32 }],
    ["head_dim null", { hidden_size: 96, num_attention_heads: 6, head_dim: null }, { headDim: 16 }],
    ["tied", { tie_word_embeddings: true }, { tieWordEmbeddings: true }],
    ["no token ids", { bos_token_id: null, eos_token_id: null }, { bosTokenId: null, eosTokenIds: [] }],
    ["the first Llama's pad token", { pad_token_id: -1 }, { padTokenId: null }],
    ["dtype before torch_dtype", { dtype: "float16", torch_dtype: "float32" }, { dtype: "float16" }],
    ["unknown keys", { use_cache: false, custom: { a: [1] }, attention_dropout: 0.1 }, { layers: 32 }],
    ["pretraining_tp null, no sliding window", { pretraining_tp: null, sliding_window: null }, { layers: 32 }],
    ["a whole rotary factor", { partial_rotary_factor: 1.0 }, { layers: 32 }],
    ["full attention in each layer", { layer_types: ["full_attention", "full_attention"] }, { layers: 32 }],
    ["eps in exponent form", { rms_norm_eps: 1e-5 }, { rmsNormEps: 1e-5 }],
  ])("%s", (_, config, expected) => {
    expect(parse(config)).toMatchObject(expected);
  });

  test("no model_type, but Llama's architecture", () => {
    const config = parseLlamaConfig('{"architectures":["LlamaForCausalLM"],"vocab_size":7}', "config.json");
    expect(config.vocabSize).toBe(7);
  });

  test.each<[string, object, object]>([
    ["nothing", {}, { theta: 10000, scaling: null }],
    ["rope_theta", { rope_theta: 5000 }, { theta: 5000, scaling: null }],
    ["null scaling", { rope_theta: 5000.5, rope_scaling: null }, { theta: 5000.5, scaling: null }],
    ["empty parameters", { rope_theta: 7, rope_parameters: {} }, { theta: 7, scaling: null }],
    [
      "parameters, default",
      { rope_parameters: { rope_type: "default", rope_theta: 3.0 } },
      { theta: 3, scaling: null },
    ],
    ["parameters without a type", { rope_parameters: { rope_theta: 3.0 } }, { theta: 3, scaling: null }],
    ["parameters without theta", { rope_parameters: { rope_type: "default" } }, { theta: 10000, scaling: null }],
    [
      "parameters, llama3",
      { rope_parameters: { ...LLAMA3, rope_type: "llama3", rope_theta: 9.0 } },
      { theta: 9, scaling: LLAMA3_SCALING },
    ],
    [
      "older type",
      { rope_theta: 9, rope_scaling: { ...LLAMA3, type: "llama3" } },
      { theta: 9, scaling: LLAMA3_SCALING },
    ],
    [
      "both types, equal",
      { rope_scaling: { ...LLAMA3, type: "llama3", rope_type: "llama3" } },
      { theta: 10000, scaling: LLAMA3_SCALING },
    ],
    [
      "both objects, equal",
      {
        rope_theta: 9,
        rope_scaling: { ...LLAMA3, rope_type: "llama3" },
        rope_parameters: { ...LLAMA3, rope_type: "llama3", rope_theta: 9.0 },
      },
      { theta: 9, scaling: LLAMA3_SCALING },
    ],
    [
      "original length from max_position_embeddings",
      {
        max_position_embeddings: 4096,
        rope_scaling: { rope_type: "llama3", factor: 2, low_freq_factor: 1, high_freq_factor: 4 },
      },
      { theta: 10000, scaling: { ...LLAMA3_SCALING, factor: 2, originalMaxPositionEmbeddings: 4096 } },
    ],
    [
      "original length from the outer key",
      {
        original_max_position_embeddings: 64,
        rope_scaling: { rope_type: "llama3", factor: 2, low_freq_factor: 1, high_freq_factor: 4 },
      },
      { theta: 10000, scaling: { ...LLAMA3_SCALING, factor: 2, originalMaxPositionEmbeddings: 64 } },
    ],
  ])("rope: %s", (_, config, rope) => {
    expect(parse(config).rope).toEqual(rope);
  });
});

describe("refused", () => {
  test.each<[object, string]>([
    [
      { model_type: "mistral" },
      'model_type must be "llama", the one kind of model that can be trained, found "mistral"',
    ],
    [{ model_type: "qwen2" }, 'model_type must be "llama", the one kind of model that can be trained, found "qwen2"'],
    [{ model_type: 7 }, 'model_type must be "llama", the one kind of model that can be trained, found 7'],
    [{ architectures: ["LlamaModel"] }, 'architectures must be ["LlamaForCausalLM"], found ["LlamaModel"]'],
    [{ architectures: [] }, 'architectures must be ["LlamaForCausalLM"], found []'],
    [{ architectures: "LlamaForCausalLM" }, 'architectures must be ["LlamaForCausalLM"], found "LlamaForCausalLM"'],
    [
      { architectures: ["LlamaForCausalLM", "Other"] },
      'architectures must be ["LlamaForCausalLM"], found ["LlamaForCausalLM", "Other"]',
    ],
    [{ attention_bias: true }, "attention_bias must be false: biases are not supported, found true"],
    [{ mlp_bias: true }, "mlp_bias must be false: biases are not supported, found true"],
    [{ attention_bias: "yes" }, 'attention_bias must be true or false, found "yes"'],
    [{ sliding_window: 4096 }, "sliding_window must be null: only full attention is supported, found 4096"],
    [{ layer_types: ["sliding_attention"] }, 'layer_types must all be "full_attention", found ["sliding_attention"]'],
    [{ hidden_act: "gelu" }, 'hidden_act must be "silu", found "gelu"'],
    [{ hidden_act: null }, 'hidden_act must be "silu", found null'],
    [{ pretraining_tp: 2 }, "pretraining_tp must be 1: sliced matrix products are not supported, found 2"],
    [{ partial_rotary_factor: 0.5 }, "partial_rotary_factor must be 1: rope turns whole heads, found 0.5"],
    [
      { rope_parameters: { partial_rotary_factor: 0.25 } },
      "rope_parameters.partial_rotary_factor must be 1: rope turns whole heads, found 0.25",
    ],
    [
      { quantization_config: { quant_method: "bitsandbytes", load_in_4bit: true } },
      'quantization_config must be absent: the model must be stored in 16 or 32 bits, found quant_method "bitsandbytes"',
    ],
    [{ head_dim: 31 }, "head_dim must be even: rope turns pairs of elements, found 31"],
    [{ hidden_size: 33, num_attention_heads: 11 }, "head_dim must be even: rope turns pairs of elements, found 3"],
    [
      { hidden_size: 100, num_attention_heads: 3 },
      "hidden_size must be a multiple of num_attention_heads where head_dim is not given, found 100 and 3",
    ],
    [
      { num_attention_heads: 32, num_key_value_heads: 5 },
      "num_attention_heads must be a multiple of num_key_value_heads, found 32 and 5",
    ],
    [{ num_key_value_heads: 0 }, "num_key_value_heads must be an integer from 1 to 4096, found 0"],
    [{ num_hidden_layers: 0 }, "num_hidden_layers must be an integer from 1 to 4096, found 0"],
    [{ num_hidden_layers: 1e9 }, "num_hidden_layers must be an integer from 1 to 4096, found 1000000000"],
    [{ hidden_size: -8 }, "hidden_size must be an integer from 1 to 131072, found -8"],
    [{ hidden_size: "4096" }, 'hidden_size must be an integer from 1 to 131072, found "4096"'],
    [{ hidden_size: null }, "hidden_size must be an integer from 1 to 131072, found null"],
    [{ intermediate_size: [1, 2] }, "intermediate_size must be an integer from 1 to 1048576, found [1, 2]"],
    [{ vocab_size: 1.5 }, "vocab_size must be an integer from 1 to 16777216, found 1.5"],
    [{ head_dim: 0 }, "head_dim must be an integer from 1 to 4096, found 0"],
    [{ max_position_embeddings: 0 }, "max_position_embeddings must be an integer from 1 to 1073741824, found 0"],
    [{ rms_norm_eps: 0 }, "rms_norm_eps must be a number above 0, found 0"],
    [{ rms_norm_eps: "1e-5" }, 'rms_norm_eps must be a number above 0, found "1e-5"'],
    [{ tie_word_embeddings: 1 }, "tie_word_embeddings must be true or false, found 1"],
    [{ bos_token_id: 32000 }, "bos_token_id must be a token from 0 to 31999 (vocab_size − 1) or null, found 32000"],
    [{ eos_token_id: -2 }, "eos_token_id must be a token from 0 to 31999 (vocab_size − 1) or null, found -2"],
    [{ eos_token_id: [2, "x"] }, 'eos_token_id must list tokens from 0 to 31999 (vocab_size − 1), found [2, "x"]'],
    [{ dtype: 16 }, "dtype must be a string, found 16"],
    [{ rope_theta: null }, "rope_theta must be a number above 0, found null"],
    [{ rope_theta: 0 }, "rope_theta must be a number above 0, found 0"],
    [{ rope_scaling: "llama3" }, 'rope_scaling must be an object or null, found "llama3"'],
    [
      { rope_scaling: { type: "linear", factor: 2 } },
      'rope_scaling.rope_type must be "default" or "llama3", found "linear"',
    ],
    [
      { rope_parameters: { rope_type: "yarn" } },
      'rope_parameters.rope_type must be "default" or "llama3", found "yarn"',
    ],
    [{ rope_parameters: { rope_type: null } }, 'rope_parameters.rope_type must be "default" or "llama3", found null'],
    [
      { rope_scaling: { ...LLAMA3, type: "linear", rope_type: "llama3" } },
      'rope_scaling.rope_type and type must agree where both are given, found "llama3" and "linear"',
    ],
    [
      { rope_parameters: { full_attention: { rope_type: "default" } } },
      "rope_parameters.full_attention must not be an object: rope by kind of layer is not supported",
    ],
    [
      { rope_theta: 10000, rope_parameters: { rope_theta: 500000 } },
      "rope_parameters.rope_theta must agree with the outer rope_theta where both are given, found 500000 and 10000",
    ],
    [
      { rope_parameters: { rope_theta: 5 }, rope_scaling: { ...LLAMA3, rope_type: "llama3" } },
      "rope_parameters and rope_scaling must agree where both are given, found different settings",
    ],
    [
      { rope_scaling: { ...LLAMA3, rope_type: "llama3", high_freq_factor: 1 } },
      "rope_scaling.high_freq_factor must be above low_freq_factor, found 1 and 1",
    ],
    [
      { rope_scaling: { ...LLAMA3, rope_type: "llama3", factor: undefined } },
      "rope_scaling.factor must be a number above 0, found nothing",
    ],
    [
      { original_max_position_embeddings: 4, rope_scaling: { ...LLAMA3, rope_type: "llama3" } },
      "rope_scaling.original_max_position_embeddings must agree with the outer original_max_position_embeddings where both are given, found 8192 and 4",
    ],
    [
      { rope_scaling: { ...LLAMA3, rope_type: "llama3", original_max_position_embeddings: 0.5 } },
      "rope_scaling.original_max_position_embeddings must be an integer from 1 to 1073741824, found 0.5",
    ],
  ])("%j", async (config, problem) => {
    expect(await problemsOf(config)).toEqual([problem]);
  });

  test("all problems of a file at once", async () => {
    const problems = await problemsOf({
      model_type: "mistral",
      architectures: ["MistralForCausalLM"],
      sliding_window: 4096,
      hidden_act: "gelu",
      hidden_size: 0,
      rope_scaling: { type: "dynamic", factor: 2 },
      eos_token_id: "x",
    });
    expect(problems.map((problem) => problem.split(" ")[0])).toEqual([
      "model_type",
      "architectures",
      "sliding_window",
      "hidden_act",
      "hidden_size",
      "rope_scaling.rope_type",
      "eos_token_id",
    ]);
  });

  test("neither model_type nor architectures", async () => {
    const message = await inputErrorOf(() => parseLlamaConfig('{"vocab_size":7}', "config.json"));
    expect(message).toContain('model_type must be "llama"');
    expect(message).toContain("found nothing");
  });

  test.each(["", "[]", "null", '{"a":1}x', '{"vocab_size":1,"vocab_size":2}', '{"rms_norm_eps":NaN}'])(
    "text that is not a strict JSON object: %j",
    async (text) => {
      expect(await inputErrorOf(() => parseLlamaConfig(text, "config.json"))).toMatch(/^config\.json:/);
    },
  );

  test("untrusted text is made printable", async () => {
    const [problem] = await problemsOf({ model_type: "\u001b[31mllama" });
    expect(problem).toContain('found "\\u001b[31mllama"');
  });
});

test("sizes of the seven projections", () => {
  const config = parse({
    hidden_size: 96,
    intermediate_size: 40,
    num_attention_heads: 6,
    num_key_value_heads: 2,
    head_dim: 8,
  });
  const sizes = PROJECTIONS.map((name) => {
    const { inFeatures, outFeatures } = projectionSize(config, name);
    return `${projectionModule(name)}.${name} ${inFeatures}→${outFeatures}`;
  });
  expect(sizes).toEqual([
    "self_attn.q_proj 96→48",
    "self_attn.k_proj 96→16",
    "self_attn.v_proj 96→16",
    "self_attn.o_proj 48→96",
    "mlp.gate_proj 96→40",
    "mlp.up_proj 96→40",
    "mlp.down_proj 40→96",
  ]);
});
