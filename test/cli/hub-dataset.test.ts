import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { type Fixture, startFixture, text } from "../hub/fixture.ts";
import { COMMIT, sha256 } from "../hub/loopback-hub.ts";
import { rootPath } from "../model/golden-model.ts";
import { dpoTrain } from "./process.ts";
import { prepareTraining, ROWS, set, train } from "./training.ts";

let fixture: Fixture;
beforeEach(async () => {
  fixture = await startFixture();
  const rows = await readFile(rootPath(ROWS));
  const readme = text("---\nconfigs:\n- config_name: a\n  data_files: [{split: train, path: a.jsonl}]\n---\n");
  fixture.hub.repositories.set(
    "datasets/ada/pairs",
    new Map([
      ["README.md", readme],
      ["a.jsonl", rows],
    ]),
  );
});
afterEach(() => fixture.close());

it("a run trains on a data set of the Hub, and again without the network; plan counts it", async () => {
  const training = await prepareTraining("export: {merged_16bit: false}\n");
  const dataset = set({ dataset: "ada/pairs@main", dataset_config: "a" });
  const environment = { HF_HOME: fixture.home, HF_ENDPOINT: fixture.hub.endpoint, HF_TOKEN: "hf_s3cretT0ken" };
  const { code, stdout, stderr } = await train(training, dataset, { environment });
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout).toContain("training on ada/pairs@main");
  expect(stdout).toContain("ada/pairs/a.jsonl:1");
  const record = await readFile(join(training.output, "run.json"), "utf8");
  expect(record).not.toContain("hf_s3cretT0ken");
  const local = await readFile(rootPath(ROWS));
  expect(JSON.parse(record)).toMatchObject({
    data: { dataset: { repository: "ada/pairs", revision: "main", commit: COMMIT }, train: { rows: { kept: 9 } } },
    sha256: { data: { "ada/pairs/a.jsonl": sha256(local) } },
  });

  fixture.hub.seen.length = 0;
  const offline = { ...environment, HF_HUB_OFFLINE: "1" };
  const again = ["--dry-run", ...dataset, ...set({ output_dir: join(training.folder, "again") })];
  expect(await train(training, again, { environment: offline })).toMatchObject({ code: 0, stderr: "" });
  const plan = ["plan", "--config", training.config, "--json", ...dataset];
  const planned = await dpoTrain(plan, { environment });
  expect(planned).toMatchObject({ code: 0, stderr: "" });
  expect(planned.stdout).not.toContain("cannot be read here");
  expect(fixture.hub.seen).toEqual([]);

  const elsewhere = await dpoTrain(plan, { environment: { ...environment, HF_HOME: training.folder } });
  expect(elsewhere.code).toBe(0);
  expect(elsewhere.stdout).toContain("1000 pairs, as ada/pairs@main cannot be read here (--pairs says how many)");
});
