import { spawnSync } from "node:child_process";

/** The Python that makes models and runs cuBLAS and TRL, as found. */
export interface PythonFacts {
  readonly command: string;
  /** Null where there is none that runs. */
  readonly version: string | null;
  /** Versions of the packages that matter; those that are not installed are not in it. */
  readonly packages: Readonly<Record<string, string>>;
}

const PACKAGES = ["torch", "transformers", "peft", "datasets", "trl", "liger_kernel"];
const SCRIPT = `
import importlib.metadata, json, platform
versions = {}
for name in ${JSON.stringify(PACKAGES)}:
    try: versions[name] = importlib.metadata.version(name.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError: pass
print(json.dumps([platform.python_version(), versions]))`;

/** Nothing is fetched: what is measured lies here. */
export const PYTHON_ENVIRONMENT = {
  HF_HUB_OFFLINE: "1",
  TRANSFORMERS_OFFLINE: "1",
  HF_DATASETS_OFFLINE: "1",
  PYTHONUNBUFFERED: "1",
  TOKENIZERS_PARALLELISM: "false",
};

export function findPython(command: string): PythonFacts {
  const { status, stdout } = spawnSync(command, ["-c", SCRIPT], { encoding: "utf8", timeout: 20_000 });
  if (status !== 0) return { command, version: null, packages: {} };
  const [version, packages] = JSON.parse(stdout) as [string, Record<string, string>];
  return { command, version, packages };
}

/** Why a script that needs these packages cannot run, or null. */
export function lacking({ command, version, packages }: PythonFacts, needed: readonly string[]): string | null {
  if (version === null)
    return `needs Python with ${needed.join(", ")}, and ${command} does not run (PYTHON names another)`;
  const missing = needed.filter((name) => packages[name] === undefined);
  return missing.length === 0 ? null : `${command} has no ${missing.join(", ")} (PYTHON names another)`;
}
