import { numberAt } from "../train/json-tree.ts";
import { EVAL_PREFIX } from "../train/records.ts";
import { renderFigure, renderSmoothing } from "./figures.ts";
import { type Html, html } from "./html.ts";
import { collectLines } from "./lines.ts";
import { SHARE_RANGE } from "./metric-names.ts";
import type { ChartData, LineData, PageData, ViewData } from "./page-data.ts";
import type { RunFiles } from "./run-files.ts";
import { isSigmoid } from "./warnings.ts";

interface RunChart {
  readonly id: string;
  readonly title: string;
  /** What it is, and how it looks where all is well. */
  readonly reading: string;
  /**
   * Names of metrics.jsonl, each a line of training and one of evaluation, and what tells them from each other. Or names of
   * performance.jsonl, with those of their lines.
   */
  readonly keys: Readonly<Record<string, string>>;
  readonly isOfPerformance?: boolean;
  readonly isShare?: boolean;
  readonly guide?: ViewData["guide"];
}

/** The charts of a run: those of the LLM Engineer's Handbook, chapter 6, first. */
function chartsOf(run: Pick<RunFiles, "config">): RunChart[] {
  const maxGradNorm = numberAt(run.config, "max_grad_norm");
  const hasSigmoidLoss = isSigmoid(run);
  return [
    {
      id: "loss",
      title: "Loss",
      reading: `${hasSigmoidLoss ? "Begins at ln 2 = 0.693, where the model prefers neither answer, and falls." : "Falls."} Healthy: evaluation follows training down and levels off; where it turns up, pairs are being learnt by heart.`,
      keys: { loss: "" },
      ...(hasSigmoidLoss ? { guide: { value: Math.LN2, label: "ln 2" } } : {}),
    },
    {
      id: "rewards",
      title: "Rewards",
      reading:
        "β times how much likelier an answer has become than under the reference. Healthy: rejected sinks below 0 while chosen rises, or at least holds.",
      keys: { "rewards/chosen": "chosen", "rewards/rejected": "rejected" },
      guide: { value: 0, label: "reference" },
    },
    {
      id: "margins",
      title: "Margin",
      reading:
        "Reward of chosen less that of rejected. Healthy: grows steadily and levels off; a margin that shoots up says the learning rate is too high.",
      keys: { "rewards/margins": "" },
      guide: { value: 0, label: "no preference" },
    },
    {
      id: "accuracies",
      title: "Accuracy",
      reading:
        "Share of pairs whose chosen answer has the higher reward. Healthy: climbs from chance and stays below 1; 1.0 within the first steps means the pairs are too easy.",
      keys: { "rewards/accuracies": "" },
      isShare: true,
      guide: { value: 0.5, label: "chance" },
    },
    {
      id: "logps",
      title: "Log-probabilities",
      reading:
        "Of whole answers, in nats. Healthy: rejected falls, chosen stays near where it began; where both plunge, the model is unlearning to speak.",
      keys: { "logps/chosen": "chosen", "logps/rejected": "rejected" },
    },
    {
      id: "kl",
      title: "KL divergence from the reference",
      reading:
        "How far the model has moved, in nats per answer token. Healthy: rises slowly and levels off; a jump says that it has forgotten something else.",
      keys: { kl: "", "kl/chosen": "chosen", "kl/rejected": "rejected" },
    },
    {
      id: "grad-norm",
      title: "Gradient norm",
      reading:
        "Before clipping. Healthy: of one size throughout; a spike points to an odd batch, steady growth to a learning rate that is too high.",
      keys: { grad_norm: "" },
      ...(maxGradNorm === null ? {} : { guide: { value: maxGradNorm, label: "max_grad_norm" } }),
    },
    {
      id: "learning-rate",
      title: "Learning rate",
      reading:
        "Healthy: rises over the warm-up and then falls as lr_scheduler_type says; step 1 of a warm-up runs at 0.",
      keys: { learning_rate: "" },
    },
    {
      id: "entropy",
      title: "Entropy",
      reading: "Nats per answer token. Healthy: about level; where it collapses, the model has begun to repeat itself.",
      keys: { entropy: "" },
    },
    {
      id: "token-accuracy",
      title: "Token accuracy",
      reading: "Share of the chosen answers' tokens that were the likeliest. Healthy: about level, or rising a little.",
      keys: { mean_token_accuracy: "" },
      isShare: true,
    },
    {
      id: "throughput",
      title: "Throughput",
      reading:
        "Tokens of prompts and both answers in a second of training, without padding; evaluations are left out. Healthy: level; a step down says that something else uses the GPU, or that it throttles.",
      keys: { tokens_per_second: "tokens/s" },
      isOfPerformance: true,
    },
    {
      id: "memory",
      title: "Memory",
      reading:
        "In GB: what the run has taken of the GPU, and what its process holds of the host. Healthy: level from the first steps on.",
      keys: { gpu_memory_gb: "GPU", host_memory_gb: "host" },
      isOfPerformance: true,
    },
  ];
}

export interface RunCharts {
  readonly markup: Html;
  readonly data: PageData;
}

/** The charts of what the run has recorded, training as lines and evaluation dashed, in all points. */
export function renderRunCharts(run: RunFiles): RunCharts {
  const lines = collectLines();
  const charts: ChartData[] = [];
  const figures = chartsOf(run).flatMap(({ id, title, reading, keys, isShare, guide, isOfPerformance }) => {
    const found = Object.entries(keys).flatMap(([key, name], color): LineData[] => {
      const line = (series: number | null, label: string, isDashed: boolean): LineData[] =>
        series === null ? [] : [{ series, label, color, isDashed, isBold: false }];
      if (isOfPerformance) return line(lines.add(0, run.performance, key), name, false);
      const labelOf = (source: string) => (name === "" ? source : `${name}, ${source}`);
      return [
        ...line(lines.add(0, run.train, key), labelOf("training"), false),
        ...line(lines.add(0, run.evaluation, EVAL_PREFIX + key), labelOf("evaluation"), true),
      ];
    });
    if (found.length === 0) return [];
    const view = {
      label: title,
      lines: found,
      ...(isShare ? { range: SHARE_RANGE } : {}),
      ...(isOfPerformance ? { isFromZero: true } : {}),
      ...(guide ? { guide } : {}),
    };
    const chart = { id: `chart-${id}`, views: [view] };
    charts.push(chart);
    return [renderFigure(chart, { title, reading })];
  });
  const markup = html`${renderSmoothing()}<div class="charts">\n${figures}</div>`;
  return { markup, data: lines.page(charts) };
}
