import { readFileSync } from "node:fs";
import { parseEnv } from "node:util";
import type { TrackerName } from "../config/names.ts";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { createComet } from "./comet.ts";
import { createMlflow } from "./mlflow.ts";
import { createTensorboard } from "./tensorboard.ts";
import type { Tracker } from "./tracker.ts";
import { createWandb } from "./wandb.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** A tracker for the run of an output folder. */
export type TrackerFactory = (folder: string) => Tracker;

/**
 * The variables of this process, and those of a file `.env` in the folder it was started in that it has not. They stay
 * here: nothing is put into the process's own, which others would inherit.
 *
 * @throws InputError, without what is in it, where the file cannot be read
 */
export function readEnvironment(file = ".env"): Environment {
  const own = Object.fromEntries(Object.entries(process.env).filter(([, value]) => value !== ""));
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return own;
    throw new InputError(`${printable(file)}: cannot be read (${code})`, { cause: error });
  }
  return { ...parseEnv(text), ...own };
}

/**
 * Trackers as the environment has them, with all that they need.
 * @throws InputError naming the variable that is missing or wrong, and the remedy
 */
export function findTrackers(names: readonly TrackerName[], environment: Environment): TrackerFactory[] {
  return names.map((name) => FACTORIES[name](environment));
}

const FACTORIES: Readonly<Record<TrackerName, (environment: Environment) => TrackerFactory>> = {
  tensorboard: () => createTensorboard,
  comet_ml: (environment) => {
    const tracker = createComet({
      key: secret(
        environment,
        "comet_ml",
        "COMET_API_KEY",
        "your API key from https://www.comet.com/account-settings/apiKeys",
      ),
      workspace: required(environment, "comet_ml", "COMET_WORKSPACE", "the workspace to write to"),
      // The SDK's variable names the API of its own client.
      endpoint: address(environment, "COMET_URL_OVERRIDE", "https://www.comet.com").replace(/\/clientlib$/, ""),
      project: environment.COMET_PROJECT_NAME,
      runName: environment.COMET_EXPERIMENT_NAME,
    });
    return () => tracker;
  },
  wandb: (environment) => {
    const tracker = createWandb({
      key: secret(environment, "wandb", "WANDB_API_KEY", "your API key from https://wandb.ai/authorize"),
      endpoint: address(environment, "WANDB_BASE_URL", "https://api.wandb.ai"),
      project: environment.WANDB_PROJECT,
      entity: environment.WANDB_ENTITY,
      runName: environment.WANDB_NAME,
    });
    return () => tracker;
  },
  mlflow: (environment) => {
    required(environment, "mlflow", "MLFLOW_TRACKING_URI", "the address of your server, such as http://127.0.0.1:5000");
    const { authorization, secrets } = mlflowCredentials(environment);
    const tracker = createMlflow({
      endpoint: address(environment, "MLFLOW_TRACKING_URI", ""),
      authorization,
      secrets,
      experiment: environment.MLFLOW_EXPERIMENT_NAME,
      runName: environment.MLFLOW_RUN_NAME,
    });
    return () => tracker;
  },
};

function mlflowCredentials(environment: Environment): { authorization: string | null; secrets: string[] } {
  const { MLFLOW_TRACKING_USERNAME: user, MLFLOW_TRACKING_PASSWORD: password } = environment;
  if (environment.MLFLOW_TRACKING_TOKEN) {
    const token = secret(environment, "mlflow", "MLFLOW_TRACKING_TOKEN", "");
    return { authorization: `Bearer ${token}`, secrets: [token] };
  }
  if (!user || !password) return { authorization: null, secrets: [] };
  const credentials = Buffer.from(`${user}:${password}`).toString("base64");
  return { authorization: `Basic ${credentials}`, secrets: [password, credentials] };
}

function required(environment: Environment, tracker: TrackerName, variable: string, what: string): string {
  const value = environment[variable]?.trim();
  if (value) return value;
  throw new InputError(
    `report_to ${tracker} needs ${variable}, ${what}: set it in the environment or in a file .env in this folder, or take ${tracker} out of report_to`,
  );
}

/** fetch refuses a header with other characters in an error that quotes it, so the key never gets that far. */
function secret(environment: Environment, tracker: TrackerName, variable: string, what: string): string {
  const value = required(environment, tracker, variable, what);
  if (/^[\x21-\x7e]+$/.test(value)) return value;
  throw new InputError(`${variable} does not hold a key: it has a blank, control or non-ASCII character`);
}

function address(environment: Environment, variable: string, otherwise: string): string {
  const text = (environment[variable]?.trim() || otherwise).replace(/\/+$/, "");
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.username || url?.password) {
    throw new InputError(`${variable} must be the bare address, without a user name or password`);
  }
  if (url && /^https?:$/.test(url.protocol) && !url.search && !url.hash) return text;
  throw new InputError(
    `${variable} must be an http or https address such as ${otherwise || "http://127.0.0.1:5000"}, got "${printable(text)}"`,
  );
}
