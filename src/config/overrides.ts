import { printable } from "../text.ts";
import { isKey, isSection } from "./keys.ts";
import { parseYaml } from "./parse.ts";
import { ALTERNATIVES } from "./rules.ts";
import { writeOut } from "./short-form.ts";
import type { MapTree, Place, Problem, Tree } from "./tree.ts";
import { unknownKeyMessage } from "./unknown.ts";
import { UNSUPPORTED } from "./unsupported.ts";

interface Override {
  readonly key: string;
  readonly value: Tree;
  readonly place: Place;
}

/**
 * Puts `--set KEY=VALUE` into a config as it was read from its file. VALUE is YAML; `null` removes the key, so that its
 * default holds. To set one of two alternatives (`max_steps`, `num_train_epochs`) removes the other from the file.
 */
export function applyOverrides(root: MapTree, options: readonly string[]): Problem[] {
  const problems: Problem[] = [];
  const overrides: Override[] = [];
  options.forEach((option, index) => {
    const read = readOverride(option, index);
    if ("problems" in read) problems.push(...read.problems);
    else overrides.push(read);
  });
  overrides.forEach((override, i) => {
    const { key, place } = override;
    const later = overrides.slice(i + 1).find((o) => o.key === key || key.startsWith(`${o.key}.`));
    if (later !== undefined) problems.push({ place, message: `has no effect: ${later.key} is set again after it` });
    else setSetting(root, override.key, override.value, override.place);
  });
  return problems;
}

function readOverride(option: string, index: number): Override | { problems: readonly Problem[] } {
  const equals = option.indexOf("=");
  const key = equals < 0 ? option : option.slice(0, equals);
  const place: Place = { kind: "option", index, key: printable(key === "" ? option : key, 60) };
  const refuse = (message: string) => ({ problems: [{ place, message }] });
  if (equals < 1) return refuse("must be KEY=VALUE");
  if (!isKey(key) && key !== "sweep" && !UNSUPPORTED.some((unsupported) => unsupported.key === key))
    return refuse(unknownKeyMessage(key));
  const { root, problems } = parseYaml(option.slice(equals + 1), place);
  if (problems.length > 0) return { problems };
  if (root === undefined || (root.kind === "scalar" && root.value === null && root.source === "")) {
    return refuse(`needs a value after "="; to remove the key write ${key}=null`);
  }
  return { key, value: root, place };
}

/** Gives a setting (`beta`, `lora.r`) a value; null removes it. */
export function setSetting(root: MapTree, key: string, value: Tree, place: Place): void {
  const [first = "", inner] = key.split(".");
  if (inner === undefined) {
    setOrRemove(root, first, value, place);
    return;
  }
  writeOut(root);
  if (!root.entries.has(first)) {
    root.entries.set(first, { keyPlace: place, value: { kind: "map", place, entries: new Map() } });
  }
  const section = root.entries.get(first)?.value;
  // A section that is not a map is reported as such.
  if (isSection(first) && section?.kind === "map") setOrRemove(section, inner, value, place);
}

function setOrRemove(map: MapTree, key: string, value: Tree, place: Place): void {
  map.entries.delete(key);
  if (value.kind === "scalar" && value.value === null) return;
  map.entries.set(key, { keyPlace: place, value });
  const pair = ALTERNATIVES.find((names) => names.some((name) => name === key));
  for (const other of pair ?? []) {
    if (other !== key && map.entries.get(other)?.keyPlace.kind === "file") map.entries.delete(other);
  }
}
