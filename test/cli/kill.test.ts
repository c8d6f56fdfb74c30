import { expect, it } from "vitest";
import { killTest } from "../../scripts/kill-test.ts";
import { TEST_DEVICE } from "../device.ts";

it("10 SIGKILLs at random moments, also while saving: each run goes on and ends as if undisturbed", async () => {
  const { kills, runsDone, mostStepsLost } = await killTest({ kills: 10, seed: Date.now(), device: TEST_DEVICE });
  expect(Object.values(kills).reduce((sum, count) => sum + count)).toBe(10);
  expect(runsDone).toBeGreaterThan(0);
  expect(mostStepsLost).toBeLessThanOrEqual(3);
}, 600_000);
