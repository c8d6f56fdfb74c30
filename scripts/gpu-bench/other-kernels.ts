import { pack, pairStarts, visibleScores } from "../../src/data/pack.ts";
import { wholeBuffer } from "../../src/gpu/buffer.ts";
import type { Command } from "../../src/gpu/commands.ts";
import { RowCount } from "../../src/gpu/count.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { attentionBackward, attentionForward } from "../../src/ops/attention.ts";
import { swigluBackward, swigluForward } from "../../src/ops/elementwise.ts";
import { createHalfRows, packRows } from "../../src/ops/half-rows.ts";
import { exponentialRows, headForward } from "../../src/ops/head.ts";
import { createMatrix, createWeight } from "../../src/ops/matrix.ts";
import { rmsNormBackward, rmsNormForward } from "../../src/ops/norm.ts";
import { adamW8, createMoments8 } from "../../src/ops/optimizer.ts";
import { PeakSlots } from "../../src/ops/peak.ts";
import { setRowTiles } from "../../src/ops/row-tiles.ts";
import { ATTENTION_PEAKS, createTensorAttention } from "../../src/ops/tensor-attention.ts";
import { dynamicMaps } from "../../src/weights/dynamic-map.ts";
import { activation } from "./products.ts";
import { type ModelSizes, RANK } from "./sizes.ts";

// The kernels that are no matmuls, at a model's sizes and on a batch of pairs.

export interface KernelGroup {
  /** What they work on. */
  readonly shape: string;
  /** The kernels, with all the buffers they need. */
  readonly make: () => Command[];
}

const PAIR_ROWS = 1024;
const EPS = 1e-5;
/** Of `Step` in kernels/library/step.wgsl, in whole vec4. */
const STEP_WORDS = 12;

/** The dearest first. */
export function otherKernels(gpu: Gpu, sizes: ModelSizes): KernelGroup[] {
  const { hidden, keyValue, headDim, intermediate, headRows, headChunk } = sizes;
  const rows = sizes.tokens[0]!;
  const pairRows = PAIR_ROWS * sizes.pairScale;
  const heads = `${hidden / headDim} heads of ${headDim} over ${keyValue / headDim}`;
  const packing = (cols: number): KernelGroup => ({
    shape: `${rows} × ${cols}`,
    make: () => [packRows(gpu, rowCount(gpu, rows), activation(gpu, rows, cols), half(gpu, rows, cols)).pack],
  });
  return [
    { shape: `${rows} rows in pairs of ${pairRows}, ${heads}`, make: () => attention(gpu, sizes, rows, pairRows) },
    { shape: `${headRows} × ${headChunk}`, make: () => headChunks(gpu, sizes) },
    { shape: `${rows} × ${intermediate}`, make: () => swiglu(gpu, rows, intermediate) },
    { shape: `${rows} × ${hidden}`, make: () => norm(gpu, rows, hidden) },
    ...(gpu.fragments ? [packing(hidden), packing(intermediate)] : []),
    { shape: `${intermediate} × ${RANK}`, make: () => optimizer(gpu, intermediate, RANK) },
  ];
}

function rowCount(gpu: Gpu, rows: number): RowCount {
  const count = new RowCount(gpu, "bench rows", rows);
  count.set(rows);
  return count;
}

const half = (gpu: Gpu, rows: number, cols: number) => createHalfRows(gpu, "bench rows in f16", rows, cols);

/** Half of each pair is its prompt, and each answer a quarter: the last row of an answer predicts nothing. */
function attention(gpu: Gpu, { hidden, keyValue, headDim }: ModelSizes, rows: number, pairRows: number): Command[] {
  const shape = { heads: hidden / headDim, keyValueHeads: keyValue / headDim, headDim };
  const ids = (length: number) => new Array<number>(length).fill(1);
  const pairs = Array.from({ length: rows / pairRows }, () => ({
    promptIds: ids(pairRows / 2),
    chosenIds: ids(pairRows / 4 + 1),
    rejectedIds: ids(pairRows / 4 + 1),
  }));
  const batch = pack(pairs, [...pairs.keys()]);
  const words = (label: string, values: Uint32Array<ArrayBuffer>) => {
    const range = wholeBuffer(gpu.buffer(label, values.byteLength));
    gpu.write(range.buffer, 0, values);
    return range;
  };
  const peaks = gpu.fragments ? new PeakSlots(gpu, ATTENTION_PEAKS) : null;
  const tensor = createTensorAttention(gpu, { shape, maxRows: rows, peaks });
  for (const tiles of tensor?.rowTiles.values() ?? []) setRowTiles(gpu, tiles, pairStarts(batch));
  const forward = {
    count: rowCount(gpu, rows),
    shape,
    visible: words("bench visible", batch.visible),
    q: activation(gpu, rows, hidden),
    k: activation(gpu, rows, keyValue),
    v: activation(gpu, rows, keyValue),
    o: createMatrix(gpu, "bench result", rows, hidden),
    stats: wholeBuffer(gpu.buffer("bench statistics", rows * shape.heads * 8)),
    scores: () => visibleScores(batch),
    tensor,
  };
  const backward = {
    ...forward,
    queryEnd: words("bench query end", batch.queryEnd),
    dO: activation(gpu, rows, hidden),
    dQ: createMatrix(gpu, "bench result", rows, hidden),
    dK: createMatrix(gpu, "bench result", rows, keyValue),
    dV: createMatrix(gpu, "bench result", rows, keyValue),
  };
  return [...attentionForward(gpu, forward), ...(peaks ? [peaks.clear] : []), ...attentionBackward(gpu, backward)];
}

/** What a chunk of the head takes beside its two products. */
function headChunks(gpu: Gpu, { hidden, headRows, headChunk }: ModelSizes): Command[] {
  const buffer = (perRow: number) => wholeBuffer(gpu.buffer("bench words", headRows * perRow * 4));
  const commands = headForward(gpu, {
    count: rowCount(gpu, headRows),
    hidden: createMatrix(gpu, "bench rows", headRows, hidden),
    w: createWeight(gpu, "bench weight", gpu.fragments ? "f16" : "bf16", headChunk, hidden),
    targets: buffer(2),
    logits: activation(gpu, headRows, headChunk),
    state: buffer(4),
    best: buffer(1),
    targetLogits: buffer(2),
    scale: buffer(1),
    sums: createMatrix(gpu, "bench sums", headRows, hidden),
    half: gpu.fragments && {
      hidden: half(gpu, headRows, hidden),
      exponentials: exponentialRows(gpu, half(gpu, headRows, headChunk), headRows),
    },
  });
  return commands.filter((command) => command.kind === "dispatch" && command.label === "head/chunk");
}

function swiglu(gpu: Gpu, rows: number, cols: number): Command[] {
  const count = rowCount(gpu, rows);
  const [gate, up, dy] = [activation(gpu, rows, cols), activation(gpu, rows, cols), activation(gpu, rows, cols)];
  const [y, dGate, dUp] = ["y", "dGate", "dUp"].map((name) => createMatrix(gpu, `bench ${name}`, rows, cols));
  return [
    ...swigluForward(gpu, { count, gate, up, y: y! }),
    ...swigluBackward(gpu, { count, gate, up, dy, dGate: dGate!, dUp: dUp! }),
  ];
}

function norm(gpu: Gpu, rows: number, cols: number): Command[] {
  const count = rowCount(gpu, rows);
  const [x, dy] = [activation(gpu, rows, cols), activation(gpu, rows, cols)];
  const w = activation(gpu, 1, cols).range;
  const rstd = wholeBuffer(gpu.buffer("bench rstd", rows * 4));
  const [y, dx] = [createMatrix(gpu, "bench result", rows, cols), createMatrix(gpu, "bench result", rows, cols)];
  return [
    ...rmsNormForward(gpu, { count, x, w, eps: EPS, y, rstd }),
    ...rmsNormBackward(gpu, { count, x, w, rstd, dy, dx, add: true }),
  ];
}

function optimizer(gpu: Gpu, rows: number, cols: number): Command[] {
  const parameter = activation(gpu, rows, cols);
  const clip = wholeBuffer(gpu.buffer("bench clip", 16));
  gpu.write(clip.buffer, 0, Float32Array.of(1, 1, 1, 0)); // norm, scale, finite
  const codeValues = dynamicMaps();
  const code = wholeBuffer(gpu.buffer("bench code", codeValues.byteLength));
  gpu.write(code.buffer, 0, codeValues);
  return adamW8(gpu, {
    step: gpu.uniform("bench step", new Uint32Array(new Float32Array(STEP_WORDS).fill(0.5).buffer)),
    clip,
    gradient: activation(gpu, rows, cols),
    parameter,
    moments: createMoments8(gpu, "bench", parameter),
    code,
  });
}
