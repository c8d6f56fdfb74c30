import { mostOf } from "./ask.ts";
import { type BudgetLimits, costUsd, estimateTokens, type Prices, type Spent } from "./budget.ts";
import type { JournalEntry, Usage } from "./journal.ts";
import type { ChatRequest } from "./server.ts";

export interface Estimate {
  readonly calls: number;
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Null where prices are not known. */
  readonly usd: number | null;
  /** If every answer were as long as it may be. */
  readonly mostUsd: number | null;
}

/** What calls will take, from the lengths of their texts. @param expectedTokens of an answer */
export function estimateCalls(
  requests: readonly ChatRequest[],
  expectedTokens: number,
  prices: Prices | null,
): Estimate {
  const promptTokens = requests
    .map(({ messages }) => estimateTokens(messages.map(({ content }) => content).join("\n")))
    .reduce((sum, tokens) => sum + tokens, 0);
  const completionTokens = requests.length * expectedTokens;
  const most = requests.map(mostOf);
  const sum = (name: "promptTokens" | "completionTokens") => most.reduce((total, usage) => total + usage[name], 0);
  return {
    calls: requests.length,
    promptTokens,
    completionTokens,
    usd: prices && costUsd({ promptTokens, completionTokens }, prices),
    mostUsd:
      prices && costUsd({ promptTokens: sum("promptTokens"), completionTokens: sum("completionTokens") }, prices),
  };
}

export function formatEstimate({ calls, promptTokens, completionTokens, usd, mostUsd }: Estimate): string {
  const tokens = `about ${formatNumber(promptTokens)} tokens in and ${formatNumber(completionTokens)} out`;
  const money =
    usd === null
      ? "no price known: --input-price and --output-price give it"
      : `about ${formatUsd(usd)}, at most ${formatUsd(mostUsd!)} if no call is repeated`;
  return `${formatNumber(calls)} calls to make: ${tokens}, ${money}`;
}

export function formatLimits({ calls, tokens, usd }: BudgetLimits): string {
  const parts = [
    ...(calls === Number.POSITIVE_INFINITY ? [] : [`${formatNumber(calls)} calls`]),
    ...(tokens === Number.POSITIVE_INFINITY ? [] : [`${formatNumber(tokens)} tokens`]),
    ...(usd === Number.POSITIVE_INFINITY ? [] : [formatUsd(usd)]),
  ];
  return parts.length === 0 ? "no budget is set" : `budget, earlier runs included: ${parts.join(", ")}`;
}

/** Calls of this run and of all, and what they took. */
export interface Tally {
  readonly callsNow: number;
  readonly calls: number;
  readonly failedCalls: number;
  readonly spent: Spent;
  readonly usd: number | null;
}

export function tallyCalls(
  entries: readonly JournalEntry[],
  callsBefore: number,
  spent: Spent,
  prices: Prices | null,
): Tally {
  return {
    callsNow: spent.calls - callsBefore,
    calls: spent.calls,
    failedCalls: entries.filter(({ kind }) => kind === "failure").length,
    spent,
    usd: prices && costUsd(spent, prices),
  };
}

export function formatTally({ callsNow, calls, failedCalls, spent, usd }: Tally): string {
  const earlier = calls === callsNow ? "" : ` and ${formatNumber(calls - callsNow)} before`;
  const failed = failedCalls === 0 ? "" : `, of which ${formatNumber(failedCalls)} failed`;
  const about = spent.isEstimated ? "about " : "";
  const money = usd === null ? "" : `, ${about}${formatUsd(usd)}`;
  return (
    `${formatNumber(callsNow)} calls made${earlier}${failed}; ${about}${formatNumber(spent.promptTokens)} tokens in, ` +
    `${formatNumber(spent.completionTokens)} out${money}`
  );
}

export function tallyJson({ callsNow, calls, failedCalls, spent, usd }: Tally): object {
  return {
    calls,
    calls_of_this_run: callsNow,
    failed_calls: failedCalls,
    prompt_tokens: spent.promptTokens,
    completion_tokens: spent.completionTokens,
    tokens_are_estimated: spent.isEstimated,
    cost_usd: usd,
  };
}

export function usageOf(entries: readonly JournalEntry[]): (Usage | null)[] {
  return entries.flatMap((entry) => (entry.kind === "generation" ? [] : [entry.usage]));
}

export function formatNumber(count: number): string {
  return count.toLocaleString("en-US");
}

function formatUsd(usd: number): string {
  return `$${usd.toFixed(usd < 0.1 ? 4 : 2)}`;
}
