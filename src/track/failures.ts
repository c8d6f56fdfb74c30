/** What another attempt may mend. */
export class TransientFailure extends Error {
  /** How long the other side asks to wait. */
  readonly waitMs: number | undefined;

  constructor(message: string, waitMs?: number, options?: ErrorOptions) {
    super(message, options);
    this.waitMs = waitMs;
  }
}

/** What the other side will not do, however often it is asked. */
export class RefusedFailure extends Error {
  /** Its status, and what it answered. */
  readonly status: number | undefined;
  readonly answer: string;

  constructor(message: string, status?: number, answer = "") {
    super(message);
    this.status = status;
    this.answer = answer;
  }
}
