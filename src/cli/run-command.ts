import { ExpectedError } from "../errors.ts";

/**
 * Runs a command and ends the process with its exit code: 0 done, 2 bad input, 3 device, 4 not finite, 1 a bug of ours.
 * An expected error is one message without a stack trace; anything else is a bug and shows where it happened.
 * The only place that ends the process.
 */
export async function runCommand(command: () => Promise<void>): Promise<void> {
  try {
    await command();
    process.exitCode = 0;
  } catch (error) {
    if (error instanceof ExpectedError) {
      process.stderr.write(`dpo-train: ${error.message}\n`);
      process.exitCode = error.exitCode;
    } else {
      const trace = error instanceof Error ? (error.stack ?? error.message) : String(error);
      process.stderr.write(`dpo-train: this is a bug of dpo-train, please report it:\n${trace}\n`);
      process.exitCode = 1;
    }
  }
}
