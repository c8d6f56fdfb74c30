import { readFileSync } from "node:fs";

const KERNELS = new URL("../../kernels/", import.meta.url);

/** The text of `kernels/<name>.wgsl`, from the package's own folder. */
export function readKernel(name: string): string {
  return readFileSync(new URL(`${name}.wgsl`, KERNELS), "utf8");
}
