import type { Config } from "../config/schema.ts";
import type { ScheduleLength, ScheduleOptions } from "../data/microbatches.ts";
import type { LoraSettings } from "../weights/peft-config.ts";
import { PROJECTIONS } from "../weights/projections.ts";
import type { Objective } from "./objective.ts";
import type { OptimizerSettings } from "./optimizer.ts";
import { type LrSchedule, shareOfSteps } from "./schedule.ts";

// What the parts of training need to know, drawn from the config's keys.

export function objectiveOf(config: Config): Objective {
  return {
    beta: config.beta,
    labelSmoothing: config.label_smoothing,
    discopopTau: config.discopop_tau,
    lossTypes: config.loss_type,
    lossWeights: config.loss_weights ?? config.loss_type.map(() => 1),
    fDivergenceType: config.f_divergence_type,
    fAlphaDivergenceCoef: config.f_alpha_divergence_coef,
    ldAlpha: config.ld_alpha ?? 1,
  };
}

export function loraSettingsOf({ lora }: Config): LoraSettings {
  return {
    r: lora.r,
    loraAlpha: lora.lora_alpha,
    useRslora: false,
    targetModules: PROJECTIONS.filter((projection) => lora.target_modules.includes(projection)),
  };
}

export function orderOf(config: Config, pairCount: number): ScheduleOptions {
  return {
    pairCount,
    perDeviceTrainBatchSize: config.per_device_train_batch_size,
    gradientAccumulationSteps: config.gradient_accumulation_steps,
    numTrainEpochs: config.num_train_epochs,
    maxSteps: config.max_steps,
    shuffle: config.shuffle,
    seed: config.seed,
  };
}

export function lrScheduleOf(config: Config, { totalSteps }: ScheduleLength): LrSchedule {
  const warmupSteps =
    config.warmup_ratio === undefined ? config.warmup_steps : shareOfSteps(config.warmup_ratio, totalSteps);
  return { type: config.lr_scheduler_type, learningRate: config.learning_rate, warmupSteps, totalSteps };
}

export function optimizerSettingsOf(config: Config): OptimizerSettings {
  return {
    optim: config.optim,
    beta1: config.adam_beta1,
    beta2: config.adam_beta2,
    epsilon: config.adam_epsilon,
    weightDecay: config.weight_decay,
    maxGradNorm: config.max_grad_norm,
  };
}
