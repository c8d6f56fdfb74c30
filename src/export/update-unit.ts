import type { LoraAdapter } from "../weights/peft-adapter.ts";
import { loraScale } from "../weights/peft-config.ts";
import { PROJECTIONS } from "../weights/projections.ts";

/**
 * A power of two that brings the adapter's largest possible update to about 1, so that its squares neither vanish nor
 * overflow in f32. No more than 2^±40: what arrives of a tiny update may be a whole step of a large weight.
 */
export function updateUnit(adapter: LoraAdapter): number {
  let largest = 0;
  for (const layer of adapter.layers) {
    for (const projection of PROJECTIONS) {
      const factors = layer[projection];
      if (factors) largest = Math.max(largest, largestMagnitude(factors.a) * largestMagnitude(factors.b));
    }
  }
  const bound = largest * adapter.r * loraScale(adapter);
  if (!(bound > 0)) return 1; // No update, or one of NaN, which the merge refuses.
  return 2 ** Math.max(-40, Math.min(40, -Math.ceil(Math.log2(bound))));
}

function largestMagnitude(values: Float32Array): number {
  let largest = 0;
  for (let i = 0; i < values.length; i++) largest = Math.max(largest, Math.abs(values[i]!));
  return largest;
}
