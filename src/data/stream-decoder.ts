const REPLACEMENT_CHARACTER = "\ufffd";

/** Turns tokens into text as they are generated. */
export interface StreamDecoder {
  /** The text that this token completes. Bytes of a character that is not complete yet are held back. */
  push(id: number): string;
  /** What is still held back: U+FFFD where generation ended inside a character. */
  end(): string;
}

/** @param decode the text of a list of tokens, in which an incomplete character at the end appears as U+FFFD */
export function createStreamDecoder(decode: (ids: readonly number[]) => string): StreamDecoder {
  // One complete token stays in front: some decoders treat the space before the first token specially.
  let window: number[] = [];
  let emittedLength = 0;
  return {
    push(id): string {
      window.push(id);
      const text = decode(window);
      const isComplete = !text.endsWith(REPLACEMENT_CHARACTER);
      const stable = isComplete ? text : text.slice(0, -1);
      const fresh = stable.slice(emittedLength);
      if (isComplete) {
        window = [id];
        emittedLength = decode(window).length;
      } else {
        emittedLength += fresh.length;
      }
      return fresh;
    },
    end(): string {
      const rest = decode(window).slice(emittedLength);
      window = [];
      emittedLength = 0;
      return rest;
    },
  };
}
