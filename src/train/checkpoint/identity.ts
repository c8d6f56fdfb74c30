import { createHash } from "node:crypto";
import { SETTING_KEYS, type SettingKey, settingOf } from "../../config/keys.ts";
import type { PairTokens } from "../../data/pack.ts";
import { InputError } from "../../errors.ts";
import type { OpenedDevice } from "../../platform/dawn.ts";
import type { LoadedBase, Precision } from "../../platform/load-base.ts";
import { printable } from "../../text.ts";
import type { ReferenceLogps } from "../objective.ts";
import type { PreparedRun } from "../prepare-run.ts";
import { versions } from "../versions.ts";

/** Names, as a message shows them, and values. */
export type Facts = Readonly<Record<string, string>>;

/** Settings that a run may go on with another value of: they change no number, or what they name is hashed. */
const FREE_SETTINGS: ReadonlySet<SettingKey> = new Set<SettingKey>([
  "model",
  "dataset",
  "dataset_config",
  "dataset_train_split",
  "dataset_test_split",
  "eval_dataset",
  "columns.prompt",
  "columns.chosen",
  "columns.rejected",
  "columns.system",
  "init_adapter",
  "gradient_checkpointing",
  "reference_cache",
  "report_to",
  "save_steps",
  "save_total_limit",
  "output_dir",
  "export.merged_16bit",
  "export.dtype",
  "export.max_shard_size",
  "push_to_hub.repo",
  "push_to_hub.what",
  "push_to_hub.private",
  "push_to_hub.revision",
  "push_to_hub.base_model",
]);

/** What is known before a device is opened. */
export function factsOfConfig({
  config,
  folder,
  data,
  start,
}: Pick<PreparedRun, "config" | "folder" | "data" | "start">): Facts {
  const settings = SETTING_KEYS.filter((key) => !FREE_SETTINGS.has(key)).map((key) => {
    return [key, JSON.stringify(settingOf(config, key)) ?? "unset"];
  });
  const { "dpo-train": own, webgpu } = versions();
  return {
    ...Object.fromEntries(settings),
    "the SHA-256 of the model's shape": sha256Of(JSON.stringify(folder.config)),
    "the SHA-256 of the data": Object.values(data.sha256).join(" "),
    "the SHA-256 of the data's tokens": tokensSha256([...data.train, ...data.evaluation]),
    "the SHA-256 of init_adapter": start.sha256 ?? "none",
    "the version of dpo-train": own,
    "the version of webgpu": webgpu,
  };
}

/** What is known once the device is open. */
export function factsOfDevice(
  { adapter, profile }: Pick<OpenedDevice, "adapter" | "profile">,
  precision: Precision,
): Facts {
  return { "the device": adapter.name, "the device's profile": profile, "the precision": precision };
}

/** What is known once the model is loaded. */
export function factsOfBase({ sha256 }: Pick<LoadedBase, "sha256">): Facts {
  const names = Object.keys(sha256).sort();
  return { "the SHA-256 of the model's weights": names.map((name) => `${name} ${sha256[name]}`).join(", ") };
}

/** What is known once the reference is. */
export function factsOfReference(references: readonly ReferenceLogps[]): Facts {
  const hash = createHash("sha256");
  for (const { chosen, rejected } of references) hash.update(chosen).update(rejected);
  return { "the SHA-256 of the reference's log-probabilities": hash.digest("hex") };
}

/** @throws InputError listing each of these facts that a checkpoint has another value of */
export function requireSameFacts(saved: Facts, current: Facts, checkpoint: string): void {
  const differences = Object.entries(current)
    .filter(([name, value]) => saved[name] !== value)
    .map(([name, value]) => `${name} is ${printable(value)}, and was ${printable(saved[name] ?? "not known")}`);
  if (differences.length === 0) return;
  throw new InputError(
    `${printable(checkpoint)} cannot be continued, because the run would not be the same: ${differences.join("; ")}; ` +
      "restore what was, or train anew in another output_dir",
  );
}

function sha256Of(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function tokensSha256(pairs: readonly PairTokens[]): string {
  const hash = createHash("sha256");
  for (const { promptIds, chosenIds, rejectedIds } of pairs) {
    for (const ids of [promptIds, chosenIds, rejectedIds]) hash.update(Uint32Array.of(ids.length, ...Array.from(ids)));
  }
  return hash.digest("hex");
}
