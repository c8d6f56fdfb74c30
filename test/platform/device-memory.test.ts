import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { freeOnAmd, leastFree } from "../../src/platform/device-memory.ts";
import { temporaryFolder } from "../weights/fixtures.ts";

const MIB = 2 ** 20;

describe("what nvidia-smi says", () => {
  it.each([
    ["one GPU", "NVIDIA H200, 142901\n", "NVIDIA H200", 142_901],
    ["Windows' line ends", "NVIDIA H200, 142901\r\n", "NVIDIA H200", 142_901],
    ["two of a name: the fuller one", "NVIDIA H200, 142901\nNVIDIA H200, 900\n", "NVIDIA H200", 900],
    ["two names", "NVIDIA T4, 300\nNVIDIA H200, 142901\n", "NVIDIA H200", 142_901],
    ["a name within the adapter's", "NVIDIA T4, 300\n", "NVIDIA T4 (Vulkan)", 300],
    ["a name that begins as another", "NVIDIA A10, 11\nNVIDIA A100, 22\n", "NVIDIA A100", 22],
    ["no such name: the fullest of all", "NVIDIA T4, 300\nNVIDIA H200, 142901\n", "Tesla", 300],
    ["a name with a comma", "NVIDIA X, 2nd, 77\n", "NVIDIA X, 2nd", 77],
    ["nothing left", "NVIDIA H200, 0\n", "NVIDIA H200", 0],
    ["a line that is none", "warning: persistence mode\nNVIDIA H200, 5\n", "NVIDIA H200", 5],
  ])("%s", (_, csv, adapter, mib) => {
    expect(leastFree(csv, adapter)).toBe(mib * MIB);
  });

  it.each([
    "",
    "\n",
    "No devices were found\n",
    "NVIDIA H200, [N/A]\n",
    "NVIDIA H200, [Insufficient Permissions]\n",
    "5\n",
  ])("%j is nothing", (csv) => {
    expect(leastFree(csv, "NVIDIA H200")).toBeNull();
  });
});

describe("what amdgpu says", () => {
  /** A folder as /sys/class/drm, with the files of each card. */
  async function drm(cards: Readonly<Record<string, Readonly<Record<string, string>>>>): Promise<string> {
    const folder = await temporaryFolder();
    for (const [card, files] of Object.entries(cards)) {
      await mkdir(join(folder, card, "device"), { recursive: true });
      for (const [name, text] of Object.entries(files)) await writeFile(join(folder, card, "device", name), text);
    }
    return folder;
  }
  const amd = (total: number, used: number) => ({ mem_info_vram_total: `${total}\n`, mem_info_vram_used: `${used}\n` });

  it("is what a card has but does not use; of several the least", async () => {
    expect(await freeOnAmd(await drm({ card0: amd(1000, 300) }))).toBe(700);
    expect(await freeOnAmd(await drm({ card0: amd(1000, 300), card1: amd(5000, 4900) }))).toBe(100);
  });

  it("leaves out connectors, other vendors' cards and what is no number", async () => {
    const folder = await drm({
      "card0-DP-1": amd(10, 9),
      renderD128: amd(10, 9),
      card0: {},
      card1: amd(1000, 300),
      card2: { mem_info_vram_total: "?\n", mem_info_vram_used: "0\n" },
      card3: { mem_info_vram_total: "\n", mem_info_vram_used: "\n" },
    });
    expect(await freeOnAmd(folder)).toBe(700);
  });

  it("is nothing where there is no such card, or no such folder", async () => {
    expect(await freeOnAmd(await drm({ card0: {} }))).toBeNull();
    expect(await freeOnAmd(join(await temporaryFolder(), "nowhere"))).toBeNull();
  });
});
