import { describe, expect, it } from "vitest";
import { embedding } from "../../src/ops/elementwise.ts";
import { useDevice } from "../device.ts";
import { firstDifference, roundedToBf16, seededNumbers } from "../numbers.ts";
import * as reference from "../reference/embedding.ts";
import { denseRows, inputWeight, inputWords, outputMatrix, rowCount, run } from "./harness.ts";

const device = useDevice();
/** One part holds at most 64 rows of a (·, 36) table in f32, 128 in bf16. */
const small = useDevice({ bindingLimitBytes: 64 * 40 * 4 });

describe("elementwise/embedding", () => {
  const VOCAB = 131;

  it.each([
    { cols: 1, format: "f32" },
    { cols: 36, format: "bf16" },
    { cols: 600, format: "f32" },
    { cols: 521, format: "bf16" },
  ] as const)("$cols wide, $format: the very rows", async ({ cols, format }) => {
    const { gpu } = device;
    const random = seededNumbers(cols);
    const values = random.normals(VOCAB * cols);
    const table = format === "bf16" ? roundedToBf16(values) : values;
    for (const rows of [1, 7, 65, 130]) {
      const tokens = Uint32Array.from({ length: rows }, (_, t) =>
        t < 2 ? t * (VOCAB - 1) : random.integer(0, VOCAB - 1),
      );
      const count = rowCount(gpu, rows);
      const x = outputMatrix(gpu, count, cols);
      const w = inputWeight(gpu, format, table, VOCAB, cols);
      const [bits] = await run(gpu, embedding(gpu, { count, tokens: inputWords(gpu, tokens), w, x }), [x]);
      const expected = Float32Array.from(reference.embedding(tokens, table, cols));
      expect(firstDifference(denseRows(bits!, x), expected)).toBe(-1);
    }
  });

  it.each(["bf16", "f32"] as const)(
    "the very rows of a %s table in parts, each part's first and last too",
    async (format) => {
      const { gpu } = small;
      const cols = 36;
      const values = seededNumbers(3).normals(VOCAB * cols);
      const table = format === "bf16" ? roundedToBf16(values) : values;
      const tokens = Uint32Array.of(0, 63, 64, 127, 128, 130, 0, 129);
      const count = rowCount(gpu, tokens.length);
      const x = outputMatrix(gpu, count, cols);
      const w = inputWeight(gpu, format, table, VOCAB, cols);
      const commands = embedding(gpu, { count, tokens: inputWords(gpu, tokens), w, x });
      expect(commands.length).toBe(format === "f32" ? 3 : 2);
      const [bits] = await run(gpu, commands, [x]);
      expect(firstDifference(denseRows(bits!, x), Float32Array.from(reference.embedding(tokens, table, cols)))).toBe(
        -1,
      );
    },
  );

  it("widens every bfloat16 exactly, subnormal numbers, infinities and NaN included", async () => {
    const { gpu } = device;
    const rows = 256;
    const cols = 256;
    const w = inputWeight(gpu, "bf16", new Float32Array(rows * cols), rows, cols);
    gpu.write(
      w.parts[0]!.range.buffer,
      0,
      Uint16Array.from({ length: 0x10000 }, (_, bits) => bits),
    );
    const count = rowCount(gpu, rows);
    const x = outputMatrix(gpu, count, cols);
    const tokens = inputWords(
      gpu,
      Uint32Array.from({ length: rows }, (_, row) => row),
    );
    const [bits] = await run(gpu, embedding(gpu, { count, tokens, w, x }), [x]);
    const widened = Uint32Array.from({ length: 0x10000 }, (_, pattern) => pattern << 16);
    expect(firstDifference(bits!.subarray(0, 0x10000), widened)).toBe(-1);
  });
});
