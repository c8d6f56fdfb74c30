import type { Command } from "commander";
import type { AskSettings } from "../curation/ask/ask.ts";
import type { BudgetLimits, Prices } from "../curation/ask/budget.ts";
import { isOpenAi, type ServerSettings } from "../curation/ask/server.ts";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { parseNumber, parseWholeNumber } from "./option-values.ts";

/** Options of the commands that ask an OpenAI-compatible server. */
export interface ApiOptions {
  readonly baseUrl?: string;
  readonly apiKeyEnv: string;
  /** Nothing is asked, so that no key is needed. */
  readonly dryRun?: boolean;
  readonly temperature: string;
  readonly concurrency: string;
  readonly timeout: string;
  readonly attempts: string;
  readonly backoff: string;
  readonly askAgain: string;
  readonly budgetCalls?: string;
  readonly budgetTokens?: string;
  readonly budgetUsd?: string;
  readonly inputPrice?: string;
  readonly outputPrice?: string;
}

const OPENAI_URL = "https://api.openai.com/v1";
/** US dollars for a million tokens: the list prices of the default model. */
const KNOWN_PRICES: Readonly<Record<string, Prices>> = { "gpt-4o-mini": { input: 0.15, output: 0.6 } };
/** Node's own limit for the first byte of an answer. */
const LONGEST_TIMEOUT_SECONDS = 300;

/** @param defaults null where the command has a --temperature of its own */
export function addApiOptions(command: Command, defaults: { readonly temperature: string } | null): Command {
  command
    .option("--base-url <url>", "server that speaks OpenAI's API (default: OPENAI_BASE_URL, else OpenAI)")
    .option("--api-key-env <name>", "environment variable that holds the key; it may be unset", "OPENAI_API_KEY");
  if (defaults) command.option("--temperature <number>", "randomness of the answers", defaults.temperature);
  return command
    .option("--concurrency <count>", "calls at once, for each server", "8")
    .option("--timeout <seconds>", "a call that takes longer has failed", "120")
    .option("--attempts <count>", "calls that may fail before a question is listed and left", "6")
    .option("--backoff <seconds>", "wait after a failed call, then doubled; Retry-After overrules it", "1")
    .option("--ask-again <count>", "times to ask again where an answer cannot be used", "1")
    .option("--budget-calls <count>", "most calls, those of earlier runs included")
    .option("--budget-tokens <count>", "most tokens in and out, likewise")
    .option("--budget-usd <amount>", "most money, likewise; needs prices")
    .option("--input-price <usd>", "price of a million tokens in (known: gpt-4o-mini at OpenAI)")
    .option("--output-price <usd>", "price of a million tokens out");
}

export function readAskSettings(options: ApiOptions): AskSettings {
  return {
    concurrency: parseWholeNumber("--concurrency", options.concurrency, { least: 1 }),
    attempts: parseWholeNumber("--attempts", options.attempts, { least: 1 }),
    askAgain: parseWholeNumber("--ask-again", options.askAgain, { least: 0 }),
    backoffMs: parseNumber("--backoff", options.backoff, { least: 0 }) * 1000,
  };
}

export function readTemperature(options: ApiOptions): number {
  return parseNumber("--temperature", options.temperature, { least: 0, most: 2 });
}

/** A server other than that of the options, and the variable of its key, if it is to get one. */
export interface OwnServer {
  readonly option: string;
  readonly url: string;
  readonly keyVariable: string | null;
}

/** Where `model` is asked, and with which key. The key itself comes from the environment alone. */
export function readServer(model: string, options: ApiOptions, own?: OwnServer): ServerSettings {
  if (model === "") throw new InputError("a model must have a name, got nothing");
  const { option, url, keyVariable } = own ?? {
    option: options.baseUrl === undefined ? "OPENAI_BASE_URL" : "--base-url",
    url: options.baseUrl ?? (process.env.OPENAI_BASE_URL || OPENAI_URL),
    keyVariable: options.apiKeyEnv,
  };
  const baseUrl = checkUrl(option, url);
  return {
    baseUrl,
    model,
    apiKey: readKey(keyVariable, baseUrl, options.dryRun ?? false),
    timeoutMs: Math.round(
      1000 * parseNumber("--timeout", options.timeout, { least: 0.1, most: LONGEST_TIMEOUT_SECONDS }),
    ),
  };
}

/** The key in an environment variable; null where it is not set, which OpenAI's own server does not allow. */
function readKey(variable: string | null, baseUrl: string, isDryRun: boolean): string | null {
  const key = variable === null ? undefined : process.env[variable]?.trim();
  if (key && !/^[!-~]+$/.test(key)) {
    throw new InputError(`${printable(variable!)} must hold a key of ASCII characters without spaces, found others`);
  }
  if (key) return key;
  if (isDryRun || !isOpenAi(baseUrl)) return null;
  throw new InputError(
    variable === null
      ? `a judge at ${OPENAI_URL} needs a key: name its variable behind the address, as in MODEL@URL#OPENAI_API_KEY`
      : `${printable(variable)} must hold the key for ${OPENAI_URL}, and is not set in the environment; or name another server with --base-url`,
  );
}

/** @throws InputError unless the address is one that may be shown */
function checkUrl(option: string, text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new InputError(`${option} must be an address such as http://127.0.0.1:8000/v1, got "${printable(text)}"`);
  }
  if (url.username !== "" || url.password !== "") {
    throw new InputError(`${option} must hold no user and no password; name the variable of the key instead`);
  }
  return text;
}

export function readLimits(options: ApiOptions): BudgetLimits {
  const { budgetCalls, budgetTokens, budgetUsd } = options;
  const unlimited = Number.POSITIVE_INFINITY;
  return {
    calls: budgetCalls === undefined ? unlimited : parseWholeNumber("--budget-calls", budgetCalls, { least: 0 }),
    tokens: budgetTokens === undefined ? unlimited : parseWholeNumber("--budget-tokens", budgetTokens, { least: 0 }),
    usd: budgetUsd === undefined ? unlimited : parseNumber("--budget-usd", budgetUsd, { least: 0 }),
  };
}

/** The prices given, or known of all servers; null where they are not. @throws InputError where a budget needs them */
export function readPrices(options: ApiOptions, servers: readonly ServerSettings[]): Prices | null {
  const { inputPrice, outputPrice } = options;
  if ((inputPrice === undefined) !== (outputPrice === undefined)) {
    throw new InputError("--input-price and --output-price must be given together");
  }
  if (inputPrice !== undefined && outputPrice !== undefined) {
    return {
      input: parseNumber("--input-price", inputPrice, { least: 0 }),
      output: parseNumber("--output-price", outputPrice, { least: 0 }),
    };
  }
  const known = servers.map(({ baseUrl, model }) => (isOpenAi(baseUrl) ? KNOWN_PRICES[model] : undefined));
  const prices = known.every((price) => price === known[0]) ? (known[0] ?? null) : null;
  if (prices === null && options.budgetUsd !== undefined) {
    throw new InputError("--budget-usd needs the prices of the model: give --input-price and --output-price");
  }
  return prices;
}

/** `MODEL`, asked at --base-url, or `MODEL@URL`, which gets no key but that of `#VARIABLE`: keys do not go astray. */
export function readJudge(text: string, options: ApiOptions): ServerSettings {
  const [, model = text, url, variable = null] = /^(.*)@(https?:\/\/[^#]*)(?:#(.*))?$/.exec(text) ?? [];
  return url === undefined
    ? readServer(model, options)
    : readServer(model, options, { option: "--judge", url, keyVariable: variable });
}
