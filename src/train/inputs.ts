import { SETTING_KEYS, type SettingKey, settingOf } from "../config/keys.ts";
import type { Config } from "../config/schema.ts";
import { loadTokenizer, type PairTokenizer } from "../data/tokenizer.ts";
import type { ResolveOptions } from "../hub/resolve.ts";
import type { LlamaConfig } from "../weights/llama-config.ts";
import { type DataRows, type PreparedData, readData, tokenizeData } from "./prepare-data.ts";

/** Settings that neither the rows nor their tokens depend on. A new setting counts as one that they do. */
const BESIDE_THE_DATA: ReadonlySet<SettingKey> = new Set<SettingKey>([
  "lora.r",
  "lora.lora_alpha",
  "lora.lora_dropout",
  "lora.target_modules",
  "init_adapter",
  "beta",
  "loss_type",
  "loss_weights",
  "label_smoothing",
  "f_divergence_type",
  "f_alpha_divergence_coef",
  "ld_alpha",
  "learning_rate",
  "lr_scheduler_type",
  "warmup_steps",
  "warmup_ratio",
  "per_device_train_batch_size",
  "per_device_eval_batch_size",
  "gradient_accumulation_steps",
  "num_train_epochs",
  "max_steps",
  "optim",
  "weight_decay",
  "adam_beta1",
  "adam_beta2",
  "adam_epsilon",
  "max_grad_norm",
  "output_dir",
  "push_to_hub.repo",
  "push_to_hub.what",
  "push_to_hub.private",
  "push_to_hub.revision",
  "push_to_hub.base_model",
]);

/**
 * The data and the tokenizers of runs that come one after the other: what the last run had is not read again for the next
 * one that asks for the same.
 */
export class Inputs {
  readonly #rows = lastOne<DataRows>();
  readonly #tokenizer = lastOne<PairTokenizer>();
  readonly #data = lastOne<PreparedData>();

  /** The rows that a config names, downloaded where they must be. @throws InputError naming file and line */
  rows(config: Config, fetching: ResolveOptions): Promise<DataRows> {
    return this.#rows(dataKey(config), () => readData(config, fetching));
  }

  /** The tokenizer of a model's folder. @throws InputError */
  tokenizer(folder: string): Promise<PairTokenizer> {
    return this.#tokenizer(folder, () => loadTokenizer(folder));
  }

  /** Those rows as tokens. @throws InputError naming file and line */
  data(
    rows: DataRows,
    config: Config,
    tokenizer: PairTokenizer,
    folder: string,
    model: LlamaConfig,
  ): Promise<PreparedData> {
    return this.#data(`${folder} ${dataKey(config)}`, async () => tokenizeData(rows, config, tokenizer, model));
  }
}

function dataKey(config: Config): string {
  const isSeedRead = config.test_size !== undefined;
  const keys = SETTING_KEYS.filter((key) => !BESIDE_THE_DATA.has(key) && (key !== "seed" || isSeedRead));
  return JSON.stringify(keys.map((key) => [key, settingOf(config, key)]));
}

/** Makes what is asked for unless it is what was asked for last. */
function lastOne<T>(): (key: string, make: () => Promise<T>) => Promise<T> {
  let last: { readonly key: string; readonly value: T } | null = null;
  return async (key, make) => {
    if (last?.key !== key) {
      last = null; // Two at once may be more than there is room for.
      last = { key, value: await make() };
    }
    return last.value;
  };
}
