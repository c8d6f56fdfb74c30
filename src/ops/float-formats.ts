import type { FloatDtype } from "../weights/half.ts";

/** As `kernels/library/float_formats.wgsl` numbers them. */
export const DTYPE_NUMBER = { BF16: 0, F16: 1, F32: 2 } as const satisfies Record<FloatDtype, number>;
