import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { DeviceError } from "../errors.ts";
import { Gpu } from "../gpu/gpu.ts";
import { WATCHDOG_LIMITS, type WatchdogLimits } from "../gpu/watchdog.ts";
import { type AdapterDescription, adapterName, describeAdapter, isNullBackend } from "./adapter.ts";
import { readKernel } from "./kernels.ts";
import { fragmentUnitOf } from "./subgroup-matrices.ts";
import { findSwiftShader } from "./swiftshader.ts";
import { type DeviceProfile, type Toggles, togglesOf } from "./toggles.ts";

/** What `--device` says: the best GPU, a driver that runs on the CPU, or the first adapter whose name contains this. */
export type DeviceChoice = "auto" | "software" | (string & {});

export interface DeviceRequest {
  readonly device: DeviceChoice;
  /** `fast` if not given. */
  readonly profile?: DeviceProfile;
  /** Bytes of all buffers together, as if the adapter had no more; null for no limit. */
  readonly memoryLimitBytes?: number | null;
  /** Whether to look for work that the driver drops in silence, and for writes outside of buffers. */
  readonly watch?: boolean;
  /** Largest binding to use, below the adapter's own limit: for tests of splitting. */
  readonly bindingLimitBytes?: number;
}

export interface OpenedDevice {
  readonly gpu: Gpu;
  readonly adapter: AdapterDescription;
  readonly profile: DeviceProfile;
  readonly toggles: Toggles;
  /** Features of the adapter that were asked for. */
  readonly enabledFeatures: readonly string[];
  /** One line for the user when the device is not the GPU that one would expect. */
  readonly notice: string | null;
  /** Releases everything, so that the process can end. */
  readonly close: () => void;
}

interface DawnModule {
  readonly create: (flags: string[]) => GPU;
  readonly globals: object;
}

/** Features the trainer can use. Each is asked for only where the adapter has it. */
const WANTED_FEATURES = ["subgroups", "shader-f16", "timestamp-query", "chromium-experimental-subgroup-matrix"];

/**
 * Opens a WebGPU device through Dawn with the adapter's own limits.
 *
 * @throws DeviceError when there is no such adapter, with what there is and what to do.
 */
export async function openDevice(request: DeviceRequest): Promise<OpenedDevice> {
  const { profile = "fast" } = request;
  const toggles = togglesOf(profile);
  const { adapter, notice } = await findAdapter(request.device, toggles);
  const requiredLimits: Record<string, number> = {};
  for (const name of [
    "maxStorageBufferBindingSize",
    "maxBufferSize",
    "maxStorageBuffersPerShaderStage",
    "maxComputeWorkgroupStorageSize",
    "maxComputeInvocationsPerWorkgroup",
    "maxComputeWorkgroupSizeX",
  ] as const) {
    requiredLimits[name] = adapter.limits[name];
  }
  const enabledFeatures = WANTED_FEATURES.filter((feature) => adapter.features.has(feature));
  const device = await adapter.requestDevice({ requiredLimits, requiredFeatures: enabledFeatures as GPUFeatureName[] });
  const { bindingLimitBytes, memoryLimitBytes = null, watch = false } = request;
  const gpu = new Gpu(device, {
    kernelSource: readKernel,
    subgroupSize: adapter.info.subgroupMaxSize,
    fragments: fragmentUnitOf(adapter),
    memoryLimitBytes,
    ...(bindingLimitBytes === undefined ? {} : { bindingLimitBytes }),
    watchdog: watchdogLimits(adapter.info.isFallbackAdapter),
    watch,
  });
  await gpu.pipelines.ready(); // Those of the watch go into every command buffer.
  openDevices++;
  return {
    gpu,
    adapter: describeAdapter(adapter),
    profile,
    toggles,
    enabledFeatures,
    notice,
    close: () => {
      gpu.destroy();
      openDevices--;
      if (openDevices === 0) instances.clear(); // Node.js exits only when no GPU object can be reached any more.
    },
  };
}

/** A driver for the CPU does not hang like a GPU, but may well take minutes for what a GPU does in a second. */
function watchdogLimits(isSoftware: boolean): WatchdogLimits {
  const seconds = Number(process.env.DPO_TRAIN_GPU_WAIT);
  if (seconds > 0) return { limitMs: seconds * 1000, graceMs: seconds * 1000 };
  const { limitMs, graceMs } = WATCHDOG_LIMITS;
  return isSoftware ? { limitMs: graceMs, graceMs: 10 * graceMs } : { limitMs, graceMs };
}

/** The names of all adapters that Dawn finds on this machine, and SwiftShader where it can be had. */
export async function listAdapters(): Promise<AdapterDescription[]> {
  const found: AdapterDescription[] = [];
  const toggles = togglesOf("fast");
  if (systemMayHaveVulkan()) {
    for (const name of await systemAdapterNames()) {
      const adapter = await requestAdapter(await systemDawn(toggles, [`adapter=${name}`]), {});
      if (adapter && !isNullBackend(adapter)) found.push(describeAdapter(adapter));
    }
  }
  if (!found.some((adapter) => adapter.software)) {
    const adapter = await softwareAdapter(toggles);
    if (adapter) found.push(describeAdapter(adapter));
  }
  return found;
}

interface FoundAdapter {
  readonly adapter: GPUAdapter;
  readonly notice: string | null;
}

async function findAdapter(choice: DeviceChoice, toggles: Toggles): Promise<FoundAdapter> {
  if (choice === "auto") {
    if (systemMayHaveVulkan()) {
      const adapter = await requestAdapter(await systemDawn(toggles), { powerPreference: "high-performance" });
      if (adapter && !isNullBackend(adapter) && !adapter.info.isFallbackAdapter) return { adapter, notice: null };
    }
    const adapter = await softwareAdapter(toggles);
    if (adapter) {
      return {
        adapter,
        notice: `no GPU found: running on the CPU through ${adapterName(adapter)} (slow; --device chooses)`,
      };
    }
    throw new DeviceError(
      "no GPU found, and no Vulkan driver for the CPU: install your GPU's Vulkan driver, or on Linux x64 the npm package @sparticuz/chromium, which carries SwiftShader",
    );
  }
  if (choice === "software") {
    const adapter = await softwareAdapter(toggles);
    if (adapter) return { adapter, notice: null };
    throw new DeviceError(
      "--device software found no Vulkan driver for the CPU: on Linux x64 install the npm package @sparticuz/chromium, which carries SwiftShader",
    );
  }
  const adapter = systemMayHaveVulkan()
    ? await requestAdapter(await systemDawn(toggles, [`adapter=${choice}`]), {})
    : null;
  if (adapter && !isNullBackend(adapter)) return { adapter, notice: null };
  const software = await softwareAdapter(toggles);
  if (software && adapterName(software).toLowerCase().includes(choice.toLowerCase())) {
    return { adapter: software, notice: null };
  }
  const names = (await listAdapters()).map((known) => `"${known.name}"`).join(", ");
  throw new DeviceError(`--device ${choice} matches no adapter; there are: ${names || "none"}`);
}

/** A driver that runs on the CPU: the system's own (Mesa's lavapipe) if it has one, else SwiftShader. */
async function softwareAdapter(toggles: Toggles): Promise<GPUAdapter | null> {
  if (systemMayHaveVulkan()) {
    for (const name of await systemAdapterNames()) {
      const adapter = await requestAdapter(await systemDawn(toggles, [`adapter=${name}`]), {});
      if (adapter?.info.isFallbackAdapter) return adapter;
    }
  }
  const swiftShader = findSwiftShader();
  if (!swiftShader) return null;
  // The Vulkan loader reads these when an instance is created. VK_ICD_FILENAMES is their name in older loaders.
  process.env.VK_DRIVER_FILES = swiftShader.driverManifestPath;
  process.env.VK_ICD_FILENAMES = swiftShader.driverManifestPath;
  return requestAdapter(instance(loadDawn(swiftShader.dawnPath), toggles, ["backend=vulkan"]), {});
}

// Dawn's instances, kept reachable while a device is open: collecting one would take its devices with it.
const instances = new Set<GPU>();
let openDevices = 0;
const loaded = new Map<string, DawnModule>();

function loadDawn(dawnPath: string): DawnModule {
  let module = loaded.get(dawnPath);
  if (!module) {
    const holder = { exports: {} };
    process.dlopen(holder, dawnPath);
    module = holder.exports as DawnModule;
    loaded.set(dawnPath, module);
  }
  return module;
}

async function systemDawn(toggles: Toggles, flags: readonly string[] = []): Promise<GPU> {
  return instance(await import("webgpu"), toggles, flags);
}

function instance(dawn: DawnModule, toggles: Toggles, flags: readonly string[]): GPU {
  Object.assign(globalThis, dawn.globals);
  const gpu = dawn.create([
    `enable-dawn-features=${toggles.enabled.join()}`,
    `disable-dawn-features=${toggles.disabled.join()}`,
    ...flags,
  ]);
  instances.add(gpu);
  return gpu;
}

async function requestAdapter(gpu: GPU, options: GPURequestAdapterOptions): Promise<GPUAdapter | null> {
  try {
    return await gpu.requestAdapter(options);
  } catch {
    return null; // Dawn throws instead of answering null when no backend, or no adapter of that name, is there.
  }
}

async function systemAdapterNames(): Promise<string[]> {
  // Dawn lists its adapters only in the message about a name that it does not find.
  const NO_SUCH_ADAPTER = "\u0001";
  try {
    await (await systemDawn(togglesOf("safe"), [`adapter=${NO_SUCH_ADAPTER}`])).requestAdapter();
    return [];
  } catch (error) {
    return [...String(error).matchAll(/name: '([^']+)'/g)].map((match) => match[1] ?? "");
  }
}

/**
 * Whether Dawn is worth asking for the system's adapters. On Linux it warns on the terminal when there is no Vulkan
 * loader at all, so ask only where the dynamic linker knows one, or somebody has pointed at a driver or library folder.
 */
function systemMayHaveVulkan(): boolean {
  if (process.platform !== "linux") return true;
  const { VK_DRIVER_FILES: driverFiles, VK_ICD_FILENAMES: icdFiles, LD_LIBRARY_PATH: libraryPath } = process.env;
  const own = driverFiles?.includes("vk_swiftshader_icd.json") ?? false; // Set by softwareAdapter, not by the user.
  if ((driverFiles || icdFiles) && !own) return true;
  if (libraryPath?.split(":").some((folder) => existsSync(path.join(folder, "libvulkan.so.1")))) return true;
  const linkerCache = "/etc/ld.so.cache";
  return !existsSync(linkerCache) || readFileSync(linkerCache, "latin1").includes("libvulkan.so.1");
}
