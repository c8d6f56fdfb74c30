/**
 * The errors a user can cause or meet, each with the exit code of the command line.
 * Anything else that is thrown is a bug of ours: exit code 1, with a stack trace.
 *
 * A message is one clear sentence: place, what is required, what was found, how to mend it.
 */
export class ExpectedError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.exitCode = exitCode;
  }
}

/** Bad input: config, data or model files. Exit code 2. */
export class InputError extends ExpectedError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, 2, options);
  }
}

/** No usable device, out of memory, or the device was lost. Exit code 3. */
export class DeviceError extends ExpectedError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, 3, options);
  }
}

/** Of a run that would end so again: its own settings are the reason. */
export const NON_FINITE_EXIT_CODE = 4;

/** A loss, gradient or weight is not finite. Training stopped before the update. Exit code 4. */
export class NonFiniteError extends ExpectedError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, NON_FINITE_EXIT_CODE, options);
  }
}

/** The GPU's memory does not suffice. Whoever knows the run says what to change. */
export class OutOfMemoryError extends DeviceError {}

/** A run does not fit the GPU's memory, with what would need less. Another run may well fit. */
export class RunTooLargeError extends DeviceError {}

/** The GPU does not answer any more. What waits for it would wait for ever, so the process is ended, not wound up. */
export class HungDeviceError extends DeviceError {
  constructor(waitedMs: number) {
    super(
      `the GPU has not answered for ${Math.round(waitedMs / 1000)} s, so its queue hangs: look at the system's log (dmesg) for an error of its driver, ` +
        "and run again; if it is only slow, DPO_TRAIN_GPU_WAIT sets another number of seconds",
    );
  }
}
