import type { FragmentUnit } from "../../src/gpu/fragment-unit.ts";
import { Gpu } from "../../src/gpu/gpu.ts";
import { readKernel } from "../../src/platform/kernels.ts";

// Kernels written for an adapter's subgroup matrices, run on one that has others. Each subgroup is so many neighbouring
// invocations of a workgroup, which exchange a matrix through workgroup memory: slow, but the kernels, their tiles and
// their indexes are those of the adapter that is emulated. All subgroups of a workgroup must run the same code, as ours do.

/** The sizes of an NVIDIA GPU. */
export const SUBGROUP_OF_32_MATRICES_OF_16 = { matrixM: 16, matrixN: 16, matrixK: 16, subgroupSize: 32 } as const;

/**
 * The same device with the subgroup matrices that `fragments` names. It needs shader-f16, as the kernels themselves do.
 */
export function withEmulatedMatrices({ device }: Gpu, fragments: FragmentUnit): Gpu {
  const emulated = new Proxy(device, {
    get: (target, key) => {
      if (key === "createShaderModule") {
        return (descriptor: GPUShaderModuleDescriptor) =>
          target.createShaderModule({ ...descriptor, code: emulateMatrices(descriptor.code, fragments) });
      }
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return new Gpu(emulated, { kernelSource: readKernel, subgroupSize: fragments.subgroupSize, fragments });
}

/** A kernel's text with functions in place of the built-ins on subgroup matrices. */
function emulateMatrices(code: string, { subgroupSize }: Pick<FragmentUnit, "subgroupSize">): string {
  const [, k, m] = /alias Left = subgroup_matrix_left<f16, (\d+), (\d+)>;/.exec(code) ?? [];
  const [, n] = /alias Right = subgroup_matrix_right<f16, (\d+), \d+>;/.exec(code) ?? [];
  if (!k || !m || !n) return code;
  const loads = new Map<string, string>();
  const stores = new Map<string, string>();
  const calls = code
    .replace(/subgroupMatrixLoad<(Left|Right), (row|col)_major>\(&(\w+), /g, (_, side, order, array) => {
      const name = `emulated_load_${side}_${order}_${array}`.toLowerCase();
      loads.set(
        name,
        emulatedLoad(name, { side, order, array, rows: side === "Left" ? m : k, cols: side === "Left" ? k : n }),
      );
      return `${name}(`;
    })
    .replace(/subgroupMatrixStore<row_major>\(&(\w+), /g, (_, array) => {
      const name = `emulated_store_${array}`;
      const [, element = ""] = new RegExp(`var<workgroup> ${array}: array<(\\w+),`).exec(code) ?? [];
      stores.set(name, emulatedStore(name, array, element, n));
      return `${name}(`;
    })
    .replaceAll("subgroupMatrixMultiplyAccumulate(", "emulated_multiply(")
    .replace(/alias Left = .*;/, `alias Left = array<f32, ${(Number(m) * Number(k)) / subgroupSize}>;`)
    .replace(/alias Right = .*;/, `alias Right = array<f32, ${(Number(k) * Number(n)) / subgroupSize}>;`)
    .replace(/alias Sum = .*;/, `alias Sum = array<f32, ${(Number(m) * Number(n)) / subgroupSize}>;`)
    .replace(/fn main\([^{]*\{/, (main) => `${main}\n  emulated_thread = thread;`)
    .replace(/enable (subgroups|chromium_experimental_subgroup_matrix);\n/g, "")
    .replace(/diagnostic\(off, chromium\.subgroup_matrix_uniformity\);\n/, "");
  return [
    calls,
    "var<private> emulated_thread: u32;",
    `var<workgroup> emulated_left: array<array<f32, ${Number(m) * Number(k)}>, THREADS / ${subgroupSize}>;`,
    `var<workgroup> emulated_right: array<array<f32, ${Number(k) * Number(n)}>, THREADS / ${subgroupSize}>;`,
    `fn emulated_multiply(left: Left, right: Right, sum: Sum) -> Sum {
      let lane = emulated_thread % ${subgroupSize}u;
      let subgroup = emulated_thread / ${subgroupSize}u;
      workgroupBarrier();
      for (var i = 0u; i < ${(Number(m) * Number(k)) / subgroupSize}u; i++) {
        emulated_left[subgroup][lane + ${subgroupSize}u * i] = left[i];
      }
      for (var i = 0u; i < ${(Number(k) * Number(n)) / subgroupSize}u; i++) {
        emulated_right[subgroup][lane + ${subgroupSize}u * i] = right[i];
      }
      workgroupBarrier();
      var result = sum;
      for (var i = 0u; i < ${(Number(m) * Number(n)) / subgroupSize}u; i++) {
        let at = lane + ${subgroupSize}u * i;
        for (var k = 0u; k < ${k}u; k++) {
          result[i] += emulated_left[subgroup][at / ${n}u * ${k}u + k] * emulated_right[subgroup][k * ${n}u + at % ${n}u];
        }
      }
      return result;
    }`,
    ...loads.values(),
    ...stores.values(),
  ].join("\n");

  function emulatedLoad(
    name: string,
    { side, order, array, rows, cols }: { side: string; order: string; array: string; rows: string; cols: string },
  ): string {
    const elements = (Number(rows) * Number(cols)) / subgroupSize;
    const [line, place] = order === "row" ? ["r", "c"] : ["c", "r"];
    return `fn ${name}(first: u32, stride: u32) -> ${side} {
      var result: ${side};
      for (var i = 0u; i < ${elements}u; i++) {
        let at = emulated_thread % ${subgroupSize}u + ${subgroupSize}u * i;
        let r = at / ${cols}u;
        let c = at % ${cols}u;
        let eight = ${array}[first + ${line} * stride + ${place} / 8u];
        result[i] = unpack2x16float(eight[${place} % 8u / 2u])[${place} % 2u];
      }
      return result;
    }`;
  }

  function emulatedStore(name: string, array: string, element: string, cols: string): string {
    const lanes = element.startsWith("vec4") ? 4 : 1;
    const value = element === "vec4u" ? "bitcast<u32>(sum[i])" : "sum[i]";
    const place = lanes === 4 ? "[first + r * stride + c / 4u][c % 4u]" : "[first + r * stride + c]";
    return `fn ${name}(first: u32, sum: Sum, stride: u32) {
      for (var i = 0u; i < ${(Number(m) * Number(cols)) / subgroupSize}u; i++) {
        let at = emulated_thread % ${subgroupSize}u + ${subgroupSize}u * i;
        let r = at / ${cols}u;
        let c = at % ${cols}u;
        ${array}${place} = ${value};
      }
    }`;
  }
}
