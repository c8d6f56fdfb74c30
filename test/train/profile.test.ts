import { describe, expect, it } from "vitest";
import type { TimedDispatch } from "../../src/gpu/profiler.ts";
import { chromeTrace, formatProfile, summarize } from "../../src/train/profile.ts";

const dispatch = (
  label: string,
  startNs: number,
  endNs: number,
  work: TimedDispatch["work"] = null,
): TimedDispatch => ({ label, startNs, endNs, work });

// Two products with a gap of 1 ms, and a norm that overlaps the second by half.
const TIMED = [
  dispatch("matmul", 1_000_000, 3_000_000, { flops: 4e6, bytes: 1e6 }),
  dispatch("matmul", 4_000_000, 6_000_000, { flops: 4e6, bytes: 1e6 }),
  dispatch("norm", 5_000_000, 7_000_000),
];

describe("summarize", () => {
  it("adds up kernels, and finds the time in which none ran", () => {
    expect(summarize(TIMED, [2, 3])).toEqual({
      steps: [2, 3],
      spanMs: 6,
      idleShare: expect.closeTo(1 / 6, 12),
      gaps: [{ after: "matmul", before: "matmul", count: 1, ms: 1 }],
      kernels: [
        {
          kernel: "matmul",
          dispatches: 2,
          ms: 4,
          share: expect.closeTo(4 / 5, 12),
          flopsPerSecond: 2e9,
          bytesPerSecond: 5e8,
        },
        {
          kernel: "norm",
          dispatches: 1,
          ms: 2,
          share: expect.closeTo(2 / 5, 12),
          flopsPerSecond: null,
          bytesPerSecond: null,
        },
      ],
    });
  });

  it("adds up gaps between the same kernels, the longest first, and none behind a kernel that still runs", () => {
    const { gaps, idleShare } = summarize(
      [
        dispatch("long", 0, 10_000_000),
        dispatch("short", 1_000_000, 2_000_000),
        dispatch("next", 11_000_000, 12_000_000),
        dispatch("long", 15_000_000, 16_000_000),
        dispatch("next", 18_000_000, 20_000_000),
      ],
      [2, 2],
    );
    expect(gaps).toEqual([
      { after: "long", before: "next", count: 2, ms: 3 },
      { after: "next", before: "long", count: 1, ms: 3 },
    ]);
    expect(idleShare).toBeCloseTo(6 / 20, 12);
  });

  it("gives no rate for dispatches that the clock did not see", () => {
    const profile = summarize([dispatch("copy", 5, 5, { flops: 1, bytes: 1 })], [1, 1]);
    expect(profile).toMatchObject({ spanMs: 0, idleShare: 0 });
    expect(profile.kernels[0]).toMatchObject({ ms: 0, share: 0, flopsPerSecond: null, bytesPerSecond: null });
  });

  it("refuses to make something of nothing", () => {
    expect(() => summarize([], [1, 1])).toThrow(RangeError);
  });
});

it("shows a table per step", () => {
  expect(formatProfile(summarize(TIMED, [2, 3]))).toEqual([
    "GPU profile of steps 2 to 3, per step: 3.0 ms, 16.7% of it idle",
    "kernel  dispatches     ms  share  GFLOP/s   GB/s",
    "matmul           1  2.000  80.0%     2.00  0.500",
    "norm             1  1.000  40.0%        -      -",
    "idle 0.500 ms from matmul to matmul, 1 times",
  ]);
});

it("writes complete events in microseconds from the first start", () => {
  const { traceEvents } = JSON.parse(chromeTrace(TIMED)) as { traceEvents: object[] };
  expect(traceEvents.length).toBe(3);
  expect(traceEvents[2]).not.toHaveProperty("args");
  expect(traceEvents[1]).toEqual({
    name: "matmul",
    cat: "kernel",
    ph: "X",
    pid: 1,
    tid: 1,
    ts: 3000,
    dur: 2000,
    args: { flops: 4e6, bytes: 1e6 },
  });
});
