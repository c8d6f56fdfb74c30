import { OutOfMemoryError, RunTooLargeError } from "../errors.ts";
import { formatSize } from "../text.ts";
import { type ChosenBatch, storedWords } from "./choose-batch.ts";
import { formatRemedies } from "./remedies.ts";

/**
 * What a run ends with: an OutOfMemoryError becomes one that says what had been planned, what would need less, and what the
 * run leaves; every other error stays as it is.
 */
export function withAdvice(
  error: unknown,
  chosen: Pick<ChosenBatch, "choice" | "simulation" | "remedies">,
  left = "",
): unknown {
  if (!(error instanceof OutOfMemoryError)) return error;
  const { maxTokens, stored } = chosen.choice;
  const { found } = chosen.remedies();
  const parts = [
    error.message,
    `planned were ${formatSize(chosen.simulation.peakBytes)}, ${storedWords(stored)} with ${maxTokens} tokens in a GPU batch`,
    found.length > 0 ? formatRemedies(found) : "a larger GPU or a smaller model is needed",
    ...(left ? [left] : []),
  ];
  return new RunTooLargeError(parts.join("; "), { cause: error });
}
