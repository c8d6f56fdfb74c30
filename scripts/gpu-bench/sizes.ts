/** Models that make_model.py makes and this benchmark measures. */
export const SIZES = ["8b", "1b", "tiny"] as const;
export type Size = (typeof SIZES)[number];

export interface ModelSizes {
  readonly hidden: number;
  /** Key-value heads times their width. */
  readonly keyValue: number;
  readonly headDim: number;
  readonly intermediate: number;
  /** Rows of a batch for which products are measured, the one that counts first. */
  readonly tokens: readonly number[];
  /** Rows that predict a token and tokens of the vocabulary in one chunk of the head, as a batch of 2,048 rows has them. */
  readonly headRows: number;
  readonly headChunk: number;
  /** Length of the training pairs, of which 1 is about 1,000 packed tokens. */
  readonly pairScale: number;
}

/** LoRA's rank in the recipe. */
export const RANK = 32;

export const MODEL_SIZES: Readonly<Record<Size, ModelSizes>> = {
  "8b": {
    hidden: 4096,
    keyValue: 1024,
    headDim: 128,
    intermediate: 14336,
    tokens: [8192, 2048],
    headRows: 2048,
    headChunk: 32768,
    pairScale: 1,
  },
  "1b": {
    hidden: 2048,
    keyValue: 512,
    headDim: 64,
    intermediate: 8192,
    tokens: [8192, 2048],
    headRows: 2048,
    headChunk: 32768,
    pairScale: 1,
  },
  tiny: {
    hidden: 192,
    keyValue: 64,
    headDim: 32,
    intermediate: 512,
    tokens: [512],
    headRows: 256,
    headChunk: 4160,
    pairScale: 1 / 8,
  },
};

/** What a product is for; its kernel is the one that the model takes for that. */
export type Use =
  | "forward"
  | "backward"
  | "forward with LoRA"
  | "LoRA inner"
  | "LoRA inner backward"
  | "LoRA factor"
  | "head forward"
  | "head backward";

/** A product of (m, k) by (k, n). */
export interface Product {
  readonly use: Use;
  readonly kernel: "matmul/nt" | "matmul/nn" | "matmul/tn";
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Times in a layer; 0 where the product is not one of those that `matmul_tflops` is taken over. */
  readonly per_layer: number;
}

/** The products of a model's layers and head, those first that `matmul_tflops` needs. */
export function productsOf({ hidden, keyValue, intermediate, tokens, headRows, headChunk }: ModelSizes): Product[] {
  const projections = [
    { inputs: hidden, outputs: hidden, per_layer: 2 },
    { inputs: hidden, outputs: keyValue, per_layer: 2 },
    { inputs: hidden, outputs: intermediate, per_layer: 2 },
    { inputs: intermediate, outputs: hidden, per_layer: 1 },
  ];
  const layer = tokens.flatMap((m, i): Product[] => [
    ...projections.map(({ inputs, outputs, per_layer }): Product => {
      return { use: "forward", kernel: "matmul/nt", m, n: outputs, k: inputs, per_layer: i === 0 ? per_layer : 0 };
    }),
    ...projections.map(({ inputs, outputs }): Product => {
      return { use: "backward", kernel: "matmul/nn", m, n: inputs, k: outputs, per_layer: 0 };
    }),
  ]);
  const m = tokens[0]!;
  return [
    ...layer,
    { use: "forward with LoRA", kernel: "matmul/nt", m, n: hidden, k: hidden, per_layer: 0 },
    { use: "LoRA inner", kernel: "matmul/nt", m, n: RANK, k: hidden, per_layer: 0 },
    { use: "LoRA inner backward", kernel: "matmul/nn", m, n: RANK, k: hidden, per_layer: 0 },
    { use: "LoRA factor", kernel: "matmul/tn", m: RANK, n: hidden, k: m, per_layer: 0 },
    { use: "LoRA factor", kernel: "matmul/tn", m: hidden, n: RANK, k: m, per_layer: 0 },
    { use: "head forward", kernel: "matmul/nt", m: headRows, n: headChunk, k: hidden, per_layer: 0 },
    { use: "head backward", kernel: "matmul/nn", m: headRows, n: hidden, k: headChunk, per_layer: 0 },
  ];
}

/** Floating-point operations: a multiplication and an addition are two. */
export function flopsOf({ use, m, n, k }: Product): number {
  return 2 * m * n * (use === "forward with LoRA" ? k + RANK : k);
}

/** A name that tells products apart. */
export function productKey({ use, kernel, m, n, k }: Pick<Product, "use" | "kernel" | "m" | "n" | "k">): string {
  return `${use} ${kernel} ${m}x${n}x${k}`;
}
