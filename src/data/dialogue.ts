import { splitSharedMessages, type Triple } from "./extract-prompt.ts";
import type { Message } from "./row-columns.ts";

/** How the texts of HH-RLHF mark turns. */
const TURN = /\n\n(Human|Assistant): ?/;
const FIRST_TURN = /^\s*Human: ?/;

/**
 * The turns of a text of HH-RLHF's kind (`\n\nHuman: …\n\nAssistant: …`), or undefined for any other text.
 */
function parseDialogue(text: string): Message[] | undefined {
  if (!FIRST_TURN.test(text)) return undefined;
  const [, ...parts] = `\n\n${text.trimStart()}`.split(TURN);
  const messages: Message[] = [];
  for (let i = 0; i + 1 < parts.length; i += 2) {
    messages.push({ role: parts[i] === "Human" ? "user" : "assistant", content: parts[i + 1]! });
  }
  return messages.length >= 2 && messages.at(-1)?.role === "assistant" ? messages : undefined;
}

/**
 * Two such texts as conversations: the prompt is the turns that they share, as in TRL's own conversion of the data set
 * (examples/datasets/hh-rlhf-helpful-base.py). Undefined where the texts are of another kind, or share no turn.
 */
export function splitDialogues(chosen: string, rejected: string): Triple<Message[]> | undefined {
  const [chosenTurns, rejectedTurns] = [parseDialogue(chosen), parseDialogue(rejected)];
  if (!chosenTurns || !rejectedTurns) return undefined;
  const parts = splitSharedMessages(chosenTurns, rejectedTurns);
  return parts.prompt.length > 0 ? parts : undefined;
}
