import { formatCount, formatSize } from "../text.ts";
import type { MemoryUse } from "../train/simulate.ts";
import type { Plan } from "./plan.ts";

/** What each class of buffers is for, in the order of the table. */
const CLASSES: readonly (readonly [keyof MemoryUse, string])[] = [
  ["weights", "base weights"],
  ["lora", "LoRA factors and their gradients"],
  ["optimizer", "optimizer state"],
  ["activations", "stored activations"],
  ["workspace", "workspace of a layer"],
  ["head", "head rows and a chunk of logits"],
  ["temporary", "for a while: loading, sample, saving or export"],
];

/** A plan for a terminal. */
export function formatPlan(plan: Plan): string[] {
  const { chosen, perStep } = plan;
  const { memory, peakBytes } = chosen.simulation;
  const rows = [...CLASSES.map(([name, words]) => [words, formatSize(memory[name])]), ["peak", formatSize(peakBytes)]];
  const [left, right] = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  const shared = (1 - perStep.tokens / perStep.unsharedTokens) * 100;
  return [
    `${plan.modelName}: ${formatCount(plan.parameters)} parameters, ${plan.precision} matmuls`,
    ...plan.assumptions.map((assumption) => `assumed: ${assumption}`),
    "",
    `${plan.steps} optimizer steps on ${plan.pairs} pairs${plan.evaluationPairs > 0 ? `, ${plan.evaluationPairs} pairs to evaluate on` : ""}`,
    `a step: ${Math.round(perStep.tokens)} tokens, ${shared.toFixed(0)}% fewer than with a prompt for each answer, ` +
      `in ${batches(perStep.batches)} of up to ${chosen.choice.maxTokens}; ${formatCount(perStep.flops)} floating-point operations`,
    "",
    "GPU memory",
    ...rows.map((row) => `  ${row[0]!.padEnd(left!)}  ${row[1]!.padStart(right!)}`),
    "",
    ...chosen.reasons.map((reason) => `- ${reason}`),
  ];
}

function batches(mean: number): string {
  const shown = mean.toFixed(1);
  return shown === "1.0" ? "1 GPU batch" : `${Number(shown)} GPU batches`;
}

/** A plan for programs. Bytes, and means over the steps of an epoch. */
export function planJson(plan: Plan): object {
  const { choice, simulation, reasons } = plan.chosen;
  const { memory } = simulation;
  return {
    model: plan.modelName,
    parameters: plan.parameters,
    precision: plan.precision,
    steps: plan.steps,
    pairs: plan.pairs,
    evaluation_pairs: plan.evaluationPairs,
    tokens_per_step: plan.perStep.tokens,
    tokens_per_step_unshared: plan.perStep.unsharedTokens,
    batches_per_step: plan.perStep.batches,
    flops_per_step: plan.perStep.flops,
    max_tokens_per_batch: choice.maxTokens,
    stored: choice.stored,
    peak_memory_bytes: simulation.peakBytes,
    memory_bytes: {
      weights: memory.weights,
      lora: memory.lora,
      optimizer: memory.optimizer,
      activations: memory.activations,
      workspace: memory.workspace,
      head: memory.head,
      temporary: memory.temporary,
    },
    reasons,
    assumptions: plan.assumptions,
  };
}
