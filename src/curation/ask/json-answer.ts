import { printable } from "../../text.ts";
import type { Response } from "./journal.ts";
import type { Unusable } from "./questions.ts";

/** The JSON that a server has answered. In one Markdown fence, as local models write it, it is taken out of it. */
export function readJsonAnswer({
  content,
  refusal,
  finishReason,
}: Pick<Response, "content" | "refusal" | "finishReason">): { readonly json: unknown } | Unusable {
  if (refusal !== null || finishReason === "content_filter") {
    return { unusable: "refusal", reason: printable(refusal ?? "stopped by the server's content filter") };
  }
  try {
    return { json: JSON.parse(/^\s*```(?:json)?\s*\n(.*)\n\s*```\s*$/s.exec(content)?.[1] ?? content) as unknown };
  } catch (error) {
    if (finishReason === "length") return { unusable: "cut", reason: "the answer was cut off at its longest length" };
    return { unusable: "invalid JSON", reason: printable((error as Error).message) };
  }
}

/** A value in a message. */
export function describeJson(value: unknown): string {
  return printable(JSON.stringify(value) ?? "nothing", 80);
}
