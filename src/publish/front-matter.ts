import { stringify } from "yaml";
import type { CardFacts } from "./card.ts";
import { dataRepositories } from "./card-data.ts";

/** The metadata by which the Hub files a model: https://huggingface.co/docs/hub/model-cards#model-card-metadata. */
export function frontMatter({ run, what, base, licence }: CardFacts): string {
  const datasets = dataRepositories(run);
  const metadata = {
    ...(base !== null && { base_model: base.name, base_model_relation: what === "adapter" ? "adapter" : "finetune" }),
    library_name: what === "adapter" ? "peft" : "transformers",
    pipeline_tag: "text-generation",
    ...licence,
    ...(datasets.length > 0 && { datasets }),
    tags: ["dpo", "dpo-train", ...(what === "adapter" ? ["lora"] : [])],
  };
  return `---\n${stringify(metadata, { lineWidth: 0, defaultStringType: "QUOTE_DOUBLE", defaultKeyType: "PLAIN" })}---`;
}
