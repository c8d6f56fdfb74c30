import type { Readable } from "node:stream";
import { InputError } from "../errors.ts";
import { readTextFile } from "../weights/regular-file.ts";
import { decodeUtf8 } from "../weights/strict-json.ts";
import { namingOption } from "./option-values.ts";

/** Far above any model's context. */
const MAX_PROMPT_BYTES = 16 * 2 ** 20;

export interface PromptText {
  readonly text: string;
  /** Where it comes from, as messages begin. */
  readonly place: string;
}

/**
 * The prompt: `--prompt`, else the text of `--prompt-file`, else of standard input, the last two without the line end with
 * which files end.
 *
 * @throws InputError when there is none, more than one, or no UTF-8 text; the signal's reason when it is aborted
 */
export async function readPrompt(
  options: { prompt?: string | undefined; promptFile?: string | undefined },
  signal: AbortSignal,
  stdin: Readable & { readonly isTTY?: boolean } = process.stdin,
): Promise<PromptText> {
  const { prompt, promptFile } = options;
  if (prompt !== undefined && promptFile !== undefined) {
    throw new InputError("--prompt and --prompt-file must not both be given; leave one out");
  }
  if (prompt !== undefined) return { text: prompt, place: "--prompt" };
  if (promptFile !== undefined) {
    const place = "--prompt-file";
    return { text: fileText(await namingOption(place, readTextFile(promptFile, MAX_PROMPT_BYTES)), place), place };
  }
  if (stdin.isTTY) {
    throw new InputError(
      "a prompt is needed: give --prompt TEXT or --prompt-file FILE, or pipe it into standard input",
    );
  }
  const place = "standard input";
  const stop = () => void stdin.destroy(signal.reason);
  signal.addEventListener("abort", stop);
  try {
    return { text: fileText(await readAll(stdin, place), place), place };
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

function fileText(text: string, place: string): string {
  const withoutLineEnd = text.replace(/\r?\n$/, "");
  if (withoutLineEnd === "") throw new InputError(`${place}: must hold the prompt, found nothing`);
  return withoutLineEnd;
}

async function readAll(stream: Readable, place: string): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_PROMPT_BYTES) {
      throw new InputError(`${place}: a prompt must have at most ${MAX_PROMPT_BYTES} bytes, found more`);
    }
    chunks.push(chunk);
  }
  return decodeUtf8(Buffer.concat(chunks), place);
}
