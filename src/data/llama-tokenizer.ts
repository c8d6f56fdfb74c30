import { isFields, type JsonFields } from "./tokenizer-files.ts";

const WORD_START = "▁";

/**
 * transformers 5 loads a tokenizer of class LlamaTokenizer (Llama 2's kind) by its vocabulary and merges alone and
 * marks spaces before splitting, whatever tokenizer.json says; files converted by older versions normalize instead, and
 * so put a space in front of every text that follows a special token. Returns tokenizer.json as transformers runs it.
 *
 * Some byte-level tokenizers carry the class name by mistake; they are left as they are.
 */
export function asTransformersRuns(tokenizer: JsonFields, config: JsonFields): JsonFields {
  const { model } = tokenizer;
  const isLlamaTokenizer =
    config.tokenizer_class === "LlamaTokenizer" || config.tokenizer_class === "LlamaTokenizerFast";
  if (!isLlamaTokenizer || !isFields(model) || model.byte_fallback !== true) return tokenizer;
  const addsPrefixSpace = (config.add_prefix_space ?? true) === true;
  return {
    ...tokenizer,
    model: { ...model, ignore_merges: false, fuse_unk: true, unk_token: null },
    normalizer: null,
    pre_tokenizer: {
      type: "Metaspace",
      replacement: WORD_START,
      add_prefix_space: addsPrefixSpace,
      prepend_scheme: !addsPrefixSpace ? "never" : config.legacy === true ? "always" : "first",
      split: false,
    },
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: WORD_START }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(addsPrefixSpace ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      ],
    },
  };
}
