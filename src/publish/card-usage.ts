import type { PromptTemplate } from "../config/names.ts";
import { fillTemplate } from "../data/templates.ts";
import { textAt } from "../train/json-tree.ts";
import type { CardFacts } from "./card.ts";
import { codeBlock } from "./markdown.ts";

const QUESTION = "What is a preference?";

/** How the model is loaded, and asked as it was trained. */
export function usageSection(facts: CardFacts): string {
  return ["## Use", codeBlock(pythonCode(facts), "python"), ...commands(facts)].join("\n\n");
}

function templateOf({ run }: CardFacts): PromptTemplate {
  const name = textAt(run.config, "prompt_template");
  return name === "alpaca" || name === "chat" ? name : "none";
}

// What stands in quotes below is a name that the Hub takes, or a text of ours: JSON's quotes are Python's.
function pythonCode(facts: CardFacts): string {
  const { what, repository, revision, base } = facts;
  const quoted = (text: string) => JSON.stringify(text);
  const pinned = base !== null && base.commit !== null ? [`revision = ${quoted(base.commit)}`] : [];
  const at = pinned.length > 0 ? ", revision=revision" : "";
  const place = `${quoted(repository)}${revision === "main" ? "" : `, revision=${quoted(revision)}`}`;
  const load =
    what === "adapter"
      ? [
          "from peft import PeftModel",
          "from transformers import AutoModelForCausalLM, AutoTokenizer",
          "",
          `base = ${quoted(base?.name ?? "")}`,
          ...pinned,
          `tokenizer = AutoTokenizer.from_pretrained(base${at})`,
          `model = AutoModelForCausalLM.from_pretrained(base${at}, dtype="auto", device_map="auto")`,
          `model = PeftModel.from_pretrained(model, ${place})`,
        ]
      : [
          "from transformers import AutoModelForCausalLM, AutoTokenizer",
          "",
          `tokenizer = AutoTokenizer.from_pretrained(${place})`,
          `model = AutoModelForCausalLM.from_pretrained(${place}, dtype="auto", device_map="auto")`,
        ];
  return [
    ...load,
    "",
    ...promptCode(templateOf(facts)),
    "output = model.generate(**inputs.to(model.device), max_new_tokens=256)",
    'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))',
  ].join("\n");
}

function promptCode(template: PromptTemplate): string[] {
  if (template === "chat") {
    return [
      `messages = [{"role": "user", "content": ${JSON.stringify(QUESTION)}}]`,
      'inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)',
    ];
  }
  return [
    `prompt = ${JSON.stringify(fillTemplate(template, QUESTION))}`,
    'inputs = tokenizer(prompt, return_tensors="pt")',
  ];
}

function commands(facts: CardFacts): string[] {
  const { what, repository, revision, base } = facts;
  const template = templateOf(facts);
  const ask = `--prompt-template ${template} --prompt "${QUESTION}"`;
  const how =
    template === "none"
      ? "Prompts were taken as they stand in the data, without a template; conversations went through the chat template."
      : template === "alpaca"
        ? "Prompts stood in Alpaca's template, as above."
        : "Prompts went through the model's chat template.";
  const lines =
    what === "merged"
      ? [`dpo-train generate --model ${repository}${revision === "main" ? "" : `@${revision}`} ${ask}`]
      : [
          `hf download ${repository}${revision === "main" ? "" : ` --revision ${revision}`} --local-dir adapter`,
          `dpo-train generate --model ${base?.name ?? ""}${base?.commit ? `@${base.commit}` : ""} --adapter adapter ${ask}`,
        ];
  return [how, "Or with dpo-train, which needs no Python to answer:", codeBlock(lines.join("\n"), "sh")];
}
