import { InputError } from "../errors.ts";
import { printable } from "../text.ts";

const MAX_NAMES = 6;
const MAX_PROBLEMS = 40;

/** The first of many untrusted names for a message: `"a", "b" and 3 more`. */
export function listNames(names: readonly string[]): string {
  const shown = names.slice(0, MAX_NAMES).map((name) => `"${printable(name)}"`);
  const rest = names.length - shown.length;
  return rest > 0 ? `${shown.join(", ")} and ${rest} more` : shown.join(", ");
}

/** Throws one InputError with a line for each problem, which begins with `place`. Returns when there is none. */
export function throwProblems(place: string, problems: readonly string[]): void {
  if (problems.length === 0) return;
  const lines = problems.slice(0, MAX_PROBLEMS).map((problem) => `${printable(place)}: ${problem}`);
  if (problems.length > MAX_PROBLEMS)
    lines.push(`${printable(place)}: ${problems.length - MAX_PROBLEMS} more problems`);
  throw new InputError(lines.join("\n"));
}
