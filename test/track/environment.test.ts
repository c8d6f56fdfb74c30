import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it, vi } from "vitest";
import { TRACKERS, type TrackerName } from "../../src/config/names.ts";
import { InputError } from "../../src/errors.ts";
import { type Environment, findTrackers, readEnvironment } from "../../src/track/environment.ts";
import { temporaryFolder } from "../weights/fixtures.ts";

const COMPLETE: Environment = {
  COMET_API_KEY: "c-secret",
  COMET_WORKSPACE: "team",
  WANDB_API_KEY: "w-secret",
  MLFLOW_TRACKING_URI: "http://127.0.0.1:5000/",
};

it("all trackers come of a complete environment", () => {
  const trackers = findTrackers(TRACKERS, COMPLETE).map((create) => create("runs/first"));
  expect(trackers.map(({ name }) => name)).toEqual(TRACKERS);
});

it.each<[TrackerName, string, string | undefined, string]>([
  ["comet_ml", "COMET_API_KEY", undefined, "report_to comet_ml needs COMET_API_KEY, your API key from https://"],
  [
    "comet_ml",
    "COMET_WORKSPACE",
    " ",
    "report_to comet_ml needs COMET_WORKSPACE, the workspace to write to: set it in",
  ],
  ["wandb", "WANDB_API_KEY", undefined, "report_to wandb needs WANDB_API_KEY, your API key from https://wandb.ai/"],
  [
    "mlflow",
    "MLFLOW_TRACKING_URI",
    undefined,
    "report_to mlflow needs MLFLOW_TRACKING_URI, the address of your server",
  ],
  ["wandb", "WANDB_API_KEY", "sec ret", "WANDB_API_KEY does not hold a key: it has a blank"],
  ["comet_ml", "COMET_API_KEY", "secret\u{1f511}", "COMET_API_KEY does not hold a key: it has a blank"],
  ["mlflow", "MLFLOW_TRACKING_TOKEN", "sec\nret", "MLFLOW_TRACKING_TOKEN does not hold a key"],
  ["mlflow", "MLFLOW_TRACKING_URI", "databricks", "MLFLOW_TRACKING_URI must be an http or https address such as"],
  [
    "mlflow",
    "MLFLOW_TRACKING_URI",
    "file:///mlruns",
    'must be an http or https address such as http://127.0.0.1:5000, got "file:',
  ],
  [
    "mlflow",
    "MLFLOW_TRACKING_URI",
    "http://me:secret@host",
    "MLFLOW_TRACKING_URI must be the bare address, without a user",
  ],
  [
    "wandb",
    "WANDB_BASE_URL",
    "https://w/?key=1",
    "WANDB_BASE_URL must be an http or https address such as https://api",
  ],
])("%s with %s %j is refused before anything starts", (tracker, variable, value, message) => {
  const attempt = () => findTrackers([tracker], { ...COMPLETE, [variable]: value });
  expect(attempt).toThrow(InputError);
  expect(attempt).toThrow(message);
  try {
    attempt();
  } catch (error) {
    expect(String(error)).not.toMatch(/sec\s?ret/);
  }
});

it(".env gives what the process does not have, and changes nothing of the process", async () => {
  const file = join(await temporaryFolder(), ".env");
  await writeFile(file, 'WANDB_API_KEY="from file"\nexport COMET_WORKSPACE=team # mine\nHOME=/wrong\n');
  vi.stubEnv("WANDB_API_KEY", "");
  try {
    const environment = readEnvironment(file);
    expect(environment).toMatchObject({ WANDB_API_KEY: "from file", COMET_WORKSPACE: "team", HOME: process.env.HOME });
    expect(process.env.WANDB_API_KEY).toBe("");
  } finally {
    vi.unstubAllEnvs();
  }
  expect(readEnvironment(join(file, "none")).HOME).toBe(process.env.HOME);
});
