import { existsSync } from "node:fs";
import { cp, readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { pushCommand } from "../../src/cli/push-run.ts";
import { dumpConfig } from "../../src/config/dump.ts";
import { parseSweep } from "../../src/config/sweep.ts";
import { remoteModel, startPushHub, TOKEN } from "../hub/loopback-push.ts";
import { BASE, finishedFolder, HUB_CONFIG, MERGED_FILES } from "../publish/finished-folder.ts";
import { RUN } from "../report/run-folders.ts";
import { temporaryFolder } from "../weights/fixtures.ts";
import { dpoTrain, ended, start } from "./process.ts";
import { prepareTraining, train } from "./training.ts";

const NAME = "ada/llama-dpo";
const OFFLINE = { HF_HUB_OFFLINE: "1", HF_TOKEN: "", HF_HOME: "/nowhere", HF_ENDPOINT: "" };

describe("dpo-train push --dry-run", () => {
  it("shows files and model card without a token or the network", async () => {
    const folder = await finishedFolder();
    const { code, stdout, stderr } = await dpoTrain(["push", folder, "--to", NAME, "--dry-run"], {
      environment: OFFLINE,
    });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^would push merged\/ to https:\/\/huggingface.co\/ada\/llama-dpo \(private\):$/m);
    for (const name of MERGED_FILES) expect(stdout).toMatch(new RegExp(`^  ${name} +\\d+ bytes$`, "m"));
    expect(stdout).toContain("the Hub was not asked: HF_HUB_OFFLINE forbids the network");
    expect(stdout).toContain(`base_model: "${BASE}"`);
    expect(stdout).toContain("rafailov2023direct");
  });

  it("takes the merged model where there is one, unless push_to_hub.what says otherwise", async () => {
    const show = async (more: string) => {
      const config = `${HUB_CONFIG}export: {merged_16bit: false}\npush_to_hub: {repo: ${NAME}${more}}\n`;
      return (await dpoTrain(["push", await finishedFolder({ config }), "--dry-run"], { environment: OFFLINE })).stdout;
    };
    expect(await show("")).toMatch(/^would push merged\/ /);
    expect(await show(", what: adapter")).toMatch(/^would push adapter\/ /);
  });

  it("asks the Hub where it can, and changes nothing there", async () => {
    const hub = await startPushHub();
    const command = ["push", await finishedFolder(), "--to", NAME, "--what", "adapter", "--public", "--dry-run"];
    const made = await dpoTrain(command, { environment: hub.environment });
    expect(made.stdout).toContain(`${NAME} would be made on ${hub.endpoint}`);
    hub.models.set(NAME, remoteModel(false, { "model.safetensors": "x" }));
    const other = await dpoTrain(command, { environment: hub.environment });
    expect(other).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("holds another model, of which model.safetensors"),
    });
    const reads = hub.seen.every(({ method, path }) => method === "GET" || path === "/api/validate-yaml");
    expect({ reads, violations: hub.violations }).toEqual({ reads: true, violations: [] });
  });
});

describe("dpo-train push", () => {
  it("pushes what the config names, and again only what has changed", async () => {
    const hub = await startPushHub();
    const folder = await finishedFolder();
    const command = ["push", folder, "--to", NAME];
    const first = await dpoTrain(command, { environment: hub.environment });
    expect(first).toMatchObject({ code: 0, stderr: "" });
    expect(first.stdout).toContain(`pushed 7 files, 0.0 MB: ${hub.endpoint}/${NAME} (private)`);
    expect([...hub.models.get(NAME)!.branches.get("main")!.keys()].sort()).toEqual(
      [".gitattributes", ...MERGED_FILES].sort(),
    );
    const again = await dpoTrain(command, { environment: hub.environment });
    expect(again.stdout).toContain("pushed 7 files, 0.0 MB, of which 2 had arrived before");
    expect(hub.seen.filter(({ method }) => method === "PUT")).toHaveLength(2);
    expect(hub.violations).toEqual([]);
    expect(first.stdout + again.stdout).not.toContain(TOKEN);
  });

  it("sends nothing where the Hub would refuse the model card in the end", async () => {
    const hub = await startPushHub();
    const body = JSON.stringify({ errors: [{ message: '"license" must be one of [mit]' }], warnings: [] });
    const headers = { "content-type": "application/json" };
    hub.fault = ({ path }) => (path === "/api/validate-yaml" ? { status: 400, headers, body } : null);
    const folder = await finishedFolder({ files: { "merged/README.md": "---\nlicense: free\n---\n" } });
    const { code, stderr } = await dpoTrain(["push", folder, "--to", NAME], { environment: hub.environment });
    expect(code).toBe(2);
    const refusal = 'the Hub refuses the metadata of the model card: "license" must be one of [mit]';
    expect(stderr).toContain(`${refusal}; mend ${folder}/merged/README.md`);
    expect(hub.models.size + hub.objects.size).toBe(0);
  });

  it("ends at once on Ctrl-C, and the same command completes it", async () => {
    const hub = await startPushHub();
    hub.partBytes = 200_000;
    const folder = await finishedFolder({ shardBytes: 500_000 });
    const command = ["push", folder, "--to", NAME];
    hub.fault = ({ method, path }) =>
      method === "PUT" && path.endsWith("/2") ? { status: 503, headers: { "retry-after": "200" } } : null;
    const child = start(command, { environment: hub.environment });
    child.stdout!.on("data", (text: Buffer) => {
      if (text.toString().includes("asks to wait 200 s")) child.kill("SIGINT");
    });
    const { code, stderr } = await ended(child);
    expect({ code, stderr }).toEqual({
      code: 130,
      stderr: "dpo-train: interrupted; the same command sends what has not arrived\n",
    });
    expect(hub.models.get(NAME)!.commits).toEqual([]);
    hub.fault = () => null;
    expect(await dpoTrain(command, { environment: hub.environment })).toMatchObject({ code: 0 });
    expect(hub.violations).toEqual([]);
  });

  it("streams from the disk", async () => {
    const hub = await startPushHub();
    hub.partBytes = 2 ** 30;
    const folder = await finishedFolder();
    await truncate(join(folder, "merged/model-00001-of-00002.safetensors"), 300e6);
    const tellMemory = "process.on('exit', () => console.error(process.resourceUsage().maxRSS));";
    const node = [`--import=data:text/javascript,${encodeURIComponent(tellMemory)}`];
    const { code, stderr } = await dpoTrain(["push", folder, "--to", NAME], { environment: hub.environment, node });
    expect(code).toBe(0);
    expect(Number(stderr) / 1000).toBeLessThan(300); // Of it about 120 MB are the program itself.
  });

  it.each([
    [[], "--to owner/name is needed: .* was trained without push_to_hub"],
    [["--to", "llama"], '--to must be a Hugging Face Hub id as owner/name, got "llama"'],
    [["--to", NAME, "--revision", "a b"], '--revision must be the name of a branch, got "a b"'],
    [["--to", NAME, "--public", "--private"], "option '--public' cannot be used with option '--private'"],
    [["--to", NAME], "holds a run that was stopped after step 9"],
  ])("refuses %j", async (options, message) => {
    const folder = await finishedFolder({ run: { ...RUN, status: "stopped", steps_done: 9 } });
    const { code, stderr } = await dpoTrain(["push", folder, ...options], { environment: OFFLINE });
    expect(code).toBe(2);
    expect(stderr).toMatch(new RegExp(message));
  });
});

it("names the command that pushes the rest as a shell takes it", () => {
  const settings = { repository: NAME, revision: "main", isPrivate: false, what: "merged", baseModel: null } as const;
  expect(pushCommand(settings, "runs/it's mine")).toBe(
    `dpo-train push 'runs/it'\\''s mine' --to ${NAME} --what merged --public`,
  );
});

describe("a sweep with push_to_hub", () => {
  it("pushes its best run alone, also where all are done", async () => {
    const hub = await startPushHub();
    const folder = await temporaryFolder();
    const config = join(folder, "sweep.yaml");
    const text = `model: m\ndataset: d\ntest_size: 0.1\npush_to_hub: ${NAME}\noutput_dir: ${join(folder, "out")}\nsweep: {grid: {beta: [0.1, 0.5]}}\n`;
    await writeFile(config, text);
    const { runs } = parseSweep(text, config);
    for (const [i, run] of runs.entries()) {
      const output = run.config.output_dir;
      const finished = await finishedFolder({ config: dumpConfig(run.config), rate: i + 1 });
      await cp(finished, output, { recursive: true });
    }
    const { code, stdout, stderr } = await dpoTrain(["sweep", "--config", config], { environment: hub.environment });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain(`the best run will push merged/ to ${hub.endpoint}/${NAME} (private)`);
    expect(stdout).toMatch(/^pushed 7 files, /m);
    expect(hub.models.get(NAME)!.commits).toHaveLength(1);
    const card = hub.models.get(NAME)!.branches.get("main")!.get("README.md")!.toString("utf8");
    expect(card).toContain("| `beta` | 0.5 |");
    expect(hub.violations).toEqual([]);
  });
});

describe("a run with push_to_hub", () => {
  it("is refused before anything is read or written where it could not be pushed", async () => {
    const training = await prepareTraining(`push_to_hub: ${NAME}\n`);
    expect(await train(training, [], { environment: { ...OFFLINE, HF_HUB_OFFLINE: "" } })).toMatchObject({
      code: 2,
      stdout: "",
      stderr: expect.stringContaining("needs a token that may write there"),
    });
    const adapter = ["--set", "push_to_hub.what=adapter"];
    expect(await train(training, adapter, { environment: OFFLINE })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("name that one's Hub id in push_to_hub.base_model"),
    });
    expect(existsSync(training.output)).toBe(false);
  });

  it("goes on without the Hub, is pushed at its end, and loses nothing where that fails", async () => {
    const hub = await startPushHub();
    const training = await prepareTraining(
      `push_to_hub: {repo: ${NAME}, private: false}\nsample_prompt: Who?\nsample_max_new_tokens: 4\n`,
    );
    const planned = await train(training, ["--dry-run"], { environment: hub.environment });
    expect(planned.stdout).toContain(`the run will push merged/ to ${hub.endpoint}/${NAME} (public)`);
    hub.fault = ({ nth, path }) => {
      if (path === "/api/whoami-v2") return nth <= 4 ? { status: 503, headers: { "retry-after": "0" } } : null;
      return path.includes("/commit/") ? { status: 507 } : null;
    };
    const failed = await train(training, [], { environment: hub.environment });
    expect(failed.stdout).toMatch(/^note: push_to_hub ada\/llama-dpo: .* answered 503 .*\(3 attempts\): whether/m);
    expect(failed.code).toBe(2);
    const remedy = `dpo-train push ${training.output} --to ${NAME} --what merged --public`;
    expect(failed.stderr).toMatch(
      /^dpo-train: the run is done and .* holds it, but it is not on the Hub: .* answered 507/,
    );
    expect(failed.stderr).toContain(`; ${remedy} sends what has not arrived`);
    const run = JSON.parse(await readFile(join(training.output, "run.json"), "utf8")) as { status: string };
    expect(run.status).toBe("done");

    hub.fault = () => null;
    const pushed = await dpoTrain(remedy.split(" ").slice(1), { environment: hub.environment });
    expect(pushed).toMatchObject({ code: 0, stderr: "" });
    expect(pushed.stdout).toMatch(/, of which 1 had arrived before: .* \(public\)$/m);
    const files = hub.models.get(NAME)!.branches.get("main")!;
    const sent = await readdir(join(training.output, "merged"));
    expect([...files.keys()].sort()).toEqual([".gitattributes", "README.md", ...sent].sort());
    const card = files.get("README.md")!.toString("utf8");
    expect(card).toContain("Prompts stood in Alpaca's template");
    for (const secret of [TOKEN, training.folder, "test/golden"]) expect(card).not.toContain(secret);
    const config = await readFile(join(training.output, "config.yaml"), "utf8");
    expect(config + failed.stdout + failed.stderr + pushed.stdout).not.toContain(TOKEN);
    expect(hub.violations).toEqual([]);
  });
});
