import { epochOrder } from "./shuffle.ts";

/** What decides the order of training, in the config's own terms. */
export interface ScheduleOptions {
  pairCount: number;
  perDeviceTrainBatchSize: number;
  gradientAccumulationSteps: number;
  /** May be fractional. Not used when `maxSteps` is given. */
  numTrainEpochs: number;
  maxSteps?: number | undefined;
  /** false: file order in every epoch. */
  shuffle: boolean;
  seed: number;
}

/** How long a run is. */
export interface ScheduleLength {
  microBatchesPerEpoch: number;
  stepsPerEpoch: number;
  totalSteps: number;
}

/** One optimizer step. */
export interface OptimizerStep {
  /** From 1. */
  step: number;
  /** The `epoch` that the Trainer logs after this step: epochs done, counted in micro-batches. */
  epoch: number;
  /**
   * Pair indices. The last micro-batch of an epoch may be smaller, and its last step may have fewer micro-batches.
   * TRL's gradient is the mean over these of each one's own mean.
   */
  microBatches: Uint32Array[];
}

/** The length of a run as the Hugging Face Trainer computes it: ceil(epochs · steps per epoch), or `maxSteps`. */
export function scheduleLength(options: ScheduleOptions): ScheduleLength {
  if (options.pairCount < 1) throw new RangeError("internal: a schedule needs at least one pair");
  const microBatchesPerEpoch = Math.ceil(options.pairCount / options.perDeviceTrainBatchSize);
  const stepsPerEpoch = Math.ceil(microBatchesPerEpoch / options.gradientAccumulationSteps);
  const totalSteps = options.maxSteps ?? Math.ceil(options.numTrainEpochs * stepsPerEpoch);
  return { microBatchesPerEpoch, stepsPerEpoch, totalSteps };
}

/**
 * The optimizer steps of a run in order, exactly as the Hugging Face Trainer takes them on one process. Accumulation
 * never crosses the end of an epoch. Only the current epoch's order is held in memory.
 *
 * @param stepsDone steps already taken, for a run that resumes
 */
export function* optimizerSteps(options: ScheduleOptions, stepsDone = 0): Generator<OptimizerStep> {
  const { pairCount, perDeviceTrainBatchSize, gradientAccumulationSteps, shuffle, seed } = options;
  const { microBatchesPerEpoch, stepsPerEpoch, totalSteps } = scheduleLength(options);
  let order: Uint32Array = new Uint32Array();
  let orderOfEpoch = -1;
  for (let done = stepsDone; done < totalSteps; done++) {
    const epoch = Math.floor(done / stepsPerEpoch);
    if (epoch !== orderOfEpoch) {
      order = shuffle ? epochOrder(pairCount, seed, epoch) : Uint32Array.from({ length: pairCount }, (_, i) => i);
      orderOfEpoch = epoch;
    }
    const first = (done % stepsPerEpoch) * gradientAccumulationSteps;
    const end = Math.min(first + gradientAccumulationSteps, microBatchesPerEpoch);
    const microBatches = Array.from({ length: end - first }, (_, i) => {
      const start = (first + i) * perDeviceTrainBatchSize;
      return order.slice(start, start + perDeviceTrainBatchSize);
    });
    yield { step: done + 1, epoch: epoch + end / microBatchesPerEpoch, microBatches };
  }
}
