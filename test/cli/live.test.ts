import type { ChildProcess } from "node:child_process";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { TEST_DEVICE } from "../device.ts";
import { runFolder } from "../report/run-folders.ts";
import { dpoTrain, ended, start } from "./process.ts";
import { prepareTraining, train } from "./training.ts";

/** The address that a command prints. */
function addressOf(child: ChildProcess): Promise<string> {
  let text = "";
  return new Promise((resolve, reject) => {
    child.stdout!.setEncoding("utf8").on("data", (part: string) => {
      text += part;
      const address = /^live page: (http:\S+)$/m.exec(text)?.[1];
      if (address) resolve(address);
    });
    child.on("close", () => reject(new Error(`no address in: ${text}`)));
  });
}

describe("--live", () => {
  it("shows a run from before its first step to its end", async () => {
    const training = await prepareTraining();
    const child = start(["--device", TEST_DEVICE, "--config", training.config, "--live", "0"]);
    const end = ended(child);
    const url = await addressOf(child);
    const page = await (await fetch(url)).text();
    expect(page).toContain("<h1>run");
    const sent = await (await fetch(new URL("events", url))).text(); // To the end of the run.
    expect(await end).toMatchObject({ code: 0, stderr: "" });
    const records = [...sent.matchAll(/^event: records\n(?:id: .*\n)?data: (.*)$/gm)].flatMap(
      ([, data]) => (JSON.parse(data!) as { records: Record<string, number>[] }).records,
    );
    expect(records.filter(({ loss }) => loss !== undefined).map(({ step }) => step)).toEqual([1, 2, 3]);
    expect(records.filter((record) => record.eval_loss !== undefined)).toHaveLength(1);
    expect(records.filter((record) => record.tokens_per_second !== undefined).map(({ step }) => step)).toEqual([
      1, 2, 3,
    ]);
    expect(sent).toMatch(/event: end\ndata: \n\n$/);
  });

  it("shows the runs of a sweep, and one that is trained alone", async () => {
    const { config } = await prepareTraining("sweep: {grid: {beta: [0.1, 0.5]}}\n");
    const sweep = ["sweep", "--device", TEST_DEVICE, "--config", config, "--live", "0"];
    const titles = async (args: readonly string[], paths: readonly string[]) => {
      const child = start([...sweep, ...args]);
      const end = ended(child);
      const url = await addressOf(child);
      const pages = await Promise.all(paths.map(async (path) => (await fetch(new URL(path, url))).text()));
      expect(await end).toMatchObject({ code: 0, stderr: "" });
      return pages.map((page) => /<h1>([^ <]*)/.exec(page)?.[1]);
    };
    expect(await titles(["--only", "1"], ["./"])).toEqual(["beta=0.5"]);
    expect(await titles([], ["./", "./beta%3D0.1/"])).toEqual(["Sweep", "beta=0.1"]);
  });

  it.each([["65536"], ["x"], ["-1"], ["1.5"]])("refuses the port %s", async (port) => {
    const { code, stderr } = await train(await prepareTraining(), [`--live=${port}`]);
    expect(stderr).toBe(`dpo-train: --live must be a whole number from 0 to 65535, got "${port}"\n`);
    expect(code).toBe(2);
  });

  it("refuses a port that is taken, before anything is written", async () => {
    const holder = createServer();
    onTestFinished(() => void holder.close());
    await new Promise<void>((resolve) => void holder.listen(0, "127.0.0.1", resolve));
    const { port } = holder.address() as AddressInfo;
    const { code, stderr } = await train(await prepareTraining(), ["--live", String(port)]);
    expect(stderr).toContain(`--live: port ${port} of 127.0.0.1 cannot be had (EADDRINUSE)`);
    expect(code).toBe(2);
  });

  it("of a report shows a run until it is interrupted", async () => {
    const child = start(["report", await runFolder(), "--live", "0"]);
    const url = await addressOf(child);
    expect(await (await fetch(url)).text()).toContain("<h1>one");
    const end = ended(child);
    child.kill("SIGINT");
    expect(await end).toMatchObject({ code: 0, stderr: "" });
  });

  it.each([
    [["report", "a", "b", "--live"], "--live shows one run, found 2 folders: name one"],
    [["report", "a", "--live", "0", "--sync"], "--live writes and sends nothing: remove --out and --sync"],
    [["report", "--live", "runs/one"], "'runs/one' is invalid. It must be a port; the folder stands in front"],
    [["report", "no-such-folder", "--live", "0"], "no-such-folder must be the output folder of a run"],
  ])("is refused for %j", async (args, message) => {
    const { code, stderr } = await dpoTrain(args);
    expect(stderr).toContain(message);
    expect(code).toBe(2);
  });
});
