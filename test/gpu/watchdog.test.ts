import { describe, expect, it } from "vitest";
import { DeviceError } from "../../src/errors.ts";
import { Watchdog } from "../../src/gpu/watchdog.ts";

const never = () => new Promise<never>(() => {});
const doneIn = (ms: number) => new Promise<string>((resolve) => setTimeout(() => resolve("done"), ms));

/** How long a wait that never ends is waited for. */
async function waitedMs(watchdog: Watchdog): Promise<number> {
  const startMs = performance.now();
  await expect(watchdog.wait(never())).rejects.toThrow(DeviceError);
  return performance.now() - startMs;
}

describe("a wait for the GPU", () => {
  it("that never ends is given up after the limit, and after more until all has run once", async () => {
    const watchdog = new Watchdog({ limitMs: 200, graceMs: 600 });
    expect(watchdog.isHung).toBe(false);
    const inGraceMs = await waitedMs(watchdog);
    watchdog.endGrace();
    const laterMs = await waitedMs(watchdog);
    expect(inGraceMs).toBeGreaterThan(550);
    expect(laterMs).toBeGreaterThan(180);
    expect(laterMs).toBeLessThan(inGraceMs);
    expect(watchdog.isHung).toBe(true);
  });

  it("that ends gives what it gave, or throws what it threw", async () => {
    const watchdog = new Watchdog({ limitMs: 1000, graceMs: 1000 });
    expect(await watchdog.wait(doneIn(5))).toBe("done");
    await expect(watchdog.wait(Promise.reject(new Error("lost")))).rejects.toThrow("lost");
    expect(watchdog.isHung).toBe(false);
  });

  it("may take ten times as long as the longest before it", async () => {
    const watchdog = new Watchdog({ limitMs: 100, graceMs: 100 });
    await watchdog.wait(doneIn(60));
    expect(await watchdog.wait(doneIn(300))).toBe("done");
  });

  it("is not blamed for a host that was busy meanwhile", async () => {
    const watchdog = new Watchdog({ limitMs: 200, graceMs: 200 });
    const waiting = watchdog.wait(doneIn(10));
    const endMs = performance.now() + 500;
    while (performance.now() < endMs);
    expect(await waiting).toBe("done");
  });
});
