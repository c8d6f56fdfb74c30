import { Environment, Interpreter, Template } from "@huggingface/jinja";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import type { Message } from "./row-columns.ts";

/** A model's chat template, ready to write conversations as text. */
export interface ChatTemplate {
  /**
   * The conversation as transformers' `apply_chat_template` writes it.
   *
   * @param addGenerationPrompt end with the header of the assistant's next message
   * @throws Error with the template's own words when it refuses the conversation
   */
  render(messages: readonly Message[], addGenerationPrompt: boolean): string;
}

/**
 * @param specialTokens what the template may refer to: `bos_token`, `eos_token` and so on
 * @param place the file that the template comes from
 * @throws InputError when the template is not valid Jinja
 */
export function compileChatTemplate(text: string, specialTokens: Record<string, string>, place: string): ChatTemplate {
  let template: Template;
  try {
    template = new Template(text);
  } catch (cause) {
    const reason = printable((cause as Error).message);
    throw new InputError(`${printable(place)}: the chat template cannot be read: ${reason}`, { cause });
  }
  return {
    render(messages, addGenerationPrompt): string {
      const standIns = whitespaceStandIns([text, ...messages.map(({ content }) => content)]);
      const environment = new Environment();
      const variables = {
        ...GLOBALS,
        ...specialTokens,
        messages: messages.map((message) => ({ ...message, content: replaceAll(message.content, standIns) })),
        tools: null,
        documents: null,
        add_generation_prompt: addGenerationPrompt,
      };
      for (const [name, value] of Object.entries(variables)) environment.set(name, value);
      const rendered = String(new Interpreter(environment).run(template.parsed).value);
      return replaceAll(rendered, new Map([...standIns].map(([original, standIn]) => [standIn, original])));
    },
  };
}

/** What transformers offers to every template. The library's own set writes dates in the machine's language. */
const GLOBALS = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  raise_exception: (message: string): never => {
    throw new Error(message);
  },
  range: (start: number, end?: number, step = 1): number[] => {
    const [from, to] = end === undefined ? [0, start] : [start, end];
    return Array.from({ length: Math.max(0, Math.ceil((to - from) / step)) }, (_, i) => from + i * step);
  },
  strftime_now: (format: string): string => formatDate(new Date(), format),
};

// Templates trim messages. JavaScript's trim() takes a byte order mark for white space and not these separators; Python's
// strip(), which the model was trained with, has it the other way round. While a template runs, such a character is
// replaced by one that trim() treats as strip() treats the original.
const SPACE_IN_PYTHON_ONLY = ["\u001c", "\u001d", "\u001e", "\u001f", "\u0085"];
const SPACE_IN_JAVASCRIPT_ONLY = ["\ufeff"];
const SPACES_IN_BOTH = "\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000";
const NOT_SPACE_IN_EITHER = "\ufdd0\ufdd1\ufdd2\ufdd3";

/** For each such character in the texts, a stand-in that is in none of them. */
function whitespaceStandIns(texts: readonly string[]): Map<string, string> {
  const isUsed = (character: string): boolean => texts.some((text) => text.includes(character));
  const standIns = new Map<string, string>();
  for (const [originals, candidates] of [
    [SPACE_IN_PYTHON_ONLY, SPACES_IN_BOTH],
    [SPACE_IN_JAVASCRIPT_ONLY, NOT_SPACE_IN_EITHER],
  ] as const) {
    const free = [...candidates].filter((candidate) => !isUsed(candidate));
    for (const original of originals.filter(isUsed)) {
      const standIn = free.shift();
      if (standIn === undefined) throw new Error("the message holds too many kinds of white space");
      standIns.set(original, standIn);
    }
  }
  return standIns;
}

function replaceAll(text: string, replacements: ReadonlyMap<string, string>): string {
  let replaced = text;
  for (const [from, to] of replacements) replaced = replaced.replaceAll(from, to);
  return replaced;
}

/** Python's `datetime.strftime` in the C locale, for the directives that chat templates use. */
function formatDate(date: Date, format: string): string {
  const part = (options: Intl.DateTimeFormatOptions): string => date.toLocaleDateString("en-US", options);
  const twoDigits = (value: number): string => String(value).padStart(2, "0");
  return format.replace(/%(.)/g, (directive, letter: string) => {
    switch (letter) {
      case "Y":
        return String(date.getFullYear());
      case "m":
        return twoDigits(date.getMonth() + 1);
      case "d":
        return twoDigits(date.getDate());
      case "H":
        return twoDigits(date.getHours());
      case "M":
        return twoDigits(date.getMinutes());
      case "S":
        return twoDigits(date.getSeconds());
      case "b":
        return part({ month: "short" });
      case "B":
        return part({ month: "long" });
      case "a":
        return part({ weekday: "short" });
      case "A":
        return part({ weekday: "long" });
      case "%":
        return "%";
      default:
        throw new Error(`the date format ${directive} is not supported`);
    }
  });
}
