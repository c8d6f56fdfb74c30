import { expect, it, vi } from "vitest";
import { parseConfig } from "../../src/config/load.ts";
import { type GoldenLosses, readAdapter, readGoldenJson } from "../golden/read.ts";
import { relativeError } from "../numbers.ts";
import { expectLikeTrl, loggedSteps } from "./trl-comparison.ts";
import { NO_MERGE, temporaryFolder, trainWhole } from "./whole-run.ts";

vi.mock("../../src/platform/dawn.ts", () => import("./shared-device.ts"));

// Three steps and an evaluation of every loss that TRL has, each a whole run from the same adapter.

const START = "losses-initial-adapter";
/** Relative, of the L2 norm of each tensor and of how far it moved. */
const NORM_TOLERANCE = 1e-4;

const folder = temporaryFolder();
const golden = readGoldenJson<GoldenLosses>("losses.json");
const start = readAdapter(START);

it.each(Object.entries(golden.cases))("%s is TRL's", async (name, { settings, log, ...norms }) => {
  const text = JSON.stringify({ ...golden.config, ...settings });
  const set = [`init_adapter=test/golden/${START}`, NO_MERGE, "reference_cache=false"];

  const run = await trainWhole(folder, parseConfig(text, name, set));

  expectLikeTrl(run.log, loggedSteps(log));
  expect([...run.adapter.keys()].sort()).toEqual(Object.keys(norms.final_norms));
  for (const [tensor, { data }] of run.adapter) {
    const from = start.get(tensor)!.data;
    const moved = data.map((value, i) => value - from[i]!);
    expect(relativeError([norm(data)], [norms.final_norms[tensor]!]), tensor).toBeLessThan(NORM_TOLERANCE);
    expect(relativeError([norm(moved)], [norms.moved_norms[tensor]!]), tensor).toBeLessThan(NORM_TOLERANCE);
  }
});

function norm(values: Float32Array): number {
  return Math.hypot(...values);
}
