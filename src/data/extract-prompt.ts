import { isDeepStrictEqual } from "node:util";

/** The three parts of a preference pair. */
export interface Triple<T> {
  prompt: T;
  chosen: T;
  rejected: T;
}

/**
 * Splits two texts without a prompt as TRL's `extract_prompt` does: the prompt is what they start with alike, by code
 * points, less one space before the first difference. Where one text is the start of the other, the shorter one keeps its
 * last character. Texts that share no start have an empty prompt, also where chosen ends with a space: there TRL's index
 * of −1 would cut both answers to their last character.
 *
 * @param chosen not empty
 * @param rejected not empty
 */
export function splitSharedText(chosen: string, rejected: string): Triple<string> {
  const chosenPoints = Array.from(chosen);
  const rejectedPoints = Array.from(rejected);
  let end = sharedLength(chosenPoints, rejectedPoints, (a, b) => a === b);
  const differ = chosenPoints[end] !== rejectedPoints[end];
  if (differ && chosenPoints[end - 1] === " ") end--;
  return {
    prompt: chosenPoints.slice(0, end).join(""),
    chosen: chosenPoints.slice(end).join(""),
    rejected: rejectedPoints.slice(end).join(""),
  };
}

/** Splits two conversations without a prompt as TRL's `extract_prompt` does: the prompt is the messages they share. */
export function splitSharedMessages<T>(chosen: readonly T[], rejected: readonly T[]): Triple<T[]> {
  const end = sharedLength(chosen, rejected, isDeepStrictEqual);
  return { prompt: chosen.slice(0, end), chosen: chosen.slice(end), rejected: rejected.slice(end) };
}

/** Whether a conversation starts with these messages. */
export function startsWithMessages<T>(conversation: readonly T[], start: readonly T[]): boolean {
  return (
    start.length <= conversation.length && start.every((message, i) => isDeepStrictEqual(message, conversation[i]))
  );
}

/** Elements that both start with; one less than the shorter has when it is the start of the longer. */
function sharedLength<T>(a: readonly T[], b: readonly T[], isSame: (x: T, y: T) => boolean): number {
  const last = Math.min(a.length, b.length) - 1;
  let length = 0;
  while (length < last && isSame(a[length]!, b[length]!)) length++;
  return length;
}
