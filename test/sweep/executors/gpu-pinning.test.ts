import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { hideOthersScript, placesFor, sharedPlaces } from "../../../src/sweep/executors/gpu-pinning.ts";
import { type LocalGpu, listGpus } from "../../../src/sweep/executors/local-gpus.ts";

describe("the GPUs of a machine", () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "gpus-"));
  });
  afterEach(() => rmSync(root, { recursive: true }));

  function put(file: string, text = ""): void {
    mkdirSync(join(root, dirname(file)), { recursive: true });
    writeFileSync(join(root, file), text);
  }
  function putDevice(address: string, vendor: string, type: string, nodes: readonly string[] = []): void {
    put(`sys/bus/pci/devices/${address}/class`, `${type}\n`);
    put(`sys/bus/pci/devices/${address}/vendor`, `${vendor}\n`);
    for (const node of nodes) {
      mkdirSync(join(root, `sys/bus/pci/devices/${address}/drm/${node}`), { recursive: true });
      put(`dev/dri/${node}`);
    }
  }
  function putNvidia(address: string, minor: number): void {
    putDevice(address, "0x10de", "0x030200", [`card${minor}`, `renderD${128 + minor}`]);
    const uuid = `GPU-0000000${minor}-aaaa`;
    put(
      `proc/driver/nvidia/gpus/${address}/information`,
      `Model: \t\t H200\nGPU UUID:\t ${uuid}\nDevice Minor: \t ${minor}\n`,
    );
    put(`dev/nvidia${minor}`);
  }

  it("are listed in the bus's order with all their device files", () => {
    putNvidia("0000:c6:00.0", 0);
    putNvidia("0000:65:00.0", 1);
    putDevice("0000:00:1f.0", "0x8086", "0x060100");
    expect(listGpus(root, undefined)).toEqual([
      {
        address: "0000:65:00.0",
        uuid: "GPU-00000001-aaaa",
        deviceFiles: ["nvidia1", "dri/renderD129", "dri/card1"].map((file) => join(root, "dev", file)),
      },
      {
        address: "0000:c6:00.0",
        uuid: "GPU-00000000-aaaa",
        deviceFiles: ["nvidia0", "dri/renderD128", "dri/card0"].map((file) => join(root, "dev", file)),
      },
    ]);
  });

  it("are those of one vendor: not the processor's beside cards, nor a server's screen", () => {
    putDevice("0000:00:02.0", "0x8086", "0x030000", ["card0", "renderD128"]);
    putDevice("0000:03:00.0", "0x1a03", "0x030000", ["card1"]);
    putDevice("0000:41:00.0", "0x1002", "0x120000", ["card2", "renderD129"]);
    expect(listGpus(root, undefined).map(({ address }) => address)).toEqual(["0000:41:00.0"]);
  });

  it("are those that this process may open", () => {
    putNvidia("0000:65:00.0", 0);
    putNvidia("0000:66:00.0", 1);
    rmSync(join(root, "dev/nvidia0"));
    rmSync(join(root, "dev/dri/renderD128"));
    rmSync(join(root, "dev/dri/card0"));
    expect(listGpus(root, undefined).map(({ address }) => address)).toEqual(["0000:66:00.0"]);
  });

  it("are narrowed by CUDA_VISIBLE_DEVICES", () => {
    for (const minor of [0, 1, 2]) putNvidia(`0000:6${minor}:00.0`, minor);
    const minors = (visible: string) => listGpus(root, visible).map(({ uuid }) => Number(uuid!.slice(4, 12)));
    expect(minors("2,0")).toEqual([2, 0]);
    expect(minors("GPU-00000001")).toEqual([1]);
    expect(minors("")).toEqual([]);
    expect(minors("7")).toEqual([]);
  });

  it("are none where Linux lists none", () => {
    expect(listGpus(root, undefined)).toEqual([]);
  });
});

/** Device files that every Linux has, and that anybody may open. */
const FILES = ["/dev/full", "/dev/zero", "/dev/random"];
const GPUS: LocalGpu[] = FILES.map((file, index) => ({
  address: `0000:6${index}:00.0`,
  uuid: null,
  deviceFiles: [file],
}));

function whyNoNamespaces(): string | null {
  try {
    execFileSync("unshare", [...(process.getuid?.() === 0 ? [] : ["--user", "--map-root-user"]), "--mount", "true"]);
    return null;
  } catch {
    return "this system lets nobody make mount namespaces";
  }
}

const reason = whyNoNamespaces();

describe.skipIf(reason !== null)(
  `processes on GPUs of their own${reason === null ? "" : `: skipped, ${reason}`}`,
  () => {
    const SHOW = `for file in ${FILES.join(" ")}; do if (: <$file) 2>/dev/null; then echo $file; fi; done; echo "$@"`;

    it("can open the device files of theirs and of no other, and get their arguments as they are", () => {
      const seen = placesFor(3, GPUS).map(({ wrap }) => {
        const [program, ...args] = wrap(["sh", "-c", SHOW, "sh", "a b", "--", "'\"$x"]);
        return execFileSync(program!, args, { encoding: "utf8" }).trim().split("\n");
      });
      expect(seen).toEqual(FILES.map((file) => [file, "a b -- '\"$x"]));
      // And outside nothing has changed.
      expect(execFileSync("sh", ["-c", SHOW], { encoding: "utf8" }).trim().split("\n")).toEqual(FILES);
    });

    it("keep the process's id, so that a signal reaches it, and its exit code", () => {
      const [program, ...args] = placesFor(2, GPUS)[1]!.wrap(["sh", "-c", "kill -TERM $$; exit 5"]);
      expect(() => execFileSync(program!, args)).toThrow(expect.objectContaining({ signal: "SIGTERM" }));
      const [again, ...rest] = placesFor(2, GPUS)[1]!.wrap(["sh", "-c", "exit 5"]);
      expect(() => execFileSync(again!, rest)).toThrow(expect.objectContaining({ status: 5 }));
    });

    it("are named and told apart in their environment", () => {
      const [first, second] = placesFor(2, [GPUS[0]!, { ...GPUS[1]!, uuid: "GPU-1" }]);
      expect(first!.name).toBe("GPU 0 (0000:60:00.0)");
      expect(first!.environment).toMatchObject({ CUDA_VISIBLE_DEVICES: "0", DRI_PRIME: "pci-0000_60_00_0" });
      expect(second!.environment).toMatchObject({ CUDA_VISIBLE_DEVICES: "GPU-1", DRI_PRIME: "pci-0000_61_00_0" });
    });
  },
);

const noDevices = reason ?? (process.getuid?.() === 0 ? null : "only root makes device files");

describe.skipIf(noDevices !== null)(
  `a task of a batch system${noDevices === null ? "" : `: skipped, ${noDevices}`}`,
  () => {
    let root: string;
    beforeEach(() => {
      root = mkdtempSync(join(tmpdir(), "devices-"));
      mkdirSync(join(root, "dev/dri"), { recursive: true });
      for (const minor of [0, 1, 2]) {
        // In another order than on the bus, as it happens.
        const address = `0000:6${2 - minor}:00.0`;
        mkdirSync(join(root, "proc/driver/nvidia/gpus", address), { recursive: true });
        mkdirSync(join(root, "sys/bus/pci/devices", address, "drm", `renderD${minor}`), { recursive: true });
        const information = `GPU UUID: \t GPU-${minor}-a\nDevice Minor: \t ${minor}\n`;
        writeFileSync(join(root, "proc/driver/nvidia/gpus", address, "information"), information);
        for (const file of [`dev/nvidia${minor}`, `dev/dri/renderD${minor}`]) {
          execFileSync("mknod", ["--mode=666", join(root, file), "c", "1", "7"]); // As /dev/full.
        }
      }
    });
    afterEach(() => rmSync(root, { recursive: true }));

    /** The device files that a task can open, of which the batch system says that it is to use these GPUs. */
    function opened(visible: string | undefined): string[] {
      const show = `for file in ${root}/dev/nvidia* ${root}/dev/dri/*; do if (: <$file) 2>/dev/null; then echo "\${file##*/}"; fi; done`;
      const script = `set -- sh -c '${show}; echo "$1"' sh "it's  it"\n${hideOthersScript(root)}exec "$@"`;
      const { CUDA_VISIBLE_DEVICES: _, ...environment } = process.env;
      const env = visible === undefined ? environment : { ...environment, CUDA_VISIBLE_DEVICES: visible };
      const lines = execFileSync("sh", ["-c", script], { encoding: "utf8", env }).trim().split("\n");
      expect(lines.pop()).toBe("it's  it");
      return lines;
    }
    const ALL = ["nvidia0", "nvidia1", "nvidia2", "renderD0", "renderD1", "renderD2"];

    it("sees its GPU alone, by index on the bus or by UUID", () => {
      expect(opened("0")).toEqual(["nvidia2", "renderD2"]);
      expect(opened("2")).toEqual(["nvidia0", "renderD0"]);
      expect(opened("GPU-1-a")).toEqual(["nvidia1", "renderD1"]);
    });

    it("sees all that it was given", () => {
      expect(opened("0,1")).toEqual(["nvidia1", "nvidia2", "renderD1", "renderD2"]);
      expect(opened("0,1,2")).toEqual(ALL);
    });

    it("sees what there is where nothing is said of it", () => {
      expect(opened(undefined)).toEqual(ALL);
      expect(opened("")).toEqual(ALL);
    });

    it("sees the one GPU that it may open, whatever its index", () => {
      for (const file of ["nvidia0", "dri/renderD0", "nvidia2", "dri/renderD2"]) rmSync(join(root, "dev", file));
      expect(opened("0")).toEqual(["nvidia1", "renderD1"]);
    });
  },
);

describe("places of processes", () => {
  it("are as many as asked for, or a mistake of the user's", () => {
    expect(() => placesFor(4, GPUS)).toThrow(
      "--gpus must be at most the number of GPUs that this process may use: 3 GPUs were found, got 4",
    );
    expect(() => placesFor(2, GPUS.slice(0, 1))).toThrow("1 GPU was found, got 2");
    expect(sharedPlaces(2).map(({ environment }) => environment.CUDA_VISIBLE_DEVICES)).toEqual(["0", "1"]);
  });

  it("change nothing about a command where there is one GPU", () => {
    expect(placesFor(1, GPUS.slice(0, 1))[0]!.wrap(["a", "b"])).toEqual(["a", "b"]);
  });
});
