import type { Ceiling } from "./ceiling.ts";
import type { DeviceFacts, MeasuredKernel, MeasuredProduct } from "./kernels.ts";
import type { CardUse } from "./nvidia.ts";
import { flopsOf, type Product, productKey, type Size } from "./sizes.ts";
import type { StageName, StageRecord } from "./stages.ts";
import type { StepRates, TrainResult } from "./train.ts";

// From the records of the stages to what is read: the numbers on top of bench.json, and the table.

export interface CublasResult {
  readonly device: string;
  readonly torch: string;
  readonly measured: readonly (Product & { readonly tflops: number })[];
}

export interface PeerResult extends StepRates {
  readonly peer: string;
  readonly batch: number;
  readonly accumulation: number;
  readonly all_step_seconds: readonly number[];
  readonly tokens_fed_per_step: number | null;
  readonly peak_bytes: number | null;
  readonly card: CardUse | null;
  readonly failed: readonly string[];
}

/** Shapes of a layer's products: hidden to hidden, to keys and values, to the MLP, and back. */
const LAYER_PRODUCTS = 4;

export type Records = Readonly<Record<StageName, StageRecord>>;

/** The numbers that one looks for first. Null is what was not measured; `skipped` says why. */
export function summarize(records: Records, sizes: readonly Size[]) {
  const [model] = sizes;
  const device = resultOf<DeviceFacts>(records, "device");
  const first = model === undefined ? null : summarizeModel(records, model);
  const products = resultOf<readonly MeasuredProduct[]>(records, `matmul-${model}`) ?? [];
  const cublas = resultOf<CublasResult>(records, `cublas-${model}`)?.measured ?? [];
  const ceilings = resultOf<readonly Ceiling[]>(records, `ceiling-${model}`) ?? [];
  const cublasRates = new Map(cublas.map((product) => [productKey(product), product.tflops]));
  return {
    device: device?.name ?? null,
    model: model ?? null,
    step_seconds: first?.dpo_train?.step_seconds ?? null,
    trl_step_seconds: first?.trl?.step_seconds ?? null,
    trl_tuned_step_seconds: first?.trl_tuned?.step_seconds ?? null,
    times_faster_than_trl: first?.times_faster_than_trl ?? null,
    times_faster_than_trl_tuned: first?.times_faster_than_trl_tuned ?? null,
    reference_seconds: first?.dpo_train?.reference_seconds ?? null,
    matmul_tflops: layerRate(products, ({ tflops }) => tflops),
    matmul_with_packing_tflops: layerRate(products, ({ tflops_with_packing }) => tflops_with_packing),
    cublas_tflops: layerRate(cublas, ({ tflops }) => tflops),
    mma_ceiling_tflops: ceilings.length > 0 ? Math.max(...ceilings.map(({ tflops }) => tflops)) : null,
    peak_bytes: first?.dpo_train?.peak_bytes ?? null,
    trl_peak_bytes: first?.trl?.peak_bytes ?? null,
    trl_tuned_peak_bytes: first?.trl_tuned?.peak_bytes ?? null,
    card_peak_bytes: first?.dpo_train?.card?.peak_bytes ?? null,
    trl_card_peak_bytes: first?.trl?.card?.peak_bytes ?? null,
    trl_tuned_card_peak_bytes: first?.trl_tuned?.card?.peak_bytes ?? null,
    matmul: products.map((product) => ({ ...product, cublas_tflops: cublasRates.get(productKey(product)) ?? null })),
    mma_ceiling: ceilings,
    kernels: resultOf<readonly MeasuredKernel[]>(records, `kernels-${model}`) ?? [],
    models: Object.fromEntries(sizes.map((size) => [size, summarizeModel(records, size)])),
    skipped: Object.fromEntries(
      Object.entries(records).flatMap(([name, { reason }]) => (reason === null ? [] : [[name, reason]])),
    ),
  };
}

export type Summary = ReturnType<typeof summarize>;

function summarizeModel(records: Records, size: Size) {
  const train = resultOf<TrainResult>(records, `train-${size}`);
  const trl = resultOf<PeerResult>(records, `trl-${size}`);
  const tuned = resultOf<PeerResult>(records, `trl-tuned-${size}`);
  const ratio = (peer: PeerResult | null) => (train && peer ? peer.step_seconds / train.step_seconds : null);
  return {
    dpo_train: train && withoutProfile(train),
    trl,
    trl_tuned: tuned,
    times_faster_than_trl: ratio(trl),
    times_faster_than_trl_tuned: ratio(tuned),
  };
}

function withoutProfile({ profile, ...train }: TrainResult): Omit<TrainResult, "profile"> {
  return train;
}

function resultOf<T>(records: Records, name: StageName): T | null {
  return (records[name]?.result ?? null) as T | null;
}

/** The rate of a layer's products together, each as often as a layer has it; null unless all were measured. */
export function layerRate<P extends Product>(products: readonly P[], tflopsOf: (product: P) => number): number | null {
  const layer = products.filter(({ per_layer }) => per_layer > 0);
  if (layer.length < LAYER_PRODUCTS) return null;
  const flops = layer.reduce((sum, product) => sum + product.per_layer * flopsOf(product), 0);
  const seconds = layer.reduce((sum, product) => {
    return sum + (product.per_layer * flopsOf(product)) / (tflopsOf(product) * 1e12);
  }, 0);
  return flops / seconds / 1e12;
}

/** The summary as Markdown. */
export function formatTable(summary: Summary): string {
  return [
    `${summary.device ?? "no device"}`,
    "",
    "| model | trainer | s / step | pairs/s | packed tokens/s | tokens/s, prompts counted twice | peak, own count | peak, card | times as fast as TRL | as TRL tuned |",
    "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ...Object.entries(summary.models).flatMap(([size, found]) => [
      trainerRow(size, "dpo-train", found.dpo_train, [found.times_faster_than_trl, found.times_faster_than_trl_tuned]),
      trainerRow(size, found.trl?.peer ?? "trl", found.trl, null),
      trainerRow(size, found.trl_tuned?.peer ?? "trl tuned", found.trl_tuned, null),
    ]),
    "",
    `Matmuls of a layer, forward: ${rate(summary.matmul_tflops)}, with packing ${rate(summary.matmul_with_packing_tflops)}, cuBLAS ${rate(summary.cublas_tflops)}; ceiling of multiply-accumulates on registers ${rate(summary.mma_ceiling_tflops)}.`,
    ...(summary.matmul.length === 0
      ? []
      : [
          "",
          "| product | kernel | m × n × k | TFLOP/s | with packing | cuBLAS | tile |",
          "|---|---|---|--:|--:|--:|---|",
        ]),
    ...summary.matmul.map(({ use, kernel, m, n, k, tflops, tflops_with_packing, cublas_tflops, tiles }) => {
      const rates = [tflops, tflops_with_packing, cublas_tflops].map((value) => digits(value));
      return row([use, `\`${kernel}\``, `${m} × ${n} × ${k}`, ...rates, tiles?.chosen ?? "-"]);
    }),
    ...(summary.kernels.length === 0 ? [] : ["", "| kernel | on | ms | TFLOP/s | GB/s |", "|---|---|--:|--:|--:|"]),
    ...summary.kernels.map(({ kernel, shape, ms, tflops, gb_per_second }) =>
      row([`\`${kernel}\``, shape, digits(ms), digits(tflops), digits(gb_per_second)]),
    ),
    ...Object.entries(summary.skipped).map(
      ([stage, reason], i) => `${i === 0 ? "\nNot measured, or not whole:\n\n" : ""}- ${stage}: ${reason}`,
    ),
    "",
  ].join("\n");
}

function trainerRow(
  size: string,
  trainer: string,
  found: (StepRates & Pick<PeerResult, "peak_bytes" | "card">) | null,
  ratios: readonly (number | null)[] | null,
): string {
  return row([
    size,
    trainer,
    digits(found?.step_seconds),
    digits(found?.pairs_per_second),
    // TRL does not pack: it computes each prompt twice.
    ratios ? digits(found?.packed_tokens_per_second) : "",
    digits(found?.tokens_per_second_prompts_twice),
    gibibytes(found?.peak_bytes),
    gibibytes(found?.card?.peak_bytes),
    ...(ratios ?? [null, null]).map((ratio) => (ratios ? digits(ratio) : "")),
  ]);
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(" | ")} |`;
}

function rate(tflops: number | null): string {
  return tflops === null ? "not measured" : `${digits(tflops)} TFLOP/s`;
}

function gibibytes(bytes: number | null | undefined): string {
  return bytes == null ? "-" : `${digits(bytes / 2 ** 30)} GiB`;
}

/** Three significant digits; a dash is what was not measured. */
function digits(value: number | null | undefined): string {
  if (value == null) return "-";
  return value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}
