/**
 * Which variant of a kernel to run where there are several, by a name for the case. What has been measured on the device is
 * put in by a tuner; for the rest the caller's own guess holds. Variants differ in speed alone.
 */
export class Decisions {
  readonly #made = new Map<string, number>();
  readonly #asked = new Set<string>();

  /** The variant for this case: what was decided, or else the guess. */
  variantOf(name: string, guess: number): number {
    this.#asked.add(name);
    return this.#made.get(name) ?? guess;
  }

  decide(name: string, variant: number): void {
    this.#made.set(name, variant);
  }

  /** The cases that were asked for and are not decided, in the order of asking. */
  get open(): string[] {
    return [...this.#asked].filter((name) => !this.#made.has(name));
  }

  /** What was decided of the cases that were asked for, in the order of asking. */
  get used(): ReadonlyMap<string, number> {
    return new Map([...this.#asked].flatMap((name) => (this.#made.has(name) ? [[name, this.#made.get(name)!]] : [])));
  }

  get made(): ReadonlyMap<string, number> {
    return this.#made;
  }
}
