import { list } from "../config/words.ts";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { placeOf, type RowSource } from "./problems.ts";
import { describe, type MissingColumn, PROMPT_LIKE } from "./row-columns.ts";
import { LAYOUTS } from "./row-layouts.ts";

const SHOWN_COLUMNS = 12;
const SHOWN_LENGTH = 60;

/** What data sets call the answers, by words of the column's name. */
const CHOSEN_LIKE = /chosen|prefer(?!ence)|better|winn?er|positive|accept/i;
const REJECTED_LIKE = /reject|dispreferred|worse|loser|negative/i;
/** Of conversations without a second answer. */
const ONE_ANSWER = ["messages", "conversations", "conversation", "output", "response", "completion", "text"];

/** The error for a file whose first row lacks a column: what it has, and what it comes nearest to. */
export function unknownLayout({ message, row }: MissingColumn, source: RowSource): InputError {
  return new InputError(
    `${placeOf(source)}: ${message}; the first row has ${shownColumns(row)}. ${nearestLayout(row)}`,
  );
}

function shownColumns(row: Readonly<Record<string, unknown>>): string {
  const names = Object.keys(row);
  if (names.length === 0) return "no columns";
  const shown = names.slice(0, SHOWN_COLUMNS).map((name) => `${printable(name, 40)} (${shownValue(row[name])})`);
  const rest = names.length - shown.length;
  return `the columns ${list(rest > 0 ? [...shown, `${rest} more`] : shown, "and")}`;
}

function shownValue(value: unknown): string {
  if (typeof value === "string") return `"${printable(value, SHOWN_LENGTH)}"`;
  if (Array.isArray(value) && value.length > 0) return `a list of ${value.length}, first ${describe(value[0])}`;
  return describe(value);
}

/** A sentence: the layout that the columns come nearest to, and how to get there. */
function nearestLayout(row: Readonly<Record<string, unknown>>): string {
  const names = Object.keys(row);
  const answers = names.filter((name) => typeof row[name] === "string" || Array.isArray(row[name]));
  const rejected = answers.find((name) => REJECTED_LIKE.test(name));
  const chosen = answers.find((name) => name !== rejected && CHOSEN_LIKE.test(name) && !REJECTED_LIKE.test(name));
  const prompt = ["prompt", ...PROMPT_LIKE].find((name) => answers.includes(name));
  if (chosen !== undefined && rejected !== undefined) {
    const layout = Array.isArray(row[chosen])
      ? prompt === undefined
        ? LAYOUTS.sharedMessages
        : LAYOUTS.promptedConversations
      : prompt === undefined
        ? LAYOUTS.sharedText
        : LAYOUTS.text;
    const renamed = Object.entries({ prompt, chosen, rejected }).filter(
      ([key, name]) => name !== undefined && name !== key,
    );
    const map = renamed.map(([key, name]) => `${key}: ${printable(name ?? "", 40)}`).join(", ");
    const remedy = map === "" ? "correct columns, or remove it" : `set columns: {${map}}`;
    return `The nearest known layout is ${layout}: ${remedy}`;
  }
  const single = names.find((name) => ONE_ANSWER.includes(name));
  if (single !== undefined) {
    return `The nearest known layout is ${LAYOUTS.text}: this one has a single answer, in ${single}, and DPO needs two to compare`;
  }
  return (
    `The nearest known layout is ${LAYOUTS.text}: if columns of other names hold them, ` +
    "set columns: {prompt: NAME, chosen: NAME, rejected: NAME}"
  );
}
