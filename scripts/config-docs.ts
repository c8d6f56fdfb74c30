import { writeFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { EFFECTS } from "../src/config/effects.ts";
import { configJsonSchema } from "../src/config/json-schema.ts";
import { requirementOf, SETTING_KEYS, type SettingKey } from "../src/config/keys.ts";
import { ALTERNATIVES } from "../src/config/rules.ts";
import { UNSUPPORTED } from "../src/config/unsupported.ts";

// Writes docs/config.md from the schema: npx tsx scripts/config-docs.ts

export const CONFIG_DOCS_PATH = fileURLToPath(new URL("../docs/config.md", import.meta.url));

/** Each group begins with the key named here and runs to the next. */
const GROUPS: readonly (readonly [title: string, firstKey: SettingKey])[] = [
  ["Model and data", "model"],
  ["Adapter", "lora.r"],
  ["Loss", "beta"],
  ["Optimizer and schedule", "learning_rate"],
  ["Memory, cache and order", "max_tokens_per_batch"],
  ["Evaluation and metrics", "eval_strategy"],
  ["Output", "output_dir"],
];

const INTRODUCTION = `# Config

<!-- Written by scripts/config-docs.ts from src/config/schema.ts. Do not edit. -->

A config is a YAML file with the names that TRL, transformers and PEFT give their settings, and their defaults (TRL 1.13,
transformers 5.18, PEFT 0.21) but for \`optim\`, \`logging_steps\`, \`eval_strategy\`, \`save_steps\`,
\`save_total_limit\`, \`lora.target_modules\` and \`export.max_shard_size\`. Paths are relative to the folder the command is started from.
[\`configs/twin.yaml\`](../configs/twin.yaml) is a complete example, explained line by line.

[\`configs/schema.json\`](../configs/schema.json) is the JSON Schema of a config, by which an editor with the YAML language
server (the YAML extension of VS Code) completes, explains and checks keys. A file names it in a comment, by a path from
itself: \`# yaml-language-server: $schema=schema.json\`.

Every mistake is reported at once, with line and column, and nothing is ignored: an unknown key is an error, and so is a
setting that has no effect beside the others.

\`--set KEY=VALUE\` overrides a key from the command line. A key in \`columns\`, \`lora\`, \`export\` or \`push_to_hub\` is written with a dot
(\`--set lora.r=8\`), VALUE is YAML (\`--set 'loss_type=[sigmoid, sft]'\`), and \`null\` removes the key so that its default
holds (\`--set seed=null\`). Of two keys that exclude each other, the one that is set removes the other from the file:
\`--set max_steps=5\` needs no \`--set num_train_epochs=null\`.
`;

const SWEEPS = `## Sweeps

A config with \`sweep:\` describes many runs, which \`dpo-train sweep --config FILE\` trains. Any setting above may be swept but
\`output_dir\`, \`export.merged_16bit\` and \`push_to_hub\`; it is named as in \`--set\` (\`lora.r\`), and every run is checked like a config of
its own. One of:

| key | value | meaning |
|---|---|---|
| \`sweep.grid\` | a map of settings to lists | Every combination of the values. |
| \`sweep.random\` | a map of settings to distributions | \`sweep.count\` runs drawn with \`sweep.seed\` (default 0). A distribution is \`{log_uniform: [low, high]}\`, \`{uniform: [low, high]}\`, \`{choice: [...]}\` or a list, which means choice. Numbers are drawn to four digits. |
| \`sweep.runs\` | a list of maps | These runs. |

\`sweep.metric\` is what runs are compared by: \`eval_loss\` (default), \`eval_rewards/accuracies\` or \`eval_rewards/margins\`.
Losses of runs with different \`beta\` are not on one scale; accuracies are.

\`\`\`yaml
sweep:
  grid:
    beta: [0.1, 0.3, 0.5]
    learning_rate: [1.0e-6, 2.0e-6, 5.0e-6]
  metric: eval_rewards/accuracies
\`\`\`
`;

interface PropertySchema {
  readonly description?: string;
  readonly default?: unknown;
  readonly properties?: Readonly<Record<string, PropertySchema>>;
}

export function configDocs(): string {
  const schema: PropertySchema = configJsonSchema();
  const sections = GROUPS.map(([title, first], i) => {
    const next = GROUPS[i + 1]?.[1];
    const keys = SETTING_KEYS.slice(SETTING_KEYS.indexOf(first), next && SETTING_KEYS.indexOf(next));
    const rows = keys.map((key) => row(key, propertyOf(schema, key)));
    return [`## ${title}`, "", "| key | value | default | meaning |", "|---|---|---|---|", ...rows, ""].join("\n");
  });
  return [INTRODUCTION, ...sections, SWEEPS, exclusions(), conditions(), notYet()].join("\n");
}

function propertyOf(schema: PropertySchema, key: SettingKey): PropertySchema {
  const property = key.split(".").reduce<PropertySchema | undefined>((node, step) => node?.properties?.[step], schema);
  if (property?.description === undefined) throw new Error(`internal: the config key ${key} is not described`);
  return property;
}

function row(key: SettingKey, property: PropertySchema): string {
  const isRequired = key === "model" || key === "dataset";
  const value = property.default === undefined ? "" : `\`${text(property.default)}\``;
  return `| \`${key}\` | ${requirementOf(key)} | ${isRequired ? "required" : value} | ${property.description} |`;
}

function text(value: unknown): string {
  if (Array.isArray(value)) return value.length > 3 ? `all ${value.length}` : `[${value.join(", ")}]`;
  return typeof value === "number" && value !== 0 && value < 1e-4 ? value.toExponential() : String(value);
}

function exclusions(): string {
  const rows = ALTERNATIVES.map(([one, other]) => `- \`${one}\` and \`${other}\``);
  return ["## Keys that exclude each other", "", ...rows, ""].join("\n");
}

function conditions(): string {
  const rows = EFFECTS.map(({ key, neutral, needs }) => {
    const off = neutral === undefined ? "" : ` (or to be \`${String(neutral)}\`)`;
    return `- \`${key}\` needs ${needs}${off}`;
  });
  return ["## Keys that have an effect only with others", "", ...rows, ""].join("\n");
}

function notYet(): string {
  const rows = UNSUPPORTED.map(({ key, what, instead }) => `- \`${key}\` ${what}: ${instead}`);
  return ["## Not supported by this version", "", "Refused by name:", "", ...rows, ""].join("\n");
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  writeFileSync(CONFIG_DOCS_PATH, configDocs());
}
