import { FLOAT_DTYPES, type FloatDtype, isFloatDtype } from "./half.ts";
import { listNames } from "./problems.ts";

/** What is known of a stored tensor before its data is read. */
export interface StoredTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
}

/** Stored tensors whose shape is not the expected one, for a message; undefined when there is none. */
export function describeWrongShapes(
  expected: ReadonlyMap<string, readonly number[]>,
  stored: ReadonlyMap<string, StoredTensor>,
): string | undefined {
  const wrong: string[] = [];
  for (const [name, shape] of expected) {
    const found = stored.get(name)?.shape;
    if (found === undefined || (found.length === shape.length && found.every((size, i) => size === shape[i]))) continue;
    wrong.push(`"${name}" must be [${shape.join(", ")}], found [${found.join(", ")}]`);
  }
  return wrong.length > 1 ? `${wrong[0]} (and ${wrong.length - 1} more tensors have other shapes)` : wrong[0];
}

/** Of the named tensors those that are not stored as BF16, F16 or F32, for a message; undefined when there is none. */
export function describeWrongDtypes(
  names: Iterable<string>,
  stored: ReadonlyMap<string, StoredTensor>,
): string | undefined {
  const wrong = [...names].filter((name) => stored.has(name) && !isFloatDtype(stored.get(name)!.dtype));
  if (wrong.length === 0) return undefined;
  const dtypes = [...new Set(wrong.map((name) => stored.get(name)!.dtype))].sort().join(", ");
  return `must be stored in ${FLOAT_DTYPES.join(", ")}, found ${dtypes} in ${listNames(wrong)}`;
}

/** The dtype of a tensor in which `describeWrongDtypes` found no fault. */
export function floatDtype(tensor: StoredTensor): FloatDtype {
  if (!isFloatDtype(tensor.dtype)) throw new Error(`internal: a tensor of dtype ${tensor.dtype} was not refused`);
  return tensor.dtype;
}
