import { createInterface } from "node:readline";
import type { PromptTemplate } from "../config/names.ts";
import type { Message } from "../data/row-columns.ts";
import { InputError } from "../errors.ts";
import type { AnswerRequest, LogitSource } from "../generate/answer.ts";
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
  readonly request: Omit<AnswerRequest, "generator" | "signal" | "promptIds">;
  /** Those who answer, each going on with what it has said itself. Their contexts are of one length. */
  readonly generators: readonly LogitSource[];
  readonly promptTemplate: PromptTemplate;
  readonly interrupt: AnswerInterrupt;
  /** Writes the answer of each generator, and returns their texts. */
  readonly reply: (turns: readonly AnswerRequest[]) => Promise<string[]>;
  readonly terminal: CommandTerminal;
}

const COMMANDS = "/reset begins anew, /exit or Ctrl-D ends, Ctrl-C breaks an answer off";

/**
 * Answers one line of standard input after the other, with what was said before.
 *
 * @throws the signal's reason when it is aborted
 */
export async function chat(options: ChatOptions, signal: AbortSignal): Promise<void> {
  const { request, generators, promptTemplate, interrupt, reply, terminal } = options;
  const { tokenizer, maxNewTokens, sampling } = request;
  const { maxPositions } = generators[0]!;
  const silent: readonly (readonly Message[])[] = generators.map(() => []);
  terminal.line(COMMANDS);
  let conversations = silent;
  let answers = 0;
  for await (const line of questions(signal)) {
    const text = line.trim();
    if (text === "/exit") return;
    if (text === "/reset") conversations = silent;
    else if (/^\/\w*$/.test(text)) terminal.line(COMMANDS);
    if (text === "" || /^\/\w*$/.test(text)) continue;
    const asked = conversations.map((messages) => [...messages, { role: "user", content: text }]);
    const options = { tokenizer, promptTemplate, maxPositions, maxNewTokens };
    const encoded = tryEncode(() => asked.map((messages) => encodeConversation(messages, options)), terminal);
    if (!encoded) continue;
    const mostLeftOut = Math.max(...encoded.map(({ leftOut }) => leftOut));
    if (mostLeftOut > 0) {
      terminal.line(`the first ${mostLeftOut} messages are left out: the context has ${maxPositions} tokens`);
    }
    const turn = {
      ...request,
      sampling: { ...sampling, seed: sampling.seed + answers++ },
      signal: AbortSignal.any([signal, interrupt.begin()]),
    };
    const said = await reply(generators.map((generator, i) => ({ ...turn, generator, promptIds: encoded[i]!.ids })));
    interrupt.end();
    signal.throwIfAborted();
    conversations = asked.map((messages, i) => [
      ...messages.slice(encoded[i]!.leftOut),
      { role: "assistant", content: said[i]! },
    ]);
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
