import { createHash } from "node:crypto";
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import type { Config } from "../../src/config/schema.ts";
import { goldenPath, type LogRecord, readAdapter, readOracle, trainRecords } from "../golden/read.ts";
import { expectAdapterLikeTrl, expectLikeTrl, expectReferenceLikeTrl, loggedSteps } from "./trl-comparison.ts";
import { NO_MERGE, readKeptReference, temporaryFolder, trainWhole, type WholeRun } from "./whole-run.ts";

// Golden runs from their config to the output folder, against what TRL logged and saved.

/** All of twin-tiny, which takes minutes on SwiftShader: else its first three steps. */
const LONG = process.env.DPO_TRAIN_TEST_LONG === "1";
/** Enough for all of twin-tiny on a busy machine. */
const RUN_TIMEOUT_MS = 600_000;

const folder = temporaryFolder();

/** A golden run, and what its config lacks: the adapter that TRL started from. */
type GoldenRun = [golden: string, set: string[]];
const fromStart = (golden: string): GoldenRun => [golden, [`init_adapter=test/golden/${golden}/initial_adapter`]];

function goldenConfig([golden, set]: GoldenRun, more: readonly string[] = []): Config {
  return loadConfig(goldenPath(`${golden}/config.yaml`), [NO_MERGE, ...set, ...more]).config;
}

const RUNS: GoldenRun[] = [
  fromStart("runs/mha-tied-uneven"),
  fromStart("runs/gqa-llama3-chat"),
  fromStart("runs/f16-one-kv-gate"),
  fromStart("runs/gqa-llama3-long"),
  ["runs/init-adapter", []], // Its config names the adapter itself.
  ["runs/shuffle", []], // Its adapter is drawn from the seed, as PEFT draws it.
  ...(LONG ? [fromStart("twin-tiny")] : []),
];

describe.each(RUNS)("%s is TRL's", (golden, set) => {
  const oracle = readOracle(golden);
  const config = goldenConfig([golden, set]);
  const cacheFolder = mkdtempSync(join(folder, "cache-"));
  let run: WholeRun;
  beforeAll(async () => {
    run = await trainWhole(folder, config, cacheFolder);
  }, RUN_TIMEOUT_MS);

  it("in every record of metrics.jsonl", () => {
    expectLikeTrl(run.log, loggedSteps(oracle.log));
  });

  it("in the adapter", () => {
    expectAdapterLikeTrl(run.adapter, readAdapter(`${golden}/final_adapter`));
  });

  it("in the reference's log-probabilities", () => {
    const examples = [...oracle.examples, ...(oracle.eval_examples ?? [])];
    expectReferenceLikeTrl(readKeptReference(cacheFolder), examples, config.max_length);
  });

  it("and run.json says what was done", () => {
    const { status, reference, schedule, adapter_sha256: sha256 } = run.facts;
    expect({ status, reference, steps: schedule.total_steps, sha256 }).toEqual({
      status: "done",
      reference: "computed",
      steps: trainRecords(oracle.log).length,
      sha256: createHash("sha256").update(run.adapterBytes).digest("hex"),
    });
  });
});

if (!LONG) {
  it(
    "the first 3 of twin-tiny's 24 steps are TRL's (all of them with DPO_TRAIN_TEST_LONG=1)",
    async () => {
      // Warmup takes 3 steps, so their rates do not depend on how many follow. They see the first 48 of 381 rows in
      // micro-batches of 2: an epoch of these alone has 24 micro-batches instead of 191.
      const noEvaluation = [
        "eval_strategy=no",
        "eval_steps=null",
        "eval_dataset=null",
        "per_device_eval_batch_size=null",
      ];
      const config = goldenConfig(fromStart("twin-tiny"), [...noEvaluation, "max_steps=3", "max_train_samples=48"]);
      const cacheFolder = mkdtempSync(join(folder, "cache-"));

      const run = await trainWhole(folder, config, cacheFolder);

      const oracle = readOracle("twin-tiny");
      const ofRows = (record: LogRecord): LogRecord => ({ ...record, epoch: (record.epoch * 191) / 24 });
      expectLikeTrl(run.log, loggedSteps(oracle.log).slice(0, 3).map(ofRows));
      expectReferenceLikeTrl(readKeptReference(cacheFolder), oracle.examples.slice(0, 48), config.max_length);
    },
    RUN_TIMEOUT_MS,
  );
}
