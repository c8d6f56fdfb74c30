import { NonFiniteError } from "../../errors.ts";
import type { BufferRange } from "../../gpu/buffer.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { eachFactor, factorName, type LayerFactors } from "../../model/lora.ts";
import { padded } from "../../ops/matrix.ts";
import { BLOCK_ELEMENTS } from "../../ops/optimizer.ts";
import { areFinite } from "../../weights/finite.ts";
import type { TensorSpec } from "../../weights/safetensors-header.ts";
import { tensorSizeBytes } from "../../weights/safetensors-writer.ts";
import type { Optimizer } from "../optimizer.ts";

/** A tensor of the optimizer as it lies on the GPU, its padding with it. */
interface StateTensor extends TensorSpec {
  readonly range: BufferRange;
}

export interface SavedTensor extends TensorSpec {
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Bytes that come back at once: staging memory on the GPU. */
const READ_BYTES = 16 * 2 ** 20;

/** Names, dtypes and shapes of an optimizer's state, in the order of a checkpoint's file. */
export function optimizerTensors(layers: readonly LayerFactors[], { moments }: Optimizer): StateTensor[] {
  return [...eachFactor(layers)].flatMap((factor, i): StateTensor[] => {
    const state = moments[i]!;
    const name = factorName(factor);
    const tensor = (suffix: string, dtype: "F32" | "U8", shape: readonly [number, number], range: BufferRange) => {
      const spec = { name: `${name}.${suffix}`, dtype, shape: [...shape] };
      return { ...spec, range: { ...range, sizeBytes: tensorSizeBytes(spec) } };
    };
    if (state.kind === "f32") {
      const { rows, cols } = state.first;
      const shape = [padded(rows), padded(cols)] as const;
      return [
        tensor("exp_avg", "F32", shape, state.first.range),
        tensor("exp_avg_sq", "F32", shape, state.second.range),
      ];
    }
    const blocks = state.firstBytes.sizeBytes / BLOCK_ELEMENTS;
    return [
      tensor("exp_avg_8bit", "U8", [blocks, BLOCK_ELEMENTS], state.firstBytes),
      tensor("exp_avg_sq_8bit", "U8", [blocks, BLOCK_ELEMENTS], state.secondBytes),
      tensor("absmax", "F32", [blocks, 2], state.absmax),
    ];
  });
}

/** Reads the state back, in pieces. @throws NonFiniteError naming the first tensor that is not finite */
export async function readOptimizer(gpu: Gpu, tensors: readonly StateTensor[]): Promise<SavedTensor[]> {
  const saved: SavedTensor[] = [];
  for (const piece of inPieces(tensors)) {
    const copies = await gpu.read(...piece.map(({ range }) => range));
    for (const [i, { name, dtype, shape }] of piece.entries()) {
      const bytes = new Uint8Array(copies[i]!);
      if (dtype === "F32" && !areFinite(new Float32Array(bytes.buffer))) {
        throw new NonFiniteError(`the optimizer's ${name} is not finite`);
      }
      saved.push({ name, dtype, shape, bytes });
    }
  }
  return saved;
}

/** Bytes of the largest piece in which `readOptimizer` reads. */
export function largestReadBytes(tensors: readonly StateTensor[]): number {
  return [...inPieces(tensors)].reduce((largest, piece) => {
    return Math.max(
      largest,
      piece.reduce((bytes, { range }) => bytes + range.sizeBytes, 0),
    );
  }, 0);
}

/** Puts a state that was read back where it came from. */
export function writeOptimizer(gpu: Gpu, tensor: StateTensor, bytes: Uint8Array<ArrayBuffer>): void {
  gpu.write(tensor.range.buffer, tensor.range.offsetBytes, bytes);
}

function* inPieces(tensors: readonly StateTensor[]): Generator<StateTensor[]> {
  let piece: StateTensor[] = [];
  let sizeBytes = 0;
  for (const tensor of tensors) {
    if (piece.length > 0 && sizeBytes + tensor.range.sizeBytes > READ_BYTES) {
      yield piece;
      [piece, sizeBytes] = [[], 0];
    }
    piece.push(tensor);
    sizeBytes += tensor.range.sizeBytes;
  }
  if (piece.length > 0) yield piece;
}
