import type { ExportDtype } from "../config/names.ts";
import type { FloatDtype } from "../weights/half.ts";

/** torch's name of a dtype, as a config spells it → that of safetensors. */
export const FILE_DTYPE = { bfloat16: "BF16", float16: "F16", float32: "F32" } as const satisfies Record<
  ExportDtype,
  FloatDtype
>;

/** The largest finite value of each dtype. */
export const LARGEST_VALUE = {
  bfloat16: (2 - 2 ** -7) * 2 ** 127,
  float16: 65504,
  float32: (2 - 2 ** -23) * 2 ** 127,
} as const satisfies Record<ExportDtype, number>;
