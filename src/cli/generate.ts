import type { Command } from "commander";
import { loadConfig } from "../config/load.ts";
import { PROMPT_TEMPLATES, type PromptTemplate } from "../config/names.ts";
import { loadTokenizer } from "../data/tokenizer.ts";
import { InputError } from "../errors.ts";
import { type AnswerRequest, type AnswerSummary, completeAnswer, streamAnswer } from "../generate/answer.ts";
import { encodeQuestion, positionsFor } from "../generate/question.ts";
import type { SamplingSettings } from "../generate/sampler.ts";
import { resolveModel } from "../hub/resolve.ts";
import { Generator } from "../model/generator.ts";
import { uploadAdapter } from "../model/lora.ts";
import { openDevice } from "../platform/dawn.ts";
import { type CommandTerminal, createTerminal, type Terminal } from "../terminal.ts";
import { printable, printableLines } from "../text.ts";
import { loadModel } from "../train/load-model.ts";
import { choosePrecision, type PrecisionChoice } from "../train/precision.ts";
import { formatShare } from "../train/progress.ts";
import { readEosTokenIds } from "../weights/generation-config.ts";
import { openModelFolder } from "../weights/model-folder.ts";
import { readPeftAdapter } from "../weights/peft-adapter.ts";
import { AnswerInterrupt, chat } from "./chat.ts";
import { sideBySide } from "./columns.ts";
import { addExamples } from "./examples.ts";
import { namingOption, parseNumber, parsePrecision, parseWholeNumber } from "./option-values.ts";
import { type PromptText, readPrompt } from "./prompt-source.ts";
import { runCommand } from "./run-command.ts";

interface GenerateOptions {
  readonly config?: string;
  readonly model?: string;
  readonly adapter?: string;
  readonly prompt?: string;
  readonly promptFile?: string;
  readonly chat?: boolean;
  readonly compare?: boolean;
  readonly promptTemplate?: string;
  readonly maxNewTokens: string;
  readonly temperature: string;
  readonly topP: string;
  readonly topK: string;
  readonly minP: string;
  readonly seed: string;
  readonly device: string;
  readonly precision: string;
  readonly weightsCache?: boolean;
}

/** `dpo-train generate`: the answer goes to standard output as it comes, everything else to standard error. */
export function addGenerateCommand(program: Command): void {
  const command = program
    .command("generate")
    .summary("answer a prompt with a model, or with its adapter")
    .description("answer a prompt with a model, or with a model and its adapter")
    .option("--model <folder or id>", "model folder, or Hub id as owner/name or owner/name@revision")
    .option("--adapter <folder>", "PEFT adapter to use on it, such as OUTPUT_DIR/adapter; without, the base answers")
    .option("--config <file>", "training config whose model and prompt_template hold unless given here")
    .option("--prompt <text>", "the prompt; without it and --prompt-file, standard input")
    .option("--prompt-file <file>", "file that holds the prompt")
    .option("--chat", "answer each line of standard input with what was said before: /reset, /exit")
    .option("--compare", "show the base's answer beside that of the adapter, also in a chat")
    .option("--prompt-template <name>", `what is put around the prompt: ${PROMPT_TEMPLATES.join(", ")} (default: none)`)
    .option("--max-new-tokens <count>", "longest answer in tokens", "256")
    .option("--temperature <number>", "randomness; 0: always the likeliest token", "0.7")
    .option("--top-p <number>", "draw from the likeliest tokens that together reach this probability", "0.9")
    .option("--top-k <count>", "draw from this many of the likeliest tokens; 0: from all", "0")
    .option("--min-p <number>", "draw from tokens at least this share as likely as the likeliest; 0: from all", "0")
    .option("--seed <number>", "the same seed gives the same answer on the same device", "0")
    .option("--device <name>", "auto, software, or a part of an adapter's name (dpo-train devices)", "auto")
    .option("--precision <path>", "auto, f32, or f16 on tensor cores", "auto")
    .option("--weights-cache", "keep converted weights on disk for the next run, and use what one has kept");
  addExamples(command, [
    'dpo-train generate --model examples/twin-tiny/model --prompt-template alpaca --prompt "What is the main theme?"',
    "dpo-train generate --config configs/twin-tiny.yaml --adapter runs/twin-tiny/adapter --prompt-file question.txt",
    'echo "Who are you?" | dpo-train generate --model meta-llama/Llama-3.2-1B-Instruct --prompt-template chat --min-p 0.1',
    "dpo-train generate --config configs/twin-tiny.yaml --adapter runs/twin-tiny/adapter --chat --compare",
    'dpo-train generate --config configs/twin-tiny.yaml --adapter runs/twin-tiny/adapter --compare --prompt "Hello"',
  ]).action((options: GenerateOptions) => {
    const terminal = createTerminal(process.stderr);
    const interrupt = new AnswerInterrupt();
    return runCommand({ terminal, takesInterrupt: () => interrupt.interrupt() }, async (signal) =>
      answer(await readQuestion(options, signal), interrupt, terminal, signal),
    );
  });
}

/** Tokens of a chat, older ones being left out: their keys and values take 1 GiB of an 8B model. */
const CHAT_POSITIONS = 4096;

/** What the options ask for. */
interface Question {
  readonly model: string;
  readonly modelPlace: string;
  readonly adapter: string | null;
  /** Null for a chat. */
  readonly prompt: PromptText | null;
  readonly promptTemplate: PromptTemplate;
  readonly sampling: SamplingSettings;
  readonly maxNewTokens: number;
  readonly device: string;
  readonly precision: PrecisionChoice;
  readonly weightsCache: boolean;
  /** Whether the base is to answer too. */
  readonly compares: boolean;
}

async function readQuestion(options: GenerateOptions, signal: AbortSignal): Promise<Question> {
  const config = options.config === undefined ? null : loadConfig(options.config).config;
  const model = options.model ?? config?.model;
  if (model === undefined) {
    throw new InputError("a model is needed: give --model FOLDER, --model OWNER/NAME or --config FILE");
  }
  if (options.compare && options.adapter === undefined) {
    throw new InputError("--compare needs --adapter, whose answer is shown beside the base's");
  }
  const promptTemplate = options.promptTemplate ?? config?.prompt_template ?? "none";
  if (!isPromptTemplate(promptTemplate)) {
    const names = PROMPT_TEMPLATES.join(", ");
    throw new InputError(`--prompt-template must be one of ${names}, got "${printable(promptTemplate)}"`);
  }
  return {
    model,
    modelPlace: options.model === undefined ? `${printable(options.config!)}: model` : "--model",
    adapter: options.adapter ?? null,
    promptTemplate,
    sampling: {
      temperature: parseNumber("--temperature", options.temperature, { least: 0 }),
      topP: parseNumber("--top-p", options.topP, { least: 0, most: 1 }),
      topK: parseWholeNumber("--top-k", options.topK, { least: 0 }),
      minP: parseNumber("--min-p", options.minP, { least: 0, most: 1 }),
      seed: parseWholeNumber("--seed", options.seed, { least: 0 }),
    },
    maxNewTokens: parseWholeNumber("--max-new-tokens", options.maxNewTokens, { least: 1 }),
    device: options.device,
    precision: parsePrecision(options.precision),
    weightsCache: options.weightsCache ?? false,
    compares: options.compare ?? false,
    prompt: options.chat ? noPrompt(options) : await readPrompt(options, signal),
  };
}

function noPrompt({ prompt, promptFile }: GenerateOptions): null {
  if (prompt === undefined && promptFile === undefined) return null;
  throw new InputError("--chat reads its messages from standard input: leave --prompt and --prompt-file out");
}

function isPromptTemplate(name: string): name is PromptTemplate {
  return (PROMPT_TEMPLATES as readonly string[]).includes(name);
}

/** Whatever can be refused is refused before the device is opened. */
async function answer(
  question: Question,
  interrupt: AnswerInterrupt,
  terminal: CommandTerminal,
  signal: AbortSignal,
): Promise<void> {
  const { prompt, promptTemplate, sampling, maxNewTokens } = question;
  const name = printable(question.model);
  const { folder } = await resolveModel(question.model, {
    place: question.modelPlace,
    signal,
    onNotice: terminal.line,
    onProgress: ({ doneBytes, totalBytes }) =>
      terminal.status(`fetching ${name}: ${formatShare(doneBytes, totalBytes)}`),
  });
  const modelFolder = await openModelFolder(folder);
  try {
    const { config } = modelFolder;
    const tokenizer = await loadTokenizer(folder);
    const stopIds = new Set([...(await readEosTokenIds(folder, config)), tokenizer.eos.id]);
    const promptIds = prompt && encodeQuestion(prompt.text, { tokenizer, config, promptTemplate, place: prompt.place });
    if (!promptIds && promptTemplate === "chat" && !tokenizer.chatTemplate) {
      throw new InputError(`${name}: --prompt-template chat needs a model with a chat template, and this one has none`);
    }
    const adapter =
      question.adapter === null ? null : await namingOption("--adapter", readPeftAdapter(question.adapter, config));

    const opened = await openDevice({ device: question.device });
    const { gpu, adapter: device, notice, close } = opened;
    try {
      if (notice !== null) terminal.line(`dpo-train: ${notice}`);
      const { weights } = await loadModel(
        gpu,
        modelFolder,
        {
          precision: choosePrecision(question.precision, opened),
          weightsCache: question.weightsCache,
          in4Bit: false,
        },
        {},
        terminal,
        signal,
      );
      const maxPositions = promptIds
        ? positionsFor(promptIds.length, maxNewTokens, config)
        : Math.min(CHAT_POSITIONS, config.maxPositionEmbeddings);
      const loraBuffers = adapter && uploadAdapter(gpu, config, adapter);
      const generators = (question.compares ? [null, loraBuffers] : [loraBuffers]).map(
        (adapter) => new Generator({ gpu, weights, adapter, maxPositions }),
      );
      await gpu.pipelines.ready();
      const contextBytes = generators.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
      terminal.line(
        `${name} on ${device.name}: ${mebibytes(gpu.memory.liveBytes)}, of which ` +
          `${mebibytes(contextBytes)} for ${generators.length > 1 ? "two contexts" : "a context"} of ${tokens(maxPositions)}`,
      );
      const request = { tokenizer, sampling, stopIds, maxNewTokens };
      const endsLine = promptIds === null || process.stdout.isTTY;
      const reply = async (turns: readonly AnswerRequest[]) =>
        turns.length > 1
          ? compare(turns, question.adapter!, terminal)
          : [await print(turns[0]!, terminal, { endsLine })];
      if (promptIds) {
        await reply(generators.map((generator) => ({ ...request, generator, promptIds, signal })));
        signal.throwIfAborted();
      } else {
        await chat({ request, generators, promptTemplate, interrupt, reply, terminal }, signal);
      }
    } finally {
      close();
    }
  } finally {
    await modelFolder.close();
  }
}

/** Narrower columns are hard to read. */
const LEAST_COLUMNS = 80;

/**
 * Prints the base's answer and that of the adapter: beside each other on a terminal that is wide enough, else one behind
 * the other. Returns their texts.
 */
async function compare(turns: readonly AnswerRequest[], adapter: string, terminal: Terminal): Promise<string[]> {
  const headings = ["base", `with ${printable(adapter, 1000)}`] as const;
  const { isTTY, columns = 0 } = process.stdout;
  const answers: string[] = [];
  if (!isTTY || columns < LEAST_COLUMNS) {
    for (const [i, request] of turns.entries()) {
      process.stdout.write(`${i > 0 ? "\n" : ""}${headings[i]}:\n`);
      answers.push(await print(request, terminal, { endsLine: true }));
    }
    return answers;
  }
  for (const [i, request] of turns.entries()) {
    terminal.status(`${headings[i]} answers`);
    const { text, summary } = await completeAnswer(request);
    terminal.line(`${headings[i]}: ${describe(summary)}`);
    answers.push(text);
  }
  const [base, trained] = answers.map(printableLines);
  const lines = sideBySide(["base", base!], ["with the adapter", trained!], columns - 1);
  process.stdout.write(`${lines.join("\n")}\n`);
  return answers;
}

/** Streams the answer to standard output. Returns its text. */
async function print(
  request: AnswerRequest,
  terminal: Terminal,
  { endsLine }: { readonly endsLine: boolean },
): Promise<string> {
  const output = process.stdout;
  const unreadable = new AbortController();
  const onError = () => unreadable.abort();
  output.once("error", onError);
  const signals = [unreadable.signal, ...(request.signal ? [request.signal] : [])];
  const stream = streamAnswer({ ...request, signal: AbortSignal.any(signals) });
  let text = "";
  let next = await stream.next();
  for (; !next.done; next = await stream.next()) {
    output.write(output.isTTY ? printableLines(next.value) : next.value);
    text += next.value;
  }
  if (endsLine && text !== "" && !text.endsWith("\n")) output.write("\n");
  terminal.line(describe(next.value));
  output.off("error", onError);
  return text;
}

const ENDS: Record<AnswerSummary["end"], string> = {
  stop_token: "ended by the model",
  max_new_tokens: "cut at --max-new-tokens",
  context: "cut at the end of the model's context",
  aborted: "broken off",
};

function describe({ promptTokens, promptMs, newTokens, tokensPerSecond, end }: AnswerSummary): string {
  const speed = tokensPerSecond === null ? "" : ` at ${tokensPerSecond.toFixed(1)} tokens/s`;
  return `${tokens(newTokens)}${speed}, ${ENDS[end]}; prompt of ${tokens(promptTokens)} in ${(promptMs / 1000).toFixed(2)} s`;
}

function tokens(count: number): string {
  return count === 1 ? "1 token" : `${count} tokens`;
}

function mebibytes(sizeBytes: number): string {
  return `${(sizeBytes / 2 ** 20).toFixed(1)} MiB`;
}
