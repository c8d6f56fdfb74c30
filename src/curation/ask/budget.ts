import type { Usage } from "./journal.ts";

/** What may be spent, calls of earlier runs on the same journal included. */
export interface BudgetLimits {
  readonly calls: number;
  /** Of prompts and answers together. */
  readonly tokens: number;
  readonly usd: number;
}

/** US dollars for a million tokens. */
export interface Prices {
  readonly input: number;
  readonly output: number;
}

export interface Spent {
  calls: number;
  promptTokens: number;
  completionTokens: number;
  /** Whether some of the tokens are an estimate, the server having sent no count. */
  isEstimated: boolean;
}

export interface Budget {
  readonly spent: Readonly<Spent>;
  /**
   * Sets aside what a call may take at most. Waits while calls that are under way may leave enough of it.
   *
   * @returns false where the budget does not hold another call
   */
  reserve(most: Usage): Promise<boolean>;
  /** Puts what a call took in the place of what was set aside for it. */
  settle(most: Usage, usage: Usage | null): void;
  /** Gives back what was set aside for a call that is not made. */
  release(most: Usage): void;
}

export function costUsd(usage: Pick<Usage, "promptTokens" | "completionTokens">, prices: Prices): number {
  return (usage.promptTokens * prices.input + usage.completionTokens * prices.output) / 1e6;
}

/** A rough count: a token of English text is about four characters, and never less than one. */
export function estimateTokens(text: string, charactersPerToken = 4): number {
  return Math.ceil(text.length / charactersPerToken);
}

/** @param past what earlier calls took, one element a call; null for a call that cost nothing */
export function createBudget(limits: BudgetLimits, prices: Prices | null, past: Iterable<Usage | null> = []): Budget {
  const spent: Spent = { calls: 0, promptTokens: 0, completionTokens: 0, isEstimated: false };
  const reserved = { calls: 0, promptTokens: 0, completionTokens: 0 };
  const waiting: (() => void)[] = [];

  function count(usage: Usage | null): void {
    spent.calls++;
    spent.promptTokens += usage?.promptTokens ?? 0;
    spent.completionTokens += usage?.completionTokens ?? 0;
    spent.isEstimated ||= usage?.isEstimated ?? false;
  }
  for (const usage of past) count(usage);

  function fits(most: Usage): boolean {
    const promptTokens = spent.promptTokens + reserved.promptTokens + most.promptTokens;
    const completionTokens = spent.completionTokens + reserved.completionTokens + most.completionTokens;
    return (
      spent.calls + reserved.calls + 1 <= limits.calls &&
      promptTokens + completionTokens <= limits.tokens &&
      (prices === null || costUsd({ promptTokens, completionTokens }, prices) <= limits.usd)
    );
  }

  function release(most: Usage): void {
    reserved.calls--;
    reserved.promptTokens -= most.promptTokens;
    reserved.completionTokens -= most.completionTokens;
    for (const resolve of waiting.splice(0)) resolve();
  }

  return {
    spent,
    release,
    async reserve(most) {
      while (!fits(most)) {
        if (reserved.calls === 0) return false;
        await new Promise<void>((resolve) => waiting.push(resolve));
      }
      reserved.calls++;
      reserved.promptTokens += most.promptTokens;
      reserved.completionTokens += most.completionTokens;
      return true;
    },
    settle(most, usage) {
      count(usage);
      release(most);
    },
  };
}
