import { ExpectedError, HungDeviceError } from "../errors.ts";
import type { CommandTerminal } from "../terminal.ts";
import { printableLines } from "../text.ts";

/** Exit codes that a shell gives to what these signals end. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

export interface RunCommandOptions {
  /** Where the command shows its progress, which an error must not be written into. */
  readonly terminal: CommandTerminal;
  /** What to say when a signal ends the command, unless the command says more itself. */
  readonly whenInterrupted?: string;
  /** Asked at SIGINT: true where that has ended something else than the command. */
  readonly takesInterrupt?: () => boolean;
}

/**
 * Runs a command and sets the exit code of the process: 0 done, 2 bad input, 3 device, 4 not finite, 130 and 143
 * interrupted, 1 a bug of ours. An expected error is one message without a stack trace; anything else is a bug and shows
 * where it happened.
 *
 * @param command given a signal that Ctrl-C (SIGINT) or SIGTERM aborts, with the error to throw then as its reason; a
 *   second of them ends the process at once
 */
export async function runCommand(
  { terminal, whenInterrupted = "interrupted", takesInterrupt = () => false }: RunCommandOptions,
  command: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  try {
    await interruptible(command, whenInterrupted, terminal, takesInterrupt);
    process.exitCode = 0;
  } catch (error) {
    terminal.clear();
    process.exitCode = reportError(error);
    // What still waits for the GPU would keep the process for ever.
    if (isHung(error)) process.exit();
  }
}

function isHung(error: unknown): boolean {
  return (
    error instanceof HungDeviceError || (error instanceof Error && error.cause !== undefined && isHung(error.cause))
  );
}

/** Says on standard error what went wrong. Returns the exit code. */
export function reportError(error: unknown): number {
  if (error instanceof ExpectedError) {
    process.stderr.write(`dpo-train: ${printableLines(error.message)}\n`);
    return error.exitCode;
  }
  const trace = error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stderr.write(`dpo-train: this is a bug of dpo-train, please report it:\n${printableLines(trace)}\n`);
  return 1;
}

async function interruptible(
  command: (signal: AbortSignal) => Promise<void>,
  message: string,
  terminal: CommandTerminal,
  takesInterrupt: () => boolean,
): Promise<void> {
  const controller = new AbortController();
  const stopListening = () => process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  const onSignal = (signal: keyof typeof SIGNALS) => {
    if (signal === "SIGINT" && takesInterrupt()) return;
    stopListening(); // So that the next one does what it does to any process.
    terminal.line(`${signal}: stopping after the work at hand; a second one stops at once`);
    controller.abort(new ExpectedError(message, SIGNALS[signal]));
  };
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  try {
    await command(controller.signal);
  } finally {
    stopListening();
  }
}
