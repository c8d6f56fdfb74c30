import { createRequire } from "node:module";

export interface Versions {
  readonly "dpo-train": string;
  readonly node: string;
  readonly webgpu: string;
  readonly platform: string;
}

/** Of what a run was made with. */
export function versions(): Versions {
  const require = createRequire(import.meta.url);
  const versionOf = (manifest: string) => (require(manifest) as { version: string }).version;
  return {
    "dpo-train": versionOf("../../package.json"),
    node: process.version,
    webgpu: versionOf("webgpu/package.json"),
    platform: `${process.platform}-${process.arch}`,
  };
}
