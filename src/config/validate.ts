import type { z } from "zod";
import { isSection, requirementOf, SECTIONS, SETTING_KEYS, type SettingKey } from "./keys.ts";
import { RULES } from "./rules.ts";
import { type Config, configSchema, resolveEvalStrategy } from "./schema.ts";
import { writeOut } from "./short-form.ts";
import { childOf, deepest, type MapTree, type Problem, shown, type Tree, toPlain } from "./tree.ts";
import { unknownKeyInFileMessage } from "./unknown.ts";
import { UNSUPPORTED, unsupportedMessage } from "./unsupported.ts";
import { closest } from "./words.ts";

export type Validated = { readonly config: Config } | { readonly problems: readonly Problem[] };

type Issue = z.core.$ZodIssue;

/**
 * Checks a config as it was written. What is wrong with one setting hides nothing about the others: `root` loses each
 * entry that is reported, and the rest is checked on. With `isComplete` false, missing settings are not reported.
 */
export function validate(root: MapTree, isComplete: boolean): Validated {
  writeOut(root);
  const given = new Set(SETTING_KEYS.filter((key) => isGiven(root, key)));
  const invalid = new Set<string>();
  const problems = [takeUnsupported(root, invalid), takeUnknown(root)];

  const result = configSchema.safeParse(toPlain(root));
  if (!result.success) {
    const failures = onePerValue(result.error.issues).map((issue) => failureOf(root, issue));
    problems.push(failures.filter((f) => f.found !== undefined || isComplete).map((f) => f.problem));
    for (const { key } of failures) invalid.add(key);
    for (const key of invalid) take(root, key);
  }
  if (isComplete) {
    const config = result.success ? result.data : configSchema.parse({ ...STAND_IN, ...(toPlain(root) as object) });
    problems.push(brokenRules(root, resolveEvalStrategy(config), given, invalid));
  }
  const all = problems.flat();
  return all.length > 0 || !result.success ? { problems: all } : { config: resolveEvalStrategy(result.data) };
}

/** Lets the rules be checked where a required setting is missing. No rule reads these. */
const STAND_IN = { model: "missing", dataset: "missing" };

function isGiven(root: MapTree, key: SettingKey): boolean {
  const path = key.split(".");
  return path.reduce<Tree | undefined>((node, step) => node && childOf(node, step), root) !== undefined;
}

function take(root: MapTree, key: string): void {
  const [first = "", inner] = key.split(".");
  const section = root.entries.get(first)?.value;
  if (inner === undefined) root.entries.delete(first);
  else if (section?.kind === "map") section.entries.delete(inner);
}

function takeUnsupported(root: MapTree, invalid: Set<string>): Problem[] {
  return UNSUPPORTED.flatMap((unsupported) => {
    const { key, isRefused } = unsupported;
    const entry = root.entries.get(key);
    if (entry === undefined || !isRefused(toPlain(entry.value))) return [];
    take(root, key);
    invalid.add(key);
    return [{ place: entry.keyPlace, message: unsupportedMessage(unsupported) }];
  });
}

function takeUnknown(root: MapTree): Problem[] {
  const problems: Problem[] = [];
  const takeFrom = (map: MapTree, known: object, section?: string) => {
    for (const [key, { keyPlace, value }] of map.entries) {
      if (!Object.hasOwn(known, key)) {
        map.entries.delete(key);
        problems.push({ place: keyPlace, message: unknownKeyInFileMessage(section, key) });
      } else if (section === undefined && isSection(key) && value.kind === "map") {
        takeFrom(value, SECTIONS[key].shape, key);
      }
    }
  };
  takeFrom(root, configSchema.shape);
  return problems;
}

interface Failure {
  readonly key: string;
  readonly found: Tree | undefined;
  readonly problem: Problem;
}

/** A value can fail several checks; the first is the plainest. */
function onePerValue(issues: readonly Issue[]): Issue[] {
  const seen = new Set<string>();
  return issues.filter((issue) => {
    const path = issue.path.join(".");
    return !seen.has(path) && seen.add(path);
  });
}

function failureOf(root: MapTree, issue: Issue): Failure {
  const { path, cause } = innermost(issue);
  const steps = path.map(String);
  const key = isSection(steps[0]!) ? steps.slice(0, 2).join(".") : steps[0]!;
  const node = deepest(root, path);
  if (node === root) {
    const problem = { place: root.place, message: `${key} is required: ${requirementOf(key)}` };
    return { key, found: undefined, problem };
  }
  const message = `${key} must be ${requirementOf(key)}${besides(cause)}, got ${shown(node)}${hint(node, cause)}`;
  return { key, found: node, problem: { place: node.place, message } };
}

/** Of a union (a name or a list of names) the branch that the value was meant for: the one that got furthest into it. */
function innermost(issue: Issue): { path: readonly PropertyKey[]; cause: Issue } {
  if (issue.code !== "invalid_union") return { path: issue.path, cause: issue };
  const causes = issue.errors.flatMap((branch) => branch.slice(0, 1)).map(innermost);
  const [furthest] = causes.sort((a, b) => b.path.length - a.path.length);
  return furthest === undefined
    ? { path: issue.path, cause: issue }
    : { path: [...issue.path, ...furthest.path], cause: furthest.cause };
}

function besides(cause: Issue): string {
  return cause.code === "custom" && typeof cause.params?.besides === "string" ? ` ${cause.params.besides}` : "";
}

/** What people call a value elsewhere. */
const OTHER_VALUES: Readonly<Record<string, string>> = {
  dpo: "sigmoid",
  cdpo: "sigmoid",
  apo: "apo_zero",
  adamw_torch: "adamw",
  adamw_bnb_8bit: "adamw_8bit",
  paged_adamw_8bit: "adamw_8bit",
  bf16: "bfloat16",
  fp16: "float16",
  fp32: "float32",
};

function otherName(found: string, values: readonly string[]): string | undefined {
  const name = Object.hasOwn(OTHER_VALUES, found) ? OTHER_VALUES[found] : undefined;
  return name !== undefined && values.includes(name) ? name : undefined;
}

/** How to mend it, where the slip is plain. */
function hint(found: Tree, cause: Issue): string {
  const mustBeText = cause.code === "invalid_type" && cause.expected === "string";
  const couldBeText = found.kind === "map" || (found.kind === "scalar" && found.value !== null);
  if (mustBeText && couldBeText) return "; put it in quotes";
  if (found.kind !== "scalar") return "";
  if (cause.code === "invalid_value" && typeof found.value === "string") {
    const values = cause.values.map(String);
    const meant = otherName(found.value, values) ?? closest(found.value, values);
    return meant === undefined ? "" : ` (did you mean ${meant}?)`;
  }
  const wouldParse =
    cause.code === "invalid_type" &&
    found.isQuoted &&
    /^(true|false|[-+]?[\d.]+(e[-+]?\d+)?)$/i.test(String(found.value));
  return wouldParse ? " in quotes; remove the quotes" : "";
}

function brokenRules(
  root: MapTree,
  config: Config,
  given: ReadonlySet<SettingKey>,
  invalid: ReadonlySet<string>,
): Problem[] {
  const isInvalid = (key: SettingKey) => invalid.has(key) || invalid.has(key.split(".")[0]!);
  return RULES.filter((rule) => !rule.reads.some(isInvalid)).flatMap((rule) =>
    rule.check(config, given).map(({ path, message }) => ({ place: deepest(root, path.split(".")).place, message })),
  );
}
