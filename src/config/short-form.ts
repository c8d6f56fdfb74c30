import { SHORT_FORM } from "./keys.ts";
import type { MapTree } from "./tree.ts";

/** Writes a section out that a text stands for: `push_to_hub: owner/name` becomes `push_to_hub: {repo: owner/name}`. */
export function writeOut(root: MapTree): void {
  const { section, setting } = SHORT_FORM;
  const entry = root.entries.get(section);
  if (entry?.value.kind !== "scalar" || typeof entry.value.value !== "string") return;
  const value: MapTree = { kind: "map", place: entry.value.place, entries: new Map([[setting, entry]]) };
  root.entries.set(section, { keyPlace: entry.keyPlace, value });
}
