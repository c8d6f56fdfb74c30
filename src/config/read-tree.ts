import { type Document, isAlias, isMap, isScalar, isSeq, type Node, type Scalar, visit, type YAMLMap } from "yaml";
import { printable } from "../text.ts";
import type { Entry, Place, Problem, ScalarTree, Tree } from "./tree.ts";

export interface TreeRead {
  readonly root: Tree | undefined;
  readonly problems: readonly Problem[];
  /** False where an alias stands for nothing that a config may hold. */
  readonly isComplete: boolean;
}

/** A composed document as a tree, leaving out each entry of a map that reaches `end`, where the YAML breaks. */
export function readTree(document: Document, placeAt: (offset: number) => Place, end: number): TreeRead {
  const problems: Problem[] = [];
  const aliases = anchoredNodes(document);
  const startOf = (node: Node) => node.range?.[0] ?? 0;

  let isComplete = true;

  function read(node: Node): Tree | undefined {
    const place = placeAt(startOf(node));
    if (isMap(node)) return { kind: "map", place, entries: readEntries(node) };
    if (isSeq(node)) {
      const items = node.items.map((item) => read(item as Node)).filter((item) => item !== undefined);
      return { kind: "list", place, items };
    }
    const target = isAlias(node) ? aliases.get(node) : node;
    if (isScalar(target)) return readScalar(target, place);
    const alias = isAlias(node) ? `*${printable(node.source, 60)}` : "";
    const fault = target === undefined ? "has no anchor before it" : "stands for a map or a list: write it out";
    problems.push({ place, message: `the alias ${alias} ${fault}` });
    isComplete = false;
    return undefined;
  }

  function readEntries(map: YAMLMap): Map<string, Entry> {
    const entries = new Map<string, Entry>();
    for (const pair of map.items) {
      const key = pair.key as Node;
      const value = pair.value as Node | null;
      // A key that is not a scalar has been reported as a syntax error; an empty value may come from one further on.
      if (!isScalar(key) || (value?.range?.[1] ?? startOf(key)) >= end) continue;
      if (end < Number.POSITIVE_INFINITY && isEmpty(value)) continue;
      const name = String(key.value);
      const keyPlace = placeAt(startOf(key));
      const earlier = entries.get(name);
      if (name === "<<") {
        problems.push({ place: keyPlace, message: "merge keys (<<) are not supported: write the keys out" });
      } else if (earlier !== undefined) {
        const line = earlier.keyPlace.kind === "file" ? ` on line ${earlier.keyPlace.line}` : "";
        problems.push({ place: keyPlace, message: `duplicate key ${printable(name, 60)}: already set${line}` });
      } else {
        const tree = value === null ? { ...NOTHING, place: keyPlace } : read(value);
        if (tree !== undefined) entries.set(name, { keyPlace, value: tree });
      }
    }
    return entries;
  }

  const root = document.contents === null ? undefined : read(document.contents);
  return { root, problems, isComplete };
}

function isEmpty(node: Node | null): boolean {
  return node === null || (isScalar(node) && node.value === null);
}

const NOTHING = { kind: "scalar", value: null, source: "", isQuoted: false } as const;

function readScalar(scalar: Scalar, place: Place): ScalarTree {
  const value = scalar.value as string | number | boolean | null;
  const isQuoted = scalar.type === "QUOTE_DOUBLE" || scalar.type === "QUOTE_SINGLE";
  // `-0` is 0: nothing in a config tells them apart.
  return { kind: "scalar", place, value: value === 0 ? 0 : value, source: scalar.source ?? "", isQuoted };
}

/**
 * What each alias stands for: the last node before it with that anchor. The library's own look-up walks the document
 * for every alias, which a hostile file could make last for hours.
 */
function anchoredNodes(document: Document): ReadonlyMap<Node, Node> {
  const anchors = new Map<string, Node>();
  const targets = new Map<Node, Node>();
  visit(document, {
    Node(_, node) {
      if (isAlias(node)) {
        const target = anchors.get(node.source);
        if (target !== undefined) targets.set(node, target);
      } else if (node.anchor !== undefined) {
        anchors.set(node.anchor, node);
      }
    },
  });
  return targets;
}
