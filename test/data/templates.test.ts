import { expect, test } from "vitest";
import { fillTemplate } from "../../src/data/templates.ts";

test.each(["plain", "", "{}", "{} and {}", "$& $1 $$ $` \\1", "{0}", " trailing ", "a\r\nb"])(
  "the prompt %j is taken as it is",
  (prompt) => {
    expect(fillTemplate("none", prompt)).toBe(prompt);
    expect(fillTemplate("alpaca", prompt)).toBe(
      "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n" +
        `### Instruction:\n${prompt}\n\n### Response:\n`,
    );
  },
);
