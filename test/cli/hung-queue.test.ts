import { spawn } from "node:child_process";
import { expect, it, onTestFinished } from "vitest";
import { rootPath } from "../model/golden-model.ts";
import { ended } from "./process.ts";

// On a driver for the CPU in any case: a GPU's own watchdog might reset it, and what else runs there with it.
it("a queue that hangs ends the command within the time that is allowed, with exit code 3 and one sentence", async () => {
  const child = spawn(process.execPath, [rootPath("test/cli/hung-queue.mjs"), "software"], {
    env: { ...process.env, DPO_TRAIN_GPU_WAIT: "2" },
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const { code, stderr } = await ended(child);
  expect(code).toBe(3);
  expect(stderr).toMatch(/^dpo-train: the GPU has not answered for 2 s, so its queue hangs: .*\n$/m);
});
