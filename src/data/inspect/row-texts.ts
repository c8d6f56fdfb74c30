import type { Message } from "../row-columns.ts";
import type { PreferenceRow } from "../rows.ts";

export const SIDES = ["prompt", "chosen", "rejected"] as const;
export type Side = (typeof SIDES)[number];

/** A side of a row as one text: the contents of its messages with an empty line between. System messages are left out. */
export function textOf(row: PreferenceRow, side: Side): string {
  if (row.kind === "text") return row[side];
  const spoken = row[side].filter(({ role }) => role !== "system");
  return spoken.length === 1 ? spoken[0]!.content : spoken.map(({ content }) => content).join("\n\n");
}

/** The system message of a row, "" without one. */
export function systemOf(row: PreferenceRow): string {
  if (row.kind === "text") return row.system ?? "";
  return row.prompt
    .filter(({ role }) => role === "system")
    .map(({ content }) => content)
    .join("\n\n");
}

/** A side as it stands, with roles: equal for two rows where what the model sees is equal. */
export function exactKey(row: PreferenceRow, side: Side): string {
  if (row.kind === "messages") return JSON.stringify(row[side].map(({ role, content }: Message) => [role, content]));
  return side === "prompt" ? JSON.stringify([row.system ?? "", row.prompt]) : row[side];
}
