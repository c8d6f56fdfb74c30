import type { PushedPart } from "../config/names.ts";
import { formatCount } from "../text.ts";
import { numberAt, textAt } from "../train/json-tree.ts";
import { dataSection } from "./card-data.ts";
import { recipeSection } from "./card-recipe.ts";
import { resultsSection, sampleSection } from "./card-results.ts";
import { usageSection } from "./card-usage.ts";
import type { FinishedRun, HubBase } from "./finished-run.ts";
import { frontMatter } from "./front-matter.ts";
import type { Licence } from "./licence.ts";
import { code, codeBlock } from "./markdown.ts";

/** What a model card is made of. */
export interface CardFacts {
  readonly run: FinishedRun;
  readonly what: PushedPart;
  /** Where the model goes: names that the Hub takes. */
  readonly repository: string;
  readonly revision: string;
  /** Null where it is not on the Hub. */
  readonly base: HubBase | null;
  /** Of the base; null where it is not known. */
  readonly licence: Licence | null;
}

/**
 * The model card of a run: README.md of a repository on the Hub. It tells what run.json, config.yaml and metrics.jsonl hold
 * and names nothing of this machine: no path, and no data set or model that is not on the Hub. What is not ours in it is
 * neither Markdown nor HTML.
 */
export function modelCard(facts: CardFacts): string {
  const parts = [
    frontMatter(facts),
    introduction(facts),
    usageSection(facts),
    dataSection(facts.run),
    recipeSection(facts.run),
    resultsSection(facts),
    sampleSection(facts.run),
    licenceSection(facts),
    madeWith(facts),
    CITATION,
  ];
  return `${parts.filter((part) => part !== "").join("\n\n")}\n`;
}

function introduction({ run: { run }, what, repository, base }: CardFacts): string {
  const parameters = numberAt(run, "model", "parameters");
  const size = parameters === null ? "" : ` of ${formatCount(parameters)} parameters`;
  const named = base === null ? `a Llama model${size}` : linkTo(base);
  const kind = what === "adapter" ? `A LoRA adapter of ${named}` : named.replace(/^a/, "A");
  const merged = what === "merged" ? " The adapter that was trained is folded into the weights." : "";
  return [
    `# ${repository.split("/")[1]}`,
    `${kind}, trained with Direct Preference Optimization ([DPO](https://arxiv.org/abs/2305.18290)) on pairs of a better and a worse answer.${merged}`,
  ].join("\n\n");
}

function linkTo({ name, commit }: HubBase): string {
  return `[${name}](https://huggingface.co/${name})${commit === null ? "" : ` at \`${commit.slice(0, 12)}\``}`;
}

function licenceSection({ base, licence }: CardFacts): string {
  if (licence !== null && base !== null)
    return `## Licence\n\nThat of the base, ${linkTo(base)}: \`${licence.license}\`.`;
  return `## Licence\n\nThe licence of the base${base === null ? "" : `, ${linkTo(base)},`} holds for this model too.`;
}

function madeWith({ run: { run } }: CardFacts): string {
  const version = (name: string) => textAt(run, "versions", name);
  const tools = (
    [
      ["dpo-train", version("dpo-train")],
      ["WebGPU of Dawn, webgpu", version("webgpu")],
      ["Node.js", version("node")],
    ] as const
  ).flatMap(([name, number]) => (number === null ? [] : [`${name} ${code(number)}`]));
  const device = textAt(run, "device", "name");
  const where = device === null ? "" : ` on ${code(device)}`;
  return tools.length === 0 ? "" : `## Made with\n\n${tools.join(", ")}${where}.`;
}

/** As arXiv and the conference have it. */
const CITATION = `## Citation

${codeBlock(
  `@inproceedings{rafailov2023direct,
  title     = {Direct Preference Optimization: Your Language Model is Secretly a Reward Model},
  author    = {Rafael Rafailov and Archit Sharma and Eric Mitchell and Christopher D. Manning and Stefano Ermon and Chelsea Finn},
  booktitle = {Advances in Neural Information Processing Systems 36 (NeurIPS)},
  year      = {2023},
  url       = {https://arxiv.org/abs/2305.18290}
}`,
  "bibtex",
)}`;
