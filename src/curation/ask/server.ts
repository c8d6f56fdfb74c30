import type OpenAI from "openai";
import { z } from "zod";
import { printable } from "../../text.ts";
import { estimateTokens } from "./budget.ts";
import type { Usage } from "./journal.ts";

/** An OpenAI-compatible server, and a model of it. */
export interface ServerSettings {
  /** Such as `https://api.openai.com/v1`. */
  readonly baseUrl: string;
  readonly model: string;
  /** Null for a server that asks for none. */
  readonly apiKey: string | null;
  /** A call that takes longer has failed. */
  readonly timeoutMs: number;
}

export interface ChatMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

export interface ChatRequest {
  readonly messages: readonly ChatMessage[];
  readonly temperature: number;
  /** Longest answer in tokens. */
  readonly maxTokens: number;
  /** What the answer must look like; null for text. */
  readonly schema: AnswerSchema | null;
}

export interface AnswerSchema {
  readonly name: string;
  readonly schema: z.ZodType;
}

export interface ServerResponse {
  readonly kind: "response";
  readonly content: string;
  readonly refusal: string | null;
  readonly finishReason: string | null;
  readonly usage: Usage;
}

export interface ServerFailure {
  readonly kind: "failure";
  /** Of HTTP; null where no answer came, or not all of it. */
  readonly status: number | null;
  readonly reason: string;
  /**
   * `later`: it may go well when asked again. `never`: this request will not. `adapted`: the server did not know a
   * parameter, which is written otherwise from now on. `nothing`: no request to this server will.
   */
  readonly retry: "later" | "never" | "adapted" | "nothing";
  /** What the server says to wait. */
  readonly retryAfterMs: number | null;
  /** Whether the server may have answered, and count it. */
  readonly mayBeBilled: boolean;
}

export interface ChatServer extends ServerSettings {
  /** The model's name as it may be shown. */
  readonly shownModel: string;
  /** One call, never repeated here. Throws nothing. */
  ask(request: ChatRequest): Promise<ServerResponse | ServerFailure>;
}

/** From strict to loose: not every compatible server honours `json_schema`, or knows `json_object`. */
const FORMATS = ["json_schema", "json_object", "text"] as const;
/** Far above the longest answer. */
const MAX_RESPONSE_BYTES = 16 * 2 ** 20;
const MAX_REASON_LENGTH = 500;
/** Shorter keys are placeholders such as "none"; taking them out of every text would damage texts. */
const MIN_SECRET_LENGTH = 8;

const COMPLETION = z.object({
  choices: z
    .array(
      z.object({
        finish_reason: z.string().nullish(),
        message: z.object({ content: z.string().nullish(), refusal: z.string().nullish() }),
      }),
    )
    .min(1),
  usage: z
    .object({ prompt_tokens: z.number().int().nonnegative(), completion_tokens: z.number().int().nonnegative() })
    .nullish()
    .catch(null),
});

export function createServer(settings: ServerSettings): ChatServer {
  const { model, apiKey, timeoutMs } = settings;
  let connected: Promise<Connection> | undefined;
  const withoutKey = (text: string) =>
    apiKey === null || apiKey.length < MIN_SECRET_LENGTH ? text : text.replaceAll(apiKey, "[key]");
  /** What this server has been found to understand. */
  const dialect = { format: 0, isFormatSure: false, lengthKey: "max_tokens" as "max_tokens" | "max_completion_tokens" };

  return {
    ...settings,
    shownModel: printable(model, 80),
    async ask(request) {
      const format = request.schema === null ? null : FORMATS[dialect.format]!;
      const lengthKey = dialect.lengthKey;
      connected ??= connect(settings);
      const { client, APIError } = await connected;
      const timeout = AbortSignal.timeout(timeoutMs);
      let status: number | null = null;
      try {
        const response = await client.chat.completions
          .create(
            {
              model,
              messages: request.messages.map((message) => ({ ...message })),
              temperature: request.temperature,
              [lengthKey]: request.maxTokens,
              ...responseFormat(format, request.schema),
            },
            { signal: timeout },
          )
          .asResponse();
        status = response.status;
        const body = await readBody(response);
        const completion = parseCompletion(body);
        if (completion === null) {
          const found = printable(withoutKey(body), 200);
          return failure(status, `the answer is not a chat completion: ${found}`, { mayBeBilled: true });
        }
        dialect.isFormatSure = true;
        return toResponse(completion, request, withoutKey);
      } catch (error) {
        if (timeout.aborted) {
          return failure(status, `no answer within ${timeoutMs / 1000} s`, { mayBeBilled: true });
        }
        if (!(error instanceof APIError) || error.status === undefined) {
          return failure(status, `the connection failed: ${withoutKey(causeOf(error))}`, { mayBeBilled: true });
        }
        const reason = withoutKey(`HTTP ${error.status}: ${messageOf(error)}`);
        if (error.status === 400 || error.status === 422) {
          return failure(error.status, reason, { retry: adapt(reason, format, lengthKey) });
        }
        return failure(error.status, reason, {
          retry: retryOf(error.status, error.code),
          retryAfterMs: readRetryAfter(error.headers),
        });
      }
    },
  };

  /** Writes what the server may not have understood otherwise, unless calls side by side have done so already. */
  function adapt(reason: string, format: (typeof FORMATS)[number] | null, lengthKey: string): ServerFailure["retry"] {
    if (lengthKey === "max_tokens" && /max_completion_tokens/.test(reason)) {
      dialect.lengthKey = "max_completion_tokens";
      return "adapted";
    }
    if (format === null) return "never";
    if (format !== FORMATS[dialect.format]) return "adapted";
    if (dialect.isFormatSure || dialect.format === FORMATS.length - 1) return "never";
    dialect.format++;
    return "adapted";
  }
}

interface Connection {
  readonly client: OpenAI;
  readonly APIError: typeof OpenAI.APIError;
}

/** The package is loaded at the first call: it takes longer than most commands, which need none. */
async function connect({ baseUrl, apiKey, timeoutMs }: ServerSettings): Promise<Connection> {
  const { default: OpenAI } = await import("openai");
  const client = new OpenAI({
    baseURL: baseUrl,
    apiKey: apiKey ?? "none",
    // What the environment says of OpenAI's own service is not for other servers, and its log would show requests.
    adminAPIKey: null,
    ...(isOpenAi(baseUrl) ? {} : { organization: null, project: null }),
    ...(apiKey === null ? { defaultHeaders: { Authorization: null } } : {}),
    logLevel: "off",
    maxRetries: 0,
    // Ours, which covers the whole answer, ends a call before.
    timeout: 2 * timeoutMs,
  });
  return { client, APIError: OpenAI.APIError };
}

/** The address as it may be shown: without a query, which may hold a key. */
export function shownUrl(baseUrl: string): string {
  const { origin, pathname } = new URL(baseUrl);
  return printable(`${origin}${pathname.replace(/\/$/, "")}`);
}

export function isOpenAi(baseUrl: string): boolean {
  return new URL(baseUrl).hostname === "api.openai.com";
}

function responseFormat(format: (typeof FORMATS)[number] | null, schema: AnswerSchema | null) {
  if (schema === null || format === null || format === "text") return {};
  if (format === "json_object") return { response_format: { type: format } };
  const { $schema: _, ...definition } = z.toJSONSchema(schema.schema) as Record<string, unknown>;
  return { response_format: { type: format, json_schema: { name: schema.name, strict: true, schema: definition } } };
}

function failure(
  status: number | null,
  reason: string,
  more: Partial<Pick<ServerFailure, "retry" | "retryAfterMs" | "mayBeBilled">> = {},
): ServerFailure {
  return {
    kind: "failure",
    status,
    reason: printable(reason, MAX_REASON_LENGTH),
    retry: "later",
    retryAfterMs: null,
    mayBeBilled: false,
    ...more,
  };
}

function retryOf(status: number, code: string | null | undefined): ServerFailure["retry"] {
  // A wrong key, no access, no such model or address, and an empty account are the same for every call.
  if (status === 401 || status === 403 || status === 404 || code === "insufficient_quota") return "nothing";
  if (status === 402) return "nothing";
  return status === 408 || status === 409 || status === 429 || status >= 500 ? "later" : "never";
}

/** `retry-after-ms`, or `Retry-After` in seconds or as a date. */
function readRetryAfter(headers: Headers | undefined): number | null {
  const milliseconds = headers?.get("retry-after-ms");
  const text = headers?.get("retry-after");
  const waitMs = milliseconds ? Number(milliseconds) : !text ? Number.NaN : parseRetryAfter(text);
  return Number.isFinite(waitMs) && waitMs >= 0 ? waitMs : null;
}

function parseRetryAfter(text: string): number {
  return /^\s*\d+(\.\d+)?\s*$/.test(text) ? Number(text) * 1000 : Math.max(0, Date.parse(text) - Date.now());
}

async function readBody(response: globalThis.Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_RESPONSE_BYTES) throw new Error(`the answer is longer than ${MAX_RESPONSE_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parseCompletion(body: string): z.infer<typeof COMPLETION> | null {
  try {
    return COMPLETION.safeParse(JSON.parse(body)).data ?? null;
  } catch {
    return null;
  }
}

function toResponse(
  { choices, usage }: z.infer<typeof COMPLETION>,
  request: ChatRequest,
  withoutKey: (text: string) => string,
): ServerResponse {
  const { message, finish_reason: finishReason } = choices[0]!;
  const content = withoutKey(message.content ?? "");
  return {
    kind: "response",
    content,
    refusal: message.refusal ? withoutKey(message.refusal) : null,
    finishReason: finishReason ? withoutKey(finishReason) : null,
    usage: usage
      ? { promptTokens: usage.prompt_tokens, completionTokens: usage.completion_tokens, isEstimated: false }
      : {
          promptTokens: estimateTokens(request.messages.map((message) => message.content).join("\n")),
          completionTokens: estimateTokens(content),
          isEstimated: true,
        },
  };
}

/** The server's own words. */
function messageOf(error: InstanceType<Connection["APIError"]>): string {
  const body = error.error as { message?: unknown } | undefined;
  return typeof body?.message === "string" ? body.message : error.message.replace(/^\d+ /, "");
}

/** The innermost cause: fetch's own messages say nothing. */
function causeOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return causeOf(error.errors[0]);
  if (error instanceof Error && error.cause !== undefined) return causeOf(error.cause);
  return error instanceof Error ? error.message : String(error);
}
