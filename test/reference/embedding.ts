import type { Numbers } from "../numbers.ts";
import { gatherRows } from "./rows.ts";

/** x[t] = W[tokens[t]]. W (V, C), x (T, C). */
export function embedding(tokens: Numbers, w: Numbers, cols: number): Float64Array {
  return gatherRows(w, tokens, cols);
}
