import { describe, expect, it } from "vitest";
import { NO_TARGET } from "../../src/data/pack.ts";
import type { Gpu } from "../../src/gpu/gpu.ts";
import { createHalfRows } from "../../src/ops/half-rows.ts";
import { exponentialRows, headBackward, headForward } from "../../src/ops/head.ts";
import type { WeightFormat } from "../../src/ops/matrix.ts";
import { f16ToNumber, numberToF16 } from "../../src/weights/half.ts";
import { useDevice } from "../device.ts";
import { firstDifference, KERNEL_TOLERANCE, relativeError, roundedToBf16, seededNumbers } from "../numbers.ts";
import * as reference from "../reference/head.ts";
import {
  denseRows,
  denseWords,
  inputMatrix,
  inputWeight,
  inputWords,
  outputMatrix,
  outputWords,
  rowCount,
  run,
  UNTOUCHED,
  withLanes,
} from "./harness.ts";

const device = useDevice();
/** One part holds at most 64 rows of a (·, 36) head in f32. */
const small = useDevice({ bindingLimitBytes: 64 * 40 * 4 });

interface HeadCase {
  readonly rows: number;
  readonly cols: number;
  readonly vocab: number;
  readonly format: WeightFormat;
  readonly hidden: Float32Array;
  readonly w: Float32Array;
  /** (rows, 2): both tokens, only one of them, or none. */
  readonly targets: Uint32Array<ArrayBuffer>;
  /** (rows, 2), 0 where there is no target. */
  readonly coefficients: Float32Array<ArrayBuffer>;
}

function headCase(
  rows: number,
  sizes: { cols: number; vocab: number; format: WeightFormat },
  values?: { hidden: Float32Array; w: Float32Array },
): HeadCase {
  const { cols, vocab, format } = sizes;
  const random = seededNumbers(rows * vocab);
  const w = values?.w ?? random.normals(vocab * cols, 0.3);
  const targets = new Uint32Array(2 * rows).map((_, i) => {
    if (i < 2) return i * (vocab - 1); // The first token and the last.
    const isMissing = i % 5 === 3 || i % 14 >= 12;
    return isMissing ? NO_TARGET : random.integer(0, vocab - 1);
  });
  const coefficients = random.normals(2 * rows).map((value, i) => (targets[i] === NO_TARGET ? 0 : value));
  return {
    ...sizes,
    rows,
    hidden: values?.hidden ?? random.normals(rows * cols),
    w: format === "bf16" ? roundedToBf16(w) : format === "f16" ? w.map((value) => f16ToNumber(numberToF16(value))) : w,
    targets,
    coefficients,
  };
}

/** Workspaces of the f16 path, full of NaN. */
function headHalf(gpu: Gpu, rows: number, cols: number, chunk: number) {
  const [hidden, exponentials] = [cols, chunk].map((width) => createHalfRows(gpu, "half", rows, width));
  for (const { range, factor } of [hidden!, exponentials!]) {
    for (const { buffer } of [range, factor]) {
      gpu.write(buffer, 0, new Uint32Array(buffer.sizeBytes / 4).fill(UNTOUCHED));
    }
  }
  return { hidden: hidden!, exponentials: exponentialRows(gpu, exponentials!, rows) };
}

/** Forward and backward on the GPU, in chunks of at most `chunk` tokens; on subgroup matrices where the weight is f16. */
async function runHead(gpu: Gpu, head: HeadCase, chunk: number) {
  const { rows, cols, vocab, format } = head;
  const count = rowCount(gpu, rows);
  const w = inputWeight(gpu, format, head.w, vocab, cols);
  const targets = inputWords(gpu, head.targets);
  const [logits, sums, dHidden] = [chunk, cols, cols].map((width) => outputMatrix(gpu, count, width));
  const [state, best, targetLogits, scale] = [4, 1, 2, 1].map((perRow) => outputWords(gpu, count, perRow));
  const common = { count, w, targets, state: state!.range, sums: sums! };
  const commands = [
    ...headForward(gpu, {
      ...common,
      hidden: inputMatrix(gpu, count, head.hidden, cols),
      logits: logits!,
      best: best!.range,
      targetLogits: targetLogits!.range,
      scale: scale!.range,
      half: format === "f16" ? headHalf(gpu, count.max, cols, chunk) : null,
    }),
    ...headBackward(gpu, { ...common, coefficients: inputWords(gpu, head.coefficients), dHidden: dHidden! }),
  ];
  const outputs = [state!, best!, targetLogits!, dHidden!, logits!, sums!, scale!];
  const [stateBits, bestBits, targetBits, dHiddenBits] = await run(gpu, commands, outputs);
  const states = denseWords(stateBits!, state!, count, 4);
  return {
    commands,
    largest: states.filter((_, i) => i % 4 === 0),
    exponentials: states.filter((_, i) => i % 4 === 1),
    weighted: states.filter((_, i) => i % 4 === 2),
    plain: states.filter((_, i) => i % 4 === 3),
    best: bestBits!.slice(0, rows),
    targetLogits: denseWords(targetBits!, targetLogits!, count, 2),
    targetBits: targetBits!,
    dHidden: denseRows(dHiddenBits!, dHidden!),
  };
}

/** The same numbers in float64, and sizes to measure errors by where terms cancel. */
function expectedOf({ rows, cols, vocab, hidden, w, targets, coefficients }: HeadCase) {
  const { logits, logps } = reference.headForward(hidden, w, cols);
  const perRow = Array.from({ length: rows }, (_, row) => logits.subarray(row * vocab, (row + 1) * vocab));
  const largest = perRow.map((own) => Math.max(...own));
  const sumOver = (term: (logit: number, m: number) => number) =>
    perRow.map((own, row) => own.reduce((sum, logit) => sum + term(logit, largest[row]!), 0));
  const list = [...targets]
    .map((token, i) => ({ row: i >> 1, token, coefficient: coefficients[i]! }))
    .filter(({ token }) => token !== NO_TARGET);
  const dHiddenSize = new Float64Array(rows * cols);
  for (const { row, token, coefficient } of list) {
    for (let c = 0; c < cols; c++) dHiddenSize[row * cols + c]! += Math.abs(coefficient * w[token * cols + c]!);
  }
  return {
    list,
    largest,
    exponentials: sumOver((logit, m) => Math.exp(logit - m)),
    weighted: sumOver((logit, m) => Math.exp(logit - m) * (logit - m)),
    plain: sumOver((logit) => logit),
    plainSize: sumOver((logit) => Math.abs(logit)),
    best: Uint32Array.from(perRow, (own, row) => own.indexOf(largest[row]!)),
    targetLogits: list.map(({ row, token }) => logits[row * vocab + token]!),
    logps: list.map(({ row, token }) => logps[row * vocab + token]!),
    dHidden: reference.headBackward(
      logps,
      w,
      cols,
      list,
      list.map(({ coefficient }) => coefficient),
    ),
    dHiddenSize,
  };
}

function expectHead(actual: Awaited<ReturnType<typeof runHead>>, head: HeadCase, tolerance = KERNEL_TOLERANCE): void {
  const expected = expectedOf(head);
  if (tolerance === KERNEL_TOLERANCE) expect(actual.best).toEqual(expected.best);
  const slots = [...head.targets.keys()].filter((i) => head.targets[i] !== NO_TARGET);
  const missing = [...head.targets.keys()].filter((i) => head.targets[i] === NO_TARGET);
  expect(missing.every((i) => actual.targetBits[i] === UNTOUCHED)).toBe(true);
  const targetLogits = slots.map((i) => actual.targetLogits[i]!);
  // As the host takes it, in float64.
  const logps = expected.list.map(
    ({ row }, i) => targetLogits[i]! - actual.largest[row]! - Math.log(actual.exponentials[row]!),
  );
  const errors = {
    largest: relativeError(actual.largest, expected.largest),
    exponentials: relativeError(actual.exponentials, expected.exponentials),
    weighted: relativeError(actual.weighted, expected.weighted),
    plain: relativeError(actual.plain, expected.plain, expected.plainSize),
    targetLogits: relativeError(targetLogits, expected.targetLogits),
    logps: relativeError(logps, expected.logps),
    dHidden: relativeError(actual.dHidden, expected.dHidden, expected.dHiddenSize),
  };
  for (const [name, error] of Object.entries(errors)) expect(error, name).toBeLessThan(tolerance);
}

describe("head/chunk and head/backward against a float64 log-softmax and its gradient", () => {
  it.each([
    { vocab: 1, cols: 7, format: "f32", chunk: 64 },
    { vocab: 64, cols: 36, format: "bf16", chunk: 64 },
    { vocab: 130, cols: 65, format: "f32", chunk: 64 },
    { vocab: 401, cols: 36, format: "bf16", chunk: 200 },
    { vocab: 401, cols: 36, format: "f32", chunk: 448 },
  ] as const)("$vocab tokens in chunks of $chunk, $cols wide, $format", async ({ chunk, ...sizes }) => {
    for (const rows of [1, 7, 65, 130]) {
      const head = headCase(rows, sizes);
      expectHead(await runHead(device.gpu, head, chunk), head);
    }
  });

  it.each([4, 8, 64])("with reductions of %i lanes", async (lanes) => {
    const head = headCase(9, { vocab: 130, cols: 65, format: "f32" });
    expectHead(await runHead(withLanes(device.gpu, lanes), head, 64), head);
  });

  it("with a weight in parts", async () => {
    const random = headCase(9, { vocab: 401, cols: 36, format: "f32" });
    // The first and the last token of parts among them.
    const edges = [0, 63, 64, 127, 128, 191, 192, 383, 384, 400];
    const targets = random.targets.map((token, i) => (token === NO_TARGET ? token : edges[i % edges.length]!));
    const head = { ...random, targets };
    const whole = await runHead(device.gpu, head, 448);
    const inParts = await runHead(small.gpu, head, 128);
    expect(inParts.commands.length).toBe(7 * 3 + 7);
    expectHead(inParts, head);
    expect(relativeError(inParts.dHidden, whole.dHidden)).toBeLessThan(KERNEL_TOLERANCE);
  });
});

describe("head/chunk between products on subgroup matrices", () => {
  /** Relative by norm, of f16 storage with f32 sums. */
  const F16_TOLERANCE = 1e-3;

  it.for([
    { vocab: 64, cols: 36, chunk: 64 },
    { vocab: 401, cols: 65, chunk: 128 },
    { vocab: 401, cols: 65, chunk: 448 },
  ])("$vocab tokens in chunks of $chunk, $cols wide", async ({ chunk, ...sizes }, { skip }) => {
    const { gpu } = device;
    skip(!gpu.fragments, "the device has no subgroup matrices with f16 factors");
    for (const rows of [1, 7, 65]) {
      const head = headCase(rows, { ...sizes, format: "f16" });
      const actual = await runHead(gpu, head, chunk);
      // The hidden rows are packed once.
      const labels = actual.commands.flatMap((command) => (command.kind === "dispatch" ? [command.label] : []));
      const perChunk = ["matmul/tensor", "head/chunk", "matmul/tensor"];
      const chunks = Math.ceil(sizes.vocab / Math.min(chunk, sizes.vocab));
      expect(labels).toEqual([
        "elementwise/pack_rows",
        ...Array.from({ length: chunks }, () => perChunk).flat(),
        "head/backward",
      ]);
      expectHead(actual, head, F16_TOLERANCE);
    }
  });

  it("keeps a NaN in its row alone", async ({ skip }) => {
    const { gpu } = device;
    skip(!gpu.fragments, "the device has no subgroup matrices with f16 factors");
    const [rows, cols] = [7, 40];
    const head = headCase(rows, { vocab: 401, cols, format: "f16" });
    const hidden = head.hidden.slice();
    hidden[3 * cols + 5] = Number.NaN;
    const { dHidden } = await runHead(gpu, { ...head, hidden }, 128);
    const finite = Array.from({ length: rows }, (_, row) =>
      dHidden.subarray(row * cols, (row + 1) * cols).every(Number.isFinite),
    );
    expect(finite).toEqual([true, true, true, false, true, true, true]);
  });
});

describe("logits of ±30,000", () => {
  /** Small integers, but for one column that makes logits of 0 and ±30,000: exact in f32, so nothing is lost to rounding. */
  function largeCase(rows: number, format: WeightFormat): HeadCase {
    const [cols, vocab] = [36, 401];
    const random = seededNumbers(17);
    const hidden = random.integers(rows * cols, -1, 1);
    const w = random.integers(vocab * cols, -1, 1);
    for (let row = 0; row < rows; row++) hidden[row * cols] = 100 * ((row % 3) - 1);
    for (let token = 0; token < vocab; token++) w[token * cols] = 300 * random.integer(-1, 1);
    for (let c = 0; c < cols; c++) hidden[c] = c === 0 ? 100 : 0; // Row 0: ties of exactly ±30,000 and 0.
    return headCase(rows, { cols, vocab, format }, { hidden, w });
  }

  it.each(["bf16", "f32"] as const)("neither overflow nor lose the small differences, %s", async (format) => {
    const head = largeCase(9, format);
    const { largest } = expectedOf(head);
    expect(Math.max(...largest)).toBeGreaterThan(30_000);
    for (const chunk of [64, 448]) expectHead(await runHead(device.gpu, head, chunk), head);
  });

  it("give the first of equal tokens as the best, whichever chunk and lane it is in", async () => {
    const [cols, vocab, rows] = [36, 401, 11];
    const winners = [0, 1, 63, 64, 65, 127, 128, 199, 383, 384, 400];
    const hidden = new Float32Array(rows * cols);
    const w = new Float32Array(vocab * cols).fill(-300);
    for (const [row, winner] of winners.entries()) {
      hidden[row * cols + row] = 100;
      // The winner and all that come after it have the same logit in this row.
      for (let token = winner; token < vocab; token++) w[token * cols + row] = 300;
    }
    const head = headCase(rows, { cols, vocab, format: "f32" }, { hidden, w });
    for (const chunk of [64, 200, 448]) {
      expect((await runHead(device.gpu, head, chunk)).best).toEqual(Uint32Array.from(winners));
    }
  });
});

describe("a head that only scores", () => {
  it("finds the same bits without the sums for backward", async () => {
    const { gpu } = device;
    const head = headCase(7, { vocab: 401, cols: 36, format: "bf16" });
    const trained = await runHead(gpu, head, 200);
    const count = rowCount(gpu, head.rows);
    const [state, best, targetLogits, scale] = [4, 1, 2, 1].map((perRow) => outputWords(gpu, count, perRow));
    const logits = outputMatrix(gpu, count, 200);
    const commands = headForward(gpu, {
      count,
      hidden: inputMatrix(gpu, count, head.hidden, head.cols),
      w: inputWeight(gpu, head.format, head.w, head.vocab, head.cols),
      targets: inputWords(gpu, head.targets),
      logits,
      state: state!.range,
      best: best!.range,
      targetLogits: targetLogits!.range,
      scale: scale!.range,
    });
    const [stateBits, bestBits, targetBits] = await run(gpu, commands, [state!, best!, targetLogits!, scale!, logits]);
    const states = denseWords(stateBits!, state!, count, 4);
    expect(states.filter((_, i) => i % 4 === 0)).toEqual(trained.largest);
    expect(states.filter((_, i) => i % 4 === 1)).toEqual(trained.exponentials);
    expect(bestBits!.slice(0, head.rows)).toEqual(trained.best);
    expect(firstDifference(targetBits!, trained.targetBits)).toBe(-1);
  });

  it("refuses chunks below 64 tokens", () => {
    const { gpu } = device;
    const head = headCase(2, { vocab: 70, cols: 7, format: "f32" });
    return expect(runHead(gpu, head, 63)).rejects.toThrow("internal: a head chunk of 63 tokens is below 64");
  });
});
