import { describe, expect, it } from "vitest";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { InputError } from "../../src/errors.ts";
import { encodeConversation } from "../../src/generate/conversation.ts";

const withTemplate = await loadTokenizer("test/golden/models/gqa-llama3");
const without = await loadTokenizer("test/golden/models/f16-one-kv");
const turns = (count: number) =>
  Array.from({ length: 2 * count - 1 }, (_, i) => ({ role: i % 2 === 0 ? "user" : "assistant", content: `part ${i}` }));
const room = { maxPositions: 4096, maxNewTokens: 16 };

describe("a conversation", () => {
  it("is written by the chat template, which asks for the next answer", () => {
    const { ids } = encodeConversation(turns(2), { ...room, tokenizer: withTemplate, promptTemplate: "chat" });
    expect(ids).toEqual(withTemplate.encode(withTemplate.chatTemplate!.render(turns(2), true), false));
  });

  it("in a text template is one turn behind the other, with one BOS", () => {
    const { ids } = encodeConversation(turns(2), { ...room, tokenizer: without, promptTemplate: "alpaca" });
    const text = without.decode(ids, { skipSpecialTokens: true });
    expect(text.match(/### Instruction:\npart [02]\n\n### Response:\n/g)).toHaveLength(2);
    expect(text).toContain("### Response:\npart 1\n\nBelow is");
    expect(text.endsWith("### Response:\n")).toBe(true);
    expect(ids.filter((id) => id === without.bos!.id)).toHaveLength(1);
  });

  it("that is too long loses its oldest turns, whole ones, and no more than it must", () => {
    const options = { tokenizer: without, promptTemplate: "none", maxNewTokens: 16 } as const;
    const length = (count: number) =>
      encodeConversation(turns(5).slice(-2 * count + 1), { ...options, maxPositions: 4096 }).ids.length;
    const least = length(3) + 16;
    expect(encodeConversation(turns(5), { ...options, maxPositions: least })).toMatchObject({ leftOut: 4 });
    expect(encodeConversation(turns(5), { ...options, maxPositions: least - 1 })).toMatchObject({ leftOut: 6 });
    expect(encodeConversation(turns(5), { ...options, maxPositions: length(5) + 16 }).leftOut).toBe(0);
  });

  it("whose last message leaves no room for an answer is refused, and so is one without a template", () => {
    const message = [{ role: "user", content: "word ".repeat(100) }];
    const options = { tokenizer: without, promptTemplate: "none", maxNewTokens: 16 } as const;
    expect(() => encodeConversation(message, { ...options, maxPositions: 64 })).toThrow(
      "a message must make at most 48 tokens, to leave room for an answer, found",
    );
    expect(() => encodeConversation(message, { ...options, ...room, promptTemplate: "chat" })).toThrow(InputError);
  });
});
