import { printable } from "../text.ts";

/** Where a value was written: in the file, or in the n-th `--set` of the command line. */
export type Place =
  | { readonly kind: "file"; readonly line: number; readonly column: number }
  | { readonly kind: "option"; readonly index: number; readonly key: string };

/** A mistake of the user: a sentence without its place. */
export interface Problem {
  readonly place: Place;
  readonly message: string;
}

/** YAML as it was written, every value with its place. */
export type Tree = MapTree | ListTree | ScalarTree;

export interface MapTree {
  readonly kind: "map";
  readonly place: Place;
  readonly entries: Map<string, Entry>;
}

export interface Entry {
  readonly keyPlace: Place;
  readonly value: Tree;
}

export interface ListTree {
  readonly kind: "list";
  readonly place: Place;
  readonly items: readonly Tree[];
}

export interface ScalarTree {
  readonly kind: "scalar";
  readonly place: Place;
  readonly value: string | number | boolean | null;
  /** The characters in the file: a number is shown as it was written. */
  readonly source: string;
  readonly isQuoted: boolean;
}

/** Plain data for the schema. A key named `__proto__` stays an ordinary key. */
export function toPlain(tree: Tree): unknown {
  if (tree.kind === "scalar") return tree.value;
  if (tree.kind === "list") return tree.items.map(toPlain);
  return Object.fromEntries([...tree.entries].map(([key, entry]) => [key, toPlain(entry.value)]));
}

/** The value at a path of keys and list indexes, or what is deepest on the way to it. */
export function deepest(root: Tree, path: readonly PropertyKey[]): Tree {
  let node = root;
  for (const step of path) {
    const next = childOf(node, step);
    if (next === undefined) return node;
    node = next;
  }
  return node;
}

export function childOf(node: Tree, step: PropertyKey): Tree | undefined {
  if (node.kind === "map") return node.entries.get(String(step))?.value;
  return node.kind === "list" ? node.items[Number(step)] : undefined;
}

/** "got …" in a message: what was found, as it was written. */
export function shown(tree: Tree): string {
  if (tree.kind === "map") return "a map";
  if (tree.kind === "list") return tree.items.length === 0 ? "an empty list" : "a list";
  if (tree.value === null) return "nothing";
  return typeof tree.value === "string" ? `"${printable(tree.value, 60)}"` : printable(tree.source, 60);
}
