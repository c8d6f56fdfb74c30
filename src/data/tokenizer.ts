import { Tokenizer } from "@huggingface/tokenizers";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { type ChatTemplate, compileChatTemplate } from "./chat-template.ts";
import { asTransformersRuns } from "./llama-tokenizer.ts";
import { createStreamDecoder, type StreamDecoder } from "./stream-decoder.ts";
import { isFields, type JsonFields, readTokenizerFiles, type SpecialTokenTexts } from "./tokenizer-files.ts";

/** Far above any published vocabulary (Llama 4's has 202,048). */
const MAX_TOKENS = 2 ** 24;

export interface SpecialToken {
  text: string;
  id: number;
}

/** A model's tokenizer as preference pairs and generation need it. Its tokens are those of Python's transformers. */
export interface PairTokenizer {
  /** Undefined when the model has none. */
  bos: SpecialToken | undefined;
  /** Appended to the answers of text rows, and the end of a generated answer. */
  eos: SpecialToken;
  /** As in TRL the EOS when the model has none of its own. */
  pad: SpecialToken;
  /** The highest token id plus one; the model's own vocabulary may be padded to more. */
  vocabularySize: number;
  /** Undefined when the model has none. */
  chatTemplate: ChatTemplate | undefined;
  /** @param addSpecialTokens with what the tokenizer puts around a text, as a rule the BOS in front */
  encode(text: string, addSpecialTokens: boolean): number[];
  /** Ids that the tokenizer does not know are left out. */
  decode(ids: readonly number[], options?: DecodeOptions): string;
  streamDecoder(options?: DecodeOptions): StreamDecoder;
}

export interface DecodeOptions {
  skipSpecialTokens?: boolean;
}

/**
 * Loads the tokenizer of a model folder.
 *
 * @throws InputError when a file is missing or malformed, or no EOS token is named
 */
export async function loadTokenizer(folder: string): Promise<PairTokenizer> {
  const { tokenizer: tokenizerJson, config, specialTokens, chatTemplate } = await readTokenizerFiles(folder);
  const place = printable(`${folder}/tokenizer.json`);
  checkTokenizerJson(tokenizerJson, place);
  const runnable = withSpecialTokens(asTransformersRuns(tokenizerJson, config), specialTokens);
  const tokenizer = buildTokenizer(runnable, config, place);

  const { bos, eos, pad } = findSpecialTokens(tokenizer, specialTokens.named, folder);
  const decode = (ids: readonly number[], options: DecodeOptions = {}): string => {
    const known = ids.filter((id) => tokenizer.id_to_token(id) !== undefined);
    if (known.length === 0) return "";
    return tokenizer.decode(known, {
      skip_special_tokens: options.skipSpecialTokens ?? false,
      clean_up_tokenization_spaces: false,
    });
  };
  return {
    bos,
    eos,
    pad,
    vocabularySize: vocabularySize(tokenizer),
    chatTemplate:
      chatTemplate &&
      compileChatTemplate(chatTemplate.text, { ...specialTokens.named, pad_token: pad.text }, chatTemplate.place),
    encode: (text, addSpecialTokens) => tokenizer.encode(text, { add_special_tokens: addSpecialTokens }).ids,
    decode,
    streamDecoder: (options) => createStreamDecoder((ids) => decode(ids, options)),
  };
}

function findSpecialTokens(tokenizer: Tokenizer, named: Record<string, string>, folder: string) {
  const find = (name: string): SpecialToken | undefined => {
    const text = named[name];
    const id = text === undefined ? undefined : tokenizer.token_to_id(text);
    return text === undefined || id === undefined ? undefined : { text, id };
  };
  for (const name of ["bos_token", "eos_token"]) {
    const text = named[name];
    if (text !== undefined && !find(name)) {
      throw new InputError(
        `${printable(folder)}/tokenizer.json: must hold the ${name} of tokenizer_config.json, found no token "${printable(text)}"`,
      );
    }
  }
  const eos = find("eos_token");
  if (!eos) {
    throw new InputError(
      `${printable(folder)}/tokenizer_config.json: must name an eos_token, which ends every answer; found none`,
    );
  }
  return { bos: find("bos_token"), eos, pad: find("pad_token") ?? eos };
}

function checkTokenizerJson(json: JsonFields, place: string): void {
  const { model, added_tokens: addedTokens } = json;
  if (!isFields(model) || model.type !== "BPE" || !isFields(model.vocab) || !Array.isArray(model.merges)) {
    throw new InputError(`${place}: must hold a model of type BPE with its vocab and merges, as every Llama's does`);
  }
  const isId = (id: unknown): boolean => Number.isInteger(id) && (id as number) >= 0 && (id as number) < MAX_TOKENS;
  const badToken = Object.entries(model.vocab).find(([, id]) => !isId(id));
  if (badToken) {
    throw new InputError(
      `${place}: the id of "${printable(badToken[0])}" must be a whole number from 0 to ${MAX_TOKENS - 1}, found ${printable(String(badToken[1]))}`,
    );
  }
  const isAddedToken = (token: unknown): boolean =>
    isFields(token) && isId(token.id) && typeof token.content === "string";
  if (!Array.isArray(addedTokens) || !addedTokens.every(isAddedToken)) {
    throw new InputError(`${place}: added_tokens must be a list of tokens {id, content, …}`);
  }
}

/** transformers treats the named and extra special tokens as such also where tokenizer.json does not say so. */
function withSpecialTokens(json: JsonFields, { named, extra }: SpecialTokenTexts): JsonFields {
  const added = json.added_tokens as { content: string }[];
  const vocabulary = (json.model as { vocab: Record<string, number> }).vocab;
  const known = new Set(added.map(({ content }) => content));
  const missing = [...new Set([...Object.values(named), ...extra])].filter(
    (text) => !known.has(text) && Object.hasOwn(vocabulary, text),
  );
  const special = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return {
    ...json,
    added_tokens: [...added, ...missing.map((content) => ({ id: vocabulary[content], content, ...special }))],
  };
}

function buildTokenizer(json: JsonFields, config: JsonFields, place: string): Tokenizer {
  try {
    return new Tokenizer(json, config);
  } catch (cause) {
    throw new InputError(`${place}: is not a tokenizer that can be used: ${printable((cause as Error).message)}`, {
      cause,
    });
  }
}

function vocabularySize(tokenizer: Tokenizer): number {
  let highest = -1;
  for (const id of tokenizer.get_vocab().values()) highest = Math.max(highest, id);
  return highest + 1;
}
