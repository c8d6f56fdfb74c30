import { TRACKERS } from "./names.ts";
import { list } from "./words.ts";

/** Settings of the trainer that this version does not carry out. Refused by name: nothing is ignored in silence. */
export interface Unsupported {
  readonly key: string;
  /** Of the key: what is refused. */
  readonly what: string;
  /** The values that are refused; the others are left to the schema. */
  readonly isRefused: (value: unknown) => boolean;
  readonly instead: string;
}

/** What transformers 5 knows besides, and `all`, which depends on the packages that are installed. */
const OTHER_TRACKERS = "all azure_ml clearml codecarbon dagshub dvclive flyte neptune swanlab trackio".split(" ");

export const UNSUPPORTED: readonly Unsupported[] = [
  {
    key: "report_to",
    what: OTHER_TRACKERS.join(", "),
    isRefused: (value) => [value].flat().some((name) => typeof name === "string" && OTHER_TRACKERS.includes(name)),
    instead: `name one or more of ${list(TRACKERS, "and")}`,
  },
];

export function unsupportedMessage({ key, what, instead }: Unsupported): string {
  return `${key}: ${what} are not supported by this version: ${instead}`;
}
