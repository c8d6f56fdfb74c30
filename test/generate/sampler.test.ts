import { describe, expect, it } from "vitest";
import { NonFiniteError } from "../../src/errors.ts";
import { createSampler, type SamplingSettings } from "../../src/generate/sampler.ts";
import { seededNumbers } from "../numbers.ts";

const ALL: SamplingSettings = { temperature: 1, topK: 0, topP: 1, seed: 0 };

const logitsOf = (probabilities: readonly number[]) => Float32Array.from(probabilities, (p) => Math.log(p));

/** How often each token is drawn. */
function counts(settings: Partial<SamplingSettings>, logits: Float32Array, draws: number): number[] {
  const sample = createSampler({ ...ALL, ...settings });
  const drawn = new Array<number>(logits.length).fill(0);
  for (let i = 0; i < draws; i++) drawn[sample(logits)]!++;
  return drawn;
}

const drawnTokens = (drawn: readonly number[]) => [...drawn.keys()].filter((token) => drawn[token]! > 0);

/** Pearson's χ². Its mean is the number of tokens less one. */
function chiSquare(drawn: readonly number[], probabilities: readonly number[]): number {
  const total = drawn.reduce((a, b) => a + b);
  return drawn.reduce((sum, count, i) => {
    const expected = total * probabilities[i]!;
    return expected === 0
      ? sum + (count === 0 ? 0 : Number.POSITIVE_INFINITY)
      : sum + (count - expected) ** 2 / expected;
  }, 0);
}

function normalized(weights: readonly number[]): number[] {
  const sum = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / sum);
}

describe("temperature 0", () => {
  it("takes the most likely token, of equals the first, whatever else is set", () => {
    for (const settings of [{}, { topK: 3 }, { topP: 0.1 }, { seed: 7 }]) {
      const sample = createSampler({ ...ALL, temperature: 0, ...settings });
      expect(sample(Float32Array.of(-5, 2, 7, 7, 1))).toBe(2);
      expect(sample(Float32Array.of(3, 3, 3))).toBe(0);
      expect(sample(Float32Array.of(-1e30, -2e30))).toBe(0);
    }
  });
});

describe("a temperature", () => {
  const probabilities = [0.5, 0.25, 0.15, 0.07, 0.03];

  // The 0.999 quantile of χ² with 4 degrees of freedom is 18.5.
  it.each([0.5, 1, 2])("%d gives each token its share", (temperature) => {
    const expected = normalized(probabilities.map((p) => p ** (1 / temperature)));
    expect(chiSquare(counts({ temperature }, logitsOf(probabilities), 20_000), expected)).toBeLessThan(18.5);
  });

  it("near 0 is greedy, and draws between equals", () => {
    for (const temperature of [5e-324, 1e-300, 1e-6]) {
      expect(drawnTokens(counts({ temperature }, Float32Array.of(1, 3, 2.9999), 200))).toEqual([1]);
      expect(drawnTokens(counts({ temperature }, Float32Array.of(3, 1, 3), 200))).toEqual([0, 2]);
    }
  });

  it("without bound makes all tokens equal", () => {
    const drawn = counts({ temperature: 1e300 }, logitsOf(probabilities), 20_000);
    expect(chiSquare(drawn, normalized([1, 1, 1, 1, 1]))).toBeLessThan(18.5);
  });
});

describe("top_k", () => {
  const logits = Float32Array.of(1, 4, 2, 4, 3);

  it.each([
    [1, [1]],
    [2, [1, 3]],
    [3, [1, 3, 4]],
    [4, [1, 2, 3, 4]],
    [5, [0, 1, 2, 3, 4]],
    [100, [0, 1, 2, 3, 4]],
    [0, [0, 1, 2, 3, 4]],
  ])("%d leaves the tokens %j", (topK, tokens) => {
    expect(drawnTokens(counts({ topK, temperature: 3 }, logits, 2000))).toEqual(tokens);
  });

  it("keeps the lower ids of equals", () => {
    const equal = new Float32Array(50).fill(2);
    expect(drawnTokens(counts({ topK: 3 }, equal, 500))).toEqual([0, 1, 2]);
    equal[41] = 3;
    expect(drawnTokens(counts({ topK: 3 }, equal, 500))).toEqual([0, 1, 41]);
  });

  it("leaves those that sorting would, with their shares", () => {
    const random = seededNumbers(1);
    const many = random.normals(1000, 2);
    const order = [...many.keys()].sort((a, b) => many[b]! - many[a]! || a - b);
    const kept = order.slice(0, 20);
    const drawn = counts({ topK: 20 }, many, 10_000);
    const share = normalized(kept.map((token) => Math.exp(many[token]!)));
    expect(drawnTokens(drawn).every((token) => kept.includes(token))).toBe(true);
    // The 0.999 quantile of χ² with 19 degrees of freedom is 43.8.
    expect(
      chiSquare(
        kept.map((token) => drawn[token]!),
        share,
      ),
    ).toBeLessThan(43.8);
  });
});

describe("top_p", () => {
  const logits = logitsOf([0.1, 0.4, 0.05, 0.3, 0.15]);

  it.each([
    [0, [1]],
    [1e-9, [1]],
    [0.39, [1]],
    [0.41, [1, 3]],
    [0.69, [1, 3]],
    [0.71, [1, 3, 4]],
    [0.9, [0, 1, 3, 4]],
    [0.96, [0, 1, 2, 3, 4]],
    [1, [0, 1, 2, 3, 4]],
  ])("%d leaves the tokens %j", (topP, tokens) => {
    expect(drawnTokens(counts({ topP }, logits, 4000))).toEqual(tokens);
  });

  it("keeps the lower ids of equals, and no more than it needs", () => {
    const equal = new Float32Array(8).fill(-3);
    expect(drawnTokens(counts({ topP: 0.5 }, equal, 500))).toEqual([0, 1, 2, 3]);
    expect(drawnTokens(counts({ topP: 0.51 }, equal, 500))).toEqual([0, 1, 2, 3, 4]);
  });

  it("counts what top_k leaves, as transformers does", () => {
    // Of 0.4 and 0.3 alone, 0.4 is 57%.
    expect(drawnTokens(counts({ topK: 2, topP: 0.56 }, logits, 500))).toEqual([1]);
    expect(drawnTokens(counts({ topK: 2, topP: 0.58 }, logits, 500))).toEqual([1, 3]);
  });

  it("leaves those that sorting would", () => {
    const random = seededNumbers(2);
    for (const [deviation, topP] of [
      [0.01, 0.3],
      [1, 0.9],
      [4, 0.999],
    ] as const) {
      const many = random.normals(500, deviation);
      const share = normalized(Array.from(many, (logit) => Math.exp(logit)));
      const order = [...many.keys()].sort((a, b) => many[b]! - many[a]!);
      let reached = 0;
      const kept = order.filter((token) => {
        const isNeeded = reached < topP;
        reached += share[token]!;
        return isNeeded;
      });
      const drawn = counts({ topP }, many, 3000);
      expect(drawnTokens(drawn).filter((token) => !kept.includes(token))).toEqual([]);
      if (kept.length < 200) expect(drawnTokens(drawn).length).toBeGreaterThan(kept.length / 3);
    }
  });
});

describe("min_p", () => {
  const logits = logitsOf([0.1, 0.4, 0.05, 0.3, 0.15]);

  it.each([
    [0, [0, 1, 2, 3, 4]],
    [0.12, [0, 1, 2, 3, 4]],
    [0.13, [0, 1, 3, 4]],
    [0.37, [1, 3, 4]],
    [0.38, [1, 3]],
    [0.76, [1]],
    [1, [1]],
  ])("%d leaves the tokens %j", (minP, tokens) => {
    expect(drawnTokens(counts({ minP }, logits, 4000))).toEqual(tokens);
  });

  it("keeps every token that is as likely as the likeliest", () => {
    expect(drawnTokens(counts({ minP: 1 }, Float32Array.of(2, 1, 2, 2), 500))).toEqual([0, 2, 3]);
  });

  it("measures likelihood at the temperature", () => {
    // 0.3 of 0.4 is 0.75, and its square 0.5625.
    expect(drawnTokens(counts({ minP: 0.6, temperature: 0.5 }, logits, 500))).toEqual([1]);
    expect(drawnTokens(counts({ minP: 0.6, temperature: 2 }, logits, 500))).toEqual([1, 3, 4]);
  });
});

/** Temperature, top-k, top-p and min-p as transformers applies them one after the other, by sorting everything. */
function filtered(
  { temperature, topK, topP, minP = 0 }: Omit<SamplingSettings, "seed">,
  logits: Float32Array,
): number[] {
  const softmax = (scores: readonly number[]) => {
    const largest = Math.max(...scores);
    return normalized(scores.map((score) => Math.exp(score - largest)));
  };
  const remove = (scores: readonly number[], isKept: (token: number) => boolean) =>
    scores.map((score, token) => (isKept(token) ? score : Number.NEGATIVE_INFINITY));
  const order = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b);
  let scores = Array.from(logits, (logit) => logit / temperature);
  if (topK > 0) scores = remove(scores, (token) => order.indexOf(token) < topK);
  const shares = softmax(scores);
  const before = (token: number) =>
    order.slice(0, order.indexOf(token)).reduce((sum, earlier) => sum + shares[earlier]!, 0);
  if (topP < 1) scores = remove(scores, (token) => token === order[0] || before(token) < topP);
  const left = softmax(scores);
  return softmax(remove(scores, (token) => left[token]! >= minP * Math.max(...left)));
}

it("all filters together leave what transformers' do, each token with its share", () => {
  const random = seededNumbers(7);
  let filteredByMinP = 0;
  for (const settings of [
    { temperature: 1, topK: 0, topP: 1, minP: 0.05 },
    { temperature: 0.7, topK: 30, topP: 0.95, minP: 0.1 },
    { temperature: 1.5, topK: 20, topP: 0.8, minP: 0.2 },
    { temperature: 3, topK: 0, topP: 0.9, minP: 0.3 },
    { temperature: 0.3, topK: 5, topP: 1, minP: 0.01 },
  ]) {
    const logits = random.normals(60, 2);
    const expected = filtered(settings, logits);
    const kept = expected.filter((share) => share > 0).length;
    if (kept < filtered({ ...settings, minP: 0 }, logits).filter((share) => share > 0).length) filteredByMinP++;
    // Above the 0.9999 quantile of χ² with `kept` degrees of freedom, by Wilson and Hilferty.
    const bound = kept * (1 - 2 / (9 * kept) + 3.72 * Math.sqrt(2 / (9 * kept))) ** 3;
    expect(chiSquare(counts({ ...settings, seed: 3 }, logits, 20_000), expected)).toBeLessThan(bound);
  }
  expect(filteredByMinP).toBeGreaterThanOrEqual(4);
});

describe("a seed", () => {
  const logits = seededNumbers(3).normals(100);
  const sequence = (settings: Partial<SamplingSettings>) => {
    const sample = createSampler({ ...ALL, ...settings });
    return Array.from({ length: 50 }, () => sample(logits));
  };

  it("gives the same tokens again, another seed others", () => {
    expect(sequence({ seed: 5 })).toEqual(sequence({ seed: 5 }));
    expect(sequence({ seed: 5 })).not.toEqual(sequence({ seed: 6 }));
    expect(sequence({ seed: 5, topP: 0.9 })).toEqual(sequence({ seed: 5, topP: 0.9 }));
  });

  it("draws what it draws today: MT19937's doubles through the running sum of probabilities", () => {
    // numpy.random.RandomState(5).random_sample(3): 0.22199317, 0.87073231, 0.20671916.
    const sample = createSampler({ ...ALL, seed: 5 });
    const hundredth = new Float32Array(100);
    expect([sample(hundredth), sample(hundredth), sample(hundredth)]).toEqual([22, 87, 20]);
  });
});

describe("logits", () => {
  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])("of %d are refused by token", (value) => {
    for (const temperature of [0, 1]) {
      const sample = createSampler({ ...ALL, temperature });
      expect(() => sample(Float32Array.of(1, value, 2))).toThrow(NonFiniteError);
      expect(() => sample(Float32Array.of(1, 5, value))).toThrow(`the logit of token 2 is ${value}`);
    }
  });

  it("of a vocabulary of one have one answer", () => {
    expect(counts({}, Float32Array.of(-1e38), 5)).toEqual([5]);
    expect(counts({ topK: 1, topP: 0 }, Float32Array.of(0), 5)).toEqual([5]);
  });

  it("at both ends of float32 are drawn from without a word", () => {
    expect(counts({}, Float32Array.of(-3e38, 3e38, -3e38), 20)).toEqual([0, 20, 0]);
    expect(counts({ topP: 0.9 }, Float32Array.of(-3e38, 3e38, -3e38), 20)).toEqual([0, 20, 0]);
  });
});

it("settings that mean nothing are a mistake of ours", () => {
  for (const settings of [
    { temperature: -1 },
    { temperature: Number.NaN },
    { topP: 1.01 },
    { topP: -0.1 },
    { topP: Number.NaN },
    { minP: -0.1 },
    { minP: 1.1 },
    { minP: Number.NaN },
    { topK: -1 },
    { topK: 1.5 },
    { seed: -1 },
    { seed: 0.5 },
  ]) {
    expect(() => createSampler({ ...ALL, ...settings })).toThrow("internal");
  }
});
