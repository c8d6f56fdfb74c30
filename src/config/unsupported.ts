/** Settings of the trainer that this version does not carry out yet. Refused by name: nothing is ignored in silence. */
export interface Unsupported {
  readonly key: string;
  /** The values that are refused; the others are left to the schema. */
  readonly isRefused: (value: unknown) => boolean;
  readonly instead: string;
}

export const UNSUPPORTED: readonly Unsupported[] = [
  {
    key: "report_to",
    isRefused: (value) => Array.isArray(value) || (typeof value === "string" && value !== "none"),
    instead: "it writes metrics.jsonl in output_dir",
  },
];

export function unsupportedMessage({ key, instead }: Unsupported): string {
  return `${key} is not supported by this version: ${instead}; remove it`;
}
