import { createInterface } from "node:readline";
import type { PromptTemplate } from "../config/names.ts";
import type { Message } from "../data/row-columns.ts";
import { InputError } from "../errors.ts";
import type { AnswerRequest } from "../generate/answer.ts";
import { encodeConversation } from "../generate/conversation.ts";
import type { CommandTerminal } from "../terminal.ts";

/** What Ctrl-C ends first: the answer at hand. */
export class AnswerInterrupt {
  #answer: AbortController | null = null;

  /** Begins an answer, and gives its signal. */
  begin(): AbortSignal {
    this.#answer = new AbortController();
    return this.#answer.signal;
  }

  end(): void {
    this.#answer = null;
  }

  /** Ends the answer at hand. False where there is none, or it has been told already. */
  interrupt(): boolean {
    if (!this.#answer || this.#answer.signal.aborted) return false;
    this.#answer.abort();
    return true;
  }
}

export interface ChatOptions {
  readonly request: Omit<AnswerRequest, "signal" | "promptIds">;
  readonly promptTemplate: PromptTemplate;
  readonly interrupt: AnswerInterrupt;
  /** Writes an answer as it comes, and returns its text. */
  readonly print: (request: AnswerRequest) => Promise<string>;
  readonly terminal: CommandTerminal;
}

const COMMANDS = "/reset begins anew, /exit or Ctrl-D ends, Ctrl-C breaks an answer off";

/**
 * Answers one line of standard input after the other, with what was said before.
 *
 * @throws the signal's reason when it is aborted
 */
export async function chat(options: ChatOptions, signal: AbortSignal): Promise<void> {
  const { request, promptTemplate, interrupt, print, terminal } = options;
  const { tokenizer, generator, maxNewTokens, sampling } = request;
  const { maxPositions } = generator;
  terminal.line(COMMANDS);
  let messages: readonly Message[] = [];
  let answers = 0;
  for await (const line of questions(signal)) {
    const text = line.trim();
    if (text === "/exit") return;
    if (text === "/reset") messages = [];
    else if (/^\/\w*$/.test(text)) terminal.line(COMMANDS);
    if (text === "" || /^\/\w*$/.test(text)) continue;
    const asked = [...messages, { role: "user", content: text }];
    const options = { tokenizer, promptTemplate, maxPositions, maxNewTokens };
    const encoded = tryEncode(() => encodeConversation(asked, options), terminal);
    if (!encoded) continue;
    if (encoded.leftOut > 0) {
      terminal.line(`the first ${encoded.leftOut} messages are left out: the context has ${maxPositions} tokens`);
    }
    const answer = await print({
      ...request,
      promptIds: encoded.ids,
      sampling: { ...sampling, seed: sampling.seed + answers++ },
      signal: AbortSignal.any([signal, interrupt.begin()]),
    });
    interrupt.end();
    signal.throwIfAborted();
    messages = [...asked.slice(encoded.leftOut), { role: "assistant", content: answer }];
  }
  signal.throwIfAborted();
}

/** What is wrong with a message is told, and the next one awaited. */
function tryEncode<T>(encode: () => T, terminal: CommandTerminal): T | null {
  try {
    return encode();
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    terminal.line(error.message);
    return null;
  }
}

/** The lines of standard input, with editing and a history on a terminal. */
async function* questions(signal: AbortSignal): AsyncGenerator<string, void, void> {
  const input = process.stdin;
  if (!input.isTTY) {
    const lines = createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY });
    const close = () => lines.close();
    signal.addEventListener("abort", close);
    yield* lines;
    signal.removeEventListener("abort", close);
    return;
  }
  let history: string[] = [];
  while (!signal.aborted) {
    // One for each question: while the model answers, Ctrl-C is the terminal's own again.
    const line = await new Promise<string | null>((resolve) => {
      const reader = createInterface({ input, output: process.stderr, history, prompt: "> " });
      const close = () => reader.close();
      signal.addEventListener("abort", close);
      reader.on("history", (lines) => {
        history = [...lines];
      });
      reader.on("SIGINT", () => process.kill(process.pid, "SIGINT"));
      reader.once("close", () => {
        signal.removeEventListener("abort", close);
        resolve(null);
      });
      reader.once("line", (text) => {
        resolve(text);
        reader.close();
      });
      reader.prompt();
    });
    if (line === null) return;
    yield line;
  }
}
