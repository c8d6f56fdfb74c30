import { describe, expect, it } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import { planningAdapter } from "../../src/plan/adapters.ts";
import { MODEL_SHAPES } from "../../src/plan/model-shapes.ts";
import { makePlan, type Plan } from "../../src/plan/plan.ts";
import { planSources } from "../../src/plan/sources.ts";
import { rootPath } from "../model/golden-model.ts";

/** The book's recipe for a shape, 32 pairs of 1,024 tokens. */
async function planFor(
  shape: string,
  settings: readonly string[] = [],
  { memoryBytes = null, testSize = 0.5 }: { memoryBytes?: number | null; testSize?: number } = {},
): Promise<Plan> {
  const { config } = loadConfig(rootPath("configs/twin.yaml"), settings);
  const sources = await planSources({ ...config, test_size: testSize }, { shape, pairs: 64 });
  return makePlan(config, sources, { adapter: planningAdapter("f16"), precision: "f16", memoryBytes });
}

describe("operations of a step", () => {
  // 16 pairs as planSources assumes them: a prompt of 256 tokens, answers of 768, whose last token is no input.
  const [prompt, answer] = [256, 767];
  const tokens = 16 * (prompt + 2 * answer);
  const headRows = 16 * (1 + 2 * answer);
  const triangle = (n: number) => (n * (n + 1)) / 2;
  const scores = 16 * (triangle(prompt) + 2 * (answer * prompt + triangle(answer)));
  const RANK = 32;

  /** By hand, from the shape alone: a multiplication and an addition are two. */
  function count(shape: string, isCheckpointed: boolean): number {
    const {
      hiddenSize: c,
      intermediateSize: i,
      layers,
      heads,
      keyValueHeads,
      headDim: d,
      vocabSize,
    } = MODEL_SHAPES[shape]!;
    const attention = [
      [c, heads * d],
      [c, keyValueHeads * d],
      [c, keyValueHeads * d],
      [heads * d, c],
    ] as const;
    const gateAndUp = [
      [c, i],
      [c, i],
    ] as const;
    const down = [[i, c]] as const;
    const perToken = (modules: readonly (readonly [number, number])[], ofW: number, ofLora: number) =>
      modules.reduce((sum, [from, to]) => sum + 2 * ofW * from * to + 2 * ofLora * RANK * (from + to), 0);
    // Forward X·Wᵀ, backward dY·W; of LoRA forward once, backward dA, dB and the way through both.
    const linear = tokens * perToken([...attention, ...gateAndUp, ...down], 2, 3) * layers;
    // Q·Kᵀ and P·V; backward dP, dQ, dK, dV and twice Q·Kᵀ and dP, as queries and keys go through it separately.
    const scoresForward = scores * heads * d * 4;
    const scoresAll = scoresForward * layers + scores * heads * d * 14 * layers;
    const head = headRows * 4 * vocabSize * c;
    const again = (tokens * perToken([...attention, ...gateAndUp], 1, 1) + scoresForward) * (layers - 1);
    return linear + scoresAll + head + (isCheckpointed ? again : 0);
  }

  it.each(["1b", "8b"])("are those of the formula: %s", async (shape) => {
    for (const isCheckpointed of [false, true]) {
      const { perStep } = await planFor(shape, [`gradient_checkpointing=${isCheckpointed}`]);
      expect(perStep.tokens).toBe(tokens);
      const ratio = perStep.flops / count(shape, isCheckpointed);
      expect(ratio).toBeGreaterThan(0.98);
      expect(ratio).toBeLessThan(1.02);
    }
  });

  it("are about 30 GFLOP a token for 8B with everything stored", async () => {
    const { perStep } = await planFor("8b");
    expect(perStep.flops / perStep.tokens / 1e9).toBeGreaterThan(28);
    expect(perStep.flops / perStep.tokens / 1e9).toBeLessThan(33);
  });
});

describe("data that is not there", () => {
  it.each([
    [["max_train_samples=5"], 0.5, { pairs: 5, evaluationPairs: 32, steps: 1 }],
    [[], 0.25, { pairs: 48, evaluationPairs: 16, steps: 3 }],
    [["num_train_epochs=3"], 0.05, { pairs: 60, evaluationPairs: 4, steps: 12 }],
  ])("is divided as the config says: %j, test_size %d", async (settings, testSize, expected) => {
    expect(await planFor("135m", settings, { testSize })).toMatchObject(expected);
  });

  it("takes the tokens of the sample into account, and a divergence", async () => {
    const bytes = async (...settings: string[]) => (await planFor("135m", settings)).chosen.simulation.peakBytes;
    const [plain, long, divergence] = [
      await bytes(),
      await bytes("sample_max_new_tokens=8000"),
      await bytes("eval_kl=true"),
    ];
    expect(long).toBeGreaterThan(plain);
    expect(divergence).toBeGreaterThan(plain);
  });
});

describe("the goals", () => {
  it.each([
    ["8b", [], 24e9],
    ["8b", ["load_in_4bit=true"], 10e9],
    ["1b", [], 6e9],
  ] as const)("%s %j trains in %d bytes", async (shape, settings, memoryBytes) => {
    const { chosen, perStep } = await planFor(shape, settings, { memoryBytes });
    expect(chosen.simulation.peakBytes).toBeLessThanOrEqual(memoryBytes);
    expect(perStep.batches).toBeLessThanOrEqual(16);
  });
});
