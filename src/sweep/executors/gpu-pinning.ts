import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { InputError } from "../../errors.ts";
import type { LocalGpu } from "./local-gpus.ts";

/** Where a process trains, and what makes it train there. */
export interface Place {
  /** For people: `GPU 0 (0000:65:00.0)`. */
  readonly name: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Puts a command where it sees the place's GPU alone. */
  readonly wrap: (command: readonly string[]) => readonly string[];
}

/**
 * Places for `count` processes, each with a GPU of its own.
 *
 * Vulkan knows nothing of CUDA_VISIBLE_DEVICES, its loader chooses among drivers and not among equal cards, and Dawn takes
 * the first adapter of a name. Two things keep a process on one of several equal GPUs. The first is that it cannot open the
 * others: in a mount namespace of its own their device files are mounted `nodev`, which is what a container or Slurm's
 * device cgroup comes to. The second is Mesa's device-select layer, which shows an application one device, whatever its
 * driver: the one that DRI_PRIME names by its place on the PCI bus.
 *
 * @throws InputError where there are too few GPUs, or no way to keep processes on them
 */
export function placesFor(count: number, gpus: readonly LocalGpu[]): Place[] {
  if (count > gpus.length) {
    const found = gpus.length === 1 ? "1 GPU was found" : `${gpus.length} GPUs were found`;
    throw new InputError(`--gpus must be at most the number of GPUs that this process may use: ${found}, got ${count}`);
  }
  const chosen = gpus.slice(0, count);
  const hiding = gpus.length === 1 ? [] : waysToHide(chosen, gpus);
  if (hiding === null && !hasDeviceSelectLayer()) {
    throw new InputError(
      "--gpus: the processes cannot be kept on GPUs of their own here: either let users make namespaces " +
        "(unshare --user --map-root-user --mount true must work), or install Mesa's device-select layer (mesa-vulkan-drivers), " +
        "or start one sweep in a container for each GPU",
    );
  }
  return chosen.map((gpu, index) => ({
    name: `GPU ${index} (${gpu.address})`,
    environment: environmentOf(gpu, index),
    wrap: (command) => (hiding === null || hiding.length === 0 ? command : [...hiding[index]!, ...command]),
  }));
}

/** Places for processes that compute on the CPU, or on whatever they find. */
export function sharedPlaces(count: number): Place[] {
  return Array.from({ length: count }, (_, index) => ({
    name: `process ${index}`,
    environment: { CUDA_VISIBLE_DEVICES: String(index) },
    wrap: (command) => command,
  }));
}

function environmentOf({ address, uuid }: LocalGpu, index: number): Record<string, string> {
  return {
    // For Mesa's layer: pci-0000_65_00_0. It takes the device as the first, and then shows no other.
    DRI_PRIME: `pci-${address.replaceAll(/[:.]/g, "_")}`,
    MESA_VK_DEVICE_SELECT_FORCE_DEFAULT_DEVICE: "1",
    // For the user's own tools.
    CUDA_DEVICE_ORDER: "PCI_BUS_ID",
    CUDA_VISIBLE_DEVICES: uuid ?? String(index),
  };
}

/** Exit code of the script where a device file could not be hidden. */
const NOT_HIDDEN = 71;

/**
 * Makes device files that cannot be opened, and becomes the command: FILE... -- COMMAND. Bind mounts keep what the files say
 * of themselves, so that NVIDIA's driver has no reason to make them anew.
 */
const HIDE = `while [ "$1" != -- ]; do
  mount --bind "$1" "$1" && mount -o remount,bind,nodev,nosuid,noexec "$1" || exit ${NOT_HIDDEN}
  if (: <"$1") 2>/dev/null; then exit ${NOT_HIDDEN}; fi
  shift
done
shift
exec "$@"`;

/** As root, and as a user where users may make namespaces. */
const NAMESPACES = [["--mount"], ["--user", "--map-root-user", "--mount"]];

/** For each GPU the beginning of a command line that hides all others; null where this system does not let it. */
function waysToHide(chosen: readonly LocalGpu[], gpus: readonly LocalGpu[]): string[][] | null {
  for (const namespace of NAMESPACES) {
    const wrappers = chosen.map((own) => {
      const others = gpus.filter((gpu) => gpu !== own).flatMap(({ deviceFiles }) => deviceFiles);
      return ["unshare", ...namespace, "--", "sh", "-c", HIDE, "sh", ...others, "--"];
    });
    if (wrappers.every(works)) return wrappers;
  }
  return null;
}

function works([program, ...args]: readonly string[]): boolean {
  try {
    execFileSync(program!, [...args, "true"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** Where Vulkan's loader finds layers that it loads unasked. */
const LAYER_FOLDERS = ["/usr/share", "/usr/local/share", "/etc"].map((folder) => `${folder}/vulkan/implicit_layer.d`);

function hasDeviceSelectLayer(): boolean {
  return (
    process.env.NODEVICE_SELECT === undefined &&
    LAYER_FOLDERS.some((folder) => existsSync(`${folder}/VkLayer_MESA_device_select.json`))
  );
}

/**
 * Lines of a shell script for a task of a batch system, which has its command in "$@" and its GPUs in CUDA_VISIBLE_DEVICES.
 * Where the system lets the task open NVIDIA GPUs that were given to others as well, they hide those, or end the script
 * with exit code 2; elsewhere they do nothing.
 *
 * @param root what /proc, /sys and /dev are under, for tests
 */
export function hideOthersScript(root = ""): string {
  return `# Vulkan does not know CUDA_VISIBLE_DEVICES. Where this task could open other tasks' GPUs too, they are hidden from it.
own= others= count=0
for gpu in ${root}/proc/driver/nvidia/gpus/*; do
  minor=$(sed -n 's/^Device Minor:[^0-9]*//p' "$gpu/information" 2>/dev/null)
  if ! [ -e "${root}/dev/nvidia$minor" ] || ! (: <"${root}/dev/nvidia$minor") 2>/dev/null; then continue; fi
  uuid=$(sed -n 's/^GPU UUID:[^G]*//p' "$gpu/information")
  files=${root}/dev/nvidia$minor
  for node in ${root}/sys/bus/pci/devices/\${gpu##*/}/drm/card* ${root}/sys/bus/pci/devices/\${gpu##*/}/drm/renderD*; do
    if [ -e "${root}/dev/dri/\${node##*/}" ]; then files="$files ${root}/dev/dri/\${node##*/}"; fi
  done
  case ",$CUDA_VISIBLE_DEVICES," in
    *",$count,"* | *",$uuid,"*) own=\${gpu##*/} ;;
    *) others="$others $files" ;;
  esac
  count=$((count + 1))
done
if [ -n "$own" ] && [ -n "$others" ]; then
  hide='${HIDE}'
  for namespace in ${NAMESPACES.map((options) => `'${options.join(" ")}'`).join(" ")}; do
    if unshare $namespace -- sh -c "$hide" sh $others -- true 2>/dev/null; then
      exec unshare $namespace -- sh -c "$hide" sh $others -- "$@"
    fi
  done
  echo "this task could use GPUs of other tasks ($others), and they cannot be hidden from it: ask for ConstrainDevices=yes in cgroup.conf, or for whole nodes (--exclusive) with one GPU" >&2
  exit 2
fi
`;
}
