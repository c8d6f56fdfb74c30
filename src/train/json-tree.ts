/** What a file of a run folder holds, which may be of another version, or edited: nothing is taken for granted. */
export type Tree = Readonly<Record<string, unknown>>;

export function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What stands under these keys, one inside the other; undefined where nothing does. */
export function valueAt(tree: unknown, ...keys: readonly string[]): unknown {
  let value: unknown = tree;
  for (const key of keys) value = isTree(value) && Object.hasOwn(value, key) ? value[key] : undefined;
  return value;
}

export function numberAt(tree: unknown, ...keys: readonly string[]): number | null {
  const value = valueAt(tree, ...keys);
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

export function textAt(tree: unknown, ...keys: readonly string[]): string | null {
  const value = valueAt(tree, ...keys);
  return typeof value === "string" ? value : null;
}

/** The values at the ends of the branches, by their keys as `--set` has them (`lora.r`). A list is one value. */
export function leavesOf(tree: Tree, prefix = ""): [string, unknown][] {
  return Object.entries(tree).flatMap(([key, value]): [string, unknown][] =>
    isTree(value) ? leavesOf(value, `${prefix}${key}.`) : [[`${prefix}${key}`, value]],
  );
}
