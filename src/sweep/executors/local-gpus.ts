import { closeSync, existsSync, openSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** A GPU of this machine, as Linux lists it on the PCI bus. */
export interface LocalGpu {
  /** `0000:65:00.0` */
  readonly address: string;
  /** NVIDIA's `GPU-...`, by which CUDA knows it; null for other vendors. */
  readonly uuid: string | null;
  /** What a driver must open to use it: `/dev/nvidia0`, `/dev/dri/renderD128`, ... */
  readonly deviceFiles: readonly string[];
}

/** Vendors of GPUs, the most likely to be trained on first: of a machine with several, the first one's GPUs are taken. */
const VENDORS = ["0x10de" /* NVIDIA */, "0x1002" /* AMD */, "0x8086" /* Intel */];
const NVIDIA = VENDORS[0];
/** PCI classes: display controllers, and processing accelerators. */
const GPU_CLASS = /^0x(03|12)/;

/**
 * The GPUs that this process may open, in the order of the PCI bus; none where the system is not Linux. CUDA_VISIBLE_DEVICES
 * narrows them, by index or UUID, as it does for CUDA.
 *
 * @param root where /sys, /proc and /dev are, for tests
 */
export function listGpus(root = "/", visible = process.env.CUDA_VISIBLE_DEVICES): LocalGpu[] {
  const devices = join(root, "sys/bus/pci/devices");
  if (!existsSync(devices)) return [];
  const found = readdirSync(devices)
    .sort()
    .filter((address) => GPU_CLASS.test(readText(join(devices, address, "class"))))
    .map((address) => ({ vendor: readText(join(devices, address, "vendor")), gpu: gpuAt(root, address) }))
    .filter(({ gpu }) => gpu.deviceFiles.length > 0 && canOpen(gpu.deviceFiles[0]!));
  const vendor = VENDORS.find((id) => found.some((one) => one.vendor === id));
  const gpus = found.flatMap((one) => (one.vendor === vendor ? [one.gpu] : []));
  return vendor === NVIDIA && visible !== undefined ? narrow(gpus, visible) : gpus;
}

function gpuAt(root: string, address: string): LocalGpu {
  const information = readText(join(root, "proc/driver/nvidia/gpus", address, "information"));
  const minor = /^Device Minor:\s*(\d+)/m.exec(information)?.[1];
  const drm = join(root, "sys/bus/pci/devices", address, "drm");
  const nodes = existsSync(drm) ? readdirSync(drm).filter((name) => /^(card|renderD)\d+$/.test(name)) : [];
  const deviceFiles = [
    ...(minor === undefined ? [] : [join(root, `dev/nvidia${minor}`)]),
    // The render node before the card's, which is for displays.
    ...nodes
      .sort()
      .reverse()
      .map((name) => join(root, "dev/dri", name)),
  ];
  const uuid = /^GPU UUID:\s*(GPU-\S+)/m.exec(information)?.[1] ?? null;
  return { address, uuid, deviceFiles: deviceFiles.filter((file) => existsSync(file)) };
}

function narrow(gpus: readonly LocalGpu[], visible: string): LocalGpu[] {
  const words = visible.split(",").map((word) => word.trim());
  return words.flatMap((word) => {
    const gpu = /^\d+$/.test(word)
      ? gpus[Number(word)]
      : gpus.find(({ uuid }) => word.startsWith("GPU-") && uuid?.startsWith(word));
    return gpu === undefined ? [] : [gpu];
  });
}

/** A file of /sys or /proc; empty where it is not there. */
function readText(file: string): string {
  try {
    return readFileSync(file, "utf8").trim();
  } catch {
    return "";
  }
}

/** Whether the device file may be opened: a container or a batch system may have given out others only. */
function canOpen(file: string): boolean {
  try {
    closeSync(openSync(file, "r+"));
    return true;
  } catch {
    return false;
  }
}
