import { expect, it } from "vitest";
import { dpoTrain } from "./process.ts";

it("devices lists each adapter by the name that --device takes, with limits and features", async () => {
  const { code, stdout } = await dpoTrain(["devices"]);
  expect(code).toBe(0);
  const adapters = stdout.trimEnd().split("\n\n");
  for (const adapter of adapters) {
    expect(adapter).toMatch(
      /^\S.*\n {2}--precision f16: (?:no|yes, on \d+x\d+x\d+ matrices)\n {2}largest buffer: [\d.]+ [MG]iB\n {2}largest binding: [\d.]+ [MG]iB\n {2}workgroup memory: [\d.]+ KiB\n {2}invocations per workgroup: \d+\n {2}invocations per subgroup: (?:unknown|\d+(?: to \d+)?)\n {2}subgroup matrices \(M x N x K\): (?:none|\d+x\d+x\d+ \w+ to \w+(?:, \d+x\d+x\d+ \w+ to \w+)*)\n {2}features: \S.*$/,
    );
  }
  expect(stdout).toContain(" [runs on the CPU]\n");

  const json = await dpoTrain(["devices", "--json"]);
  expect(json.code).toBe(0);
  const described: { name: string; software: boolean; limits: Record<string, number>; features: string[] }[] =
    JSON.parse(json.stdout);
  expect(described.map(({ name, software }) => `${name}${software ? " [runs on the CPU]" : ""}`)).toEqual(
    adapters.map((adapter) => adapter.split("\n")[0]),
  );
  for (const { limits, features } of described) {
    expect(limits.maxStorageBufferBindingSize).toBeGreaterThanOrEqual(2 ** 27);
    expect(features).toEqual([...features].sort());
  }
});
