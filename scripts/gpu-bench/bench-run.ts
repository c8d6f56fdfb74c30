import { appendFileSync } from "node:fs";
import { InputError } from "../../src/errors.ts";
import { printable } from "../../src/text.ts";
import type { Bench } from "./bench.ts";
import { type BenchFacts, writeResults } from "./bench-folder.ts";
import type { DeviceFacts } from "./kernels.ts";
import type { Records } from "./report.ts";
import { runStage } from "./run-stage.ts";
import type { Size } from "./sizes.ts";
import { DEVICE, isPending, keepBetter, outOfTime, type Stage, type StageRecord } from "./stages.ts";

/** Stages one after another against the clock. What is known is written down after each. */
export class BenchRun {
  sizes: readonly Size[];
  readonly #bench: Omit<Bench, "facts">;
  readonly #records: Record<string, StageRecord>;
  readonly #facts: BenchFacts;

  /** @param earlier what a call before this one has left; without sizes the device decides them */
  constructor(
    bench: Omit<Bench, "facts">,
    earlier: { readonly records: Records; readonly sizes: readonly Size[] },
    facts: BenchFacts,
  ) {
    this.#bench = bench;
    this.#records = { ...earlier.records };
    this.sizes = earlier.sizes;
    this.#facts = facts;
  }

  /** Without a result there is no device, or no time. @throws InputError where earlier measurements are another's */
  async findDevice(): Promise<StageRecord> {
    const before = this.#deviceFacts;
    const device = await this.#run(DEVICE);
    const facts = device.result as DeviceFacts | null;
    if (facts && before && facts.name !== before.name) {
      throw new InputError(
        `${printable(this.#bench.out, 1000)} holds the measurements of ${printable(before.name)}, and this is ${printable(facts.name)}; choose another --out`,
      );
    }
    this.#records[DEVICE.name] = keepBetter(this.#records[DEVICE.name], device);
    if (this.sizes.length === 0 && facts) this.sizes = facts.software ? ["tiny"] : ["8b", "1b"];
    this.save();
    return device;
  }

  /** Runs those that an earlier call has not finished. Returns how many failed. */
  async stages(stages: readonly Stage[]): Promise<number> {
    let failures = 0;
    for (const stage of stages) {
      if (!isPending(stage, this.#records)) continue;
      const record = await this.#run(stage);
      if (record.status === "failed") failures++;
      this.#records[stage.name] = keepBetter(this.#records[stage.name], record);
      this.save();
    }
    return failures;
  }

  /** Whether one of these stages of a model could be finished with more time. */
  missesTimeFor(stages: readonly Stage[], size: Size): boolean {
    return stages.some((stage) => {
      return stage.size === size && isPending(stage, this.#records) && outOfTime(stage, this.#secondsLeft) !== null;
    });
  }

  /** Writes everything. Returns the table. */
  save(): string {
    return writeResults(this.#bench.out, this.#records, this.sizes, this.#facts);
  }

  async #run(stage: Stage): Promise<StageRecord> {
    const startMs = performance.now();
    const late = outOfTime(stage, this.#secondsLeft);
    if (!late) this.#say(`${stage.name} (${Math.floor(this.#secondsLeft)} s left)`);
    const { status, reason, result } = late
      ? { status: "skipped" as const, reason: late, result: null }
      : await runStage({ ...this.#bench, facts: this.#deviceFacts }, stage);
    if (reason) this.#say(`${stage.name}: ${status}: ${reason}`);
    const seconds = Math.round(performance.now() - startMs) / 1000;
    return { status, reason, seconds, finished: new Date().toISOString(), result };
  }

  get #deviceFacts(): DeviceFacts | null {
    return (this.#records[DEVICE.name]?.result ?? null) as DeviceFacts | null;
  }

  get #secondsLeft(): number {
    return (this.#bench.deadlineMs - performance.now()) / 1000;
  }

  #say(text: string): void {
    process.stdout.write(`${printable(text, 1000)}\n`);
    appendFileSync(this.#bench.logFile, `${text}\n`);
  }
}
