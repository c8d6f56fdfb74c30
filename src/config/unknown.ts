import { printable } from "../text.ts";
import { isKey, SECTIONS, SETTING_KEYS } from "./keys.ts";
import { closest } from "./words.ts";

/** What people call a setting elsewhere. */
const OTHER_NAMES: Readonly<Record<string, string>> = {
  model_name_or_path: "model",
  dataset_name: "dataset",
  lr: "learning_rate",
  epochs: "num_train_epochs",
  num_epochs: "num_train_epochs",
  batch_size: "per_device_train_batch_size",
  rank: "lora.r",
  alpha: "lora.lora_alpha",
  dropout: "lora.lora_dropout",
  hub_model_id: "push_to_hub.repo",
  hub_private_repo: "push_to_hub.private",
  hub_revision: "push_to_hub.revision",
};

/** Each spelling that leads to a setting, with the setting. */
const SPELLINGS: ReadonlyMap<string, string> = new Map([
  ...Object.entries(OTHER_NAMES),
  ...SETTING_KEYS.flatMap((key): [string, string][] => [
    [key.slice(key.indexOf(".") + 1), key],
    [key.replace(".", "_"), key],
    [key, key],
  ]),
  ...Object.keys(SECTIONS).map((section): [string, string] => [section, section]),
]);

/** The message for an unknown key. Its value is never shown: it may be a secret in the wrong place. */
export function unknownKeyMessage(key: string): string {
  const name = printable(key, 60);
  const leaf = key.slice(key.lastIndexOf(".") + 1);
  const spelling = closest(key, SPELLINGS.keys()) ?? closest(leaf, SPELLINGS.keys());
  return spelling === undefined
    ? `unknown key ${name}`
    : `unknown key ${name}; did you mean ${SPELLINGS.get(spelling)}?`;
}

/** The message for a key of a map in the file, where sections are nested and not spelled with a dot. */
export function unknownKeyInFileMessage(section: string | undefined, name: string): string {
  if (section === undefined && isKey(name)) {
    const [outer, inner] = name.split(".");
    return `unknown key ${name}; in a file write ${inner} under ${outer}`;
  }
  return unknownKeyMessage(section === undefined ? name : `${section}.${name}`);
}
