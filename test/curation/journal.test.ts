import { appendFile, mkdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Journal, type JournalEntry, readJournal } from "../../src/curation/ask/journal.ts";
import { temporaryFolder } from "../weights/fixtures.ts";

const entry = (request: string, text = "text"): JournalEntry => ({
  kind: "generation",
  request,
  at: "2026-01-01T00:00:00.000Z",
  elapsedMs: 1,
  text,
  isCut: false,
});

async function journalOf(entries: readonly JournalEntry[]): Promise<string> {
  const path = join(await temporaryFolder(), "pairs.journal");
  const journal = await Journal.open(path, "test");
  await Promise.all(entries.map((each) => journal.append(each)));
  await journal.close();
  return path;
}

describe("a journal", () => {
  const entries = [
    entry("a", "line\u2028separators\u2029, \ud83d\ude00 and \ud83d alone\n"),
    entry("b"),
    entry("c", "é".repeat(100)),
  ];

  it("keeps what was appended, side by side too", async () => {
    const path = await journalOf(entries);
    expect(await readJournal(path, "test")).toEqual(entries);
    const again = await Journal.open(path, "test");
    await again.append(entry("d"));
    await again.close();
    expect(await readJournal(path, "test")).toEqual([...entries, entry("d")]);
  });

  it("cut off at any byte goes on with the entries that are whole", async () => {
    const path = await journalOf(entries);
    const bytes = await readFile(path);
    const ends = [...bytes.entries()].filter(([, byte]) => byte === 10).map(([at]) => at);
    for (let size = 0; size < bytes.length; size++) {
      await writeFile(path, bytes);
      await truncate(path, size);
      const whole = entries.slice(0, Math.max(0, ends.filter((end) => end <= size).length - 1));
      expect(await readJournal(path, "test")).toEqual(whole);
      const journal = await Journal.open(path, "test");
      await journal.append(entry("new"));
      await journal.close();
      expect(await readJournal(path, "test")).toEqual([...whole, entry("new")]);
    }
  });

  it("says how much was cut off", async () => {
    const path = await journalOf(entries);
    await appendFile(path, '{"kind":"gen');
    const journal = await Journal.open(path, "test");
    await journal.close();
    expect(journal.cutBytes).toBe(12);
    expect(journal.entries).toEqual(entries);
  });

  it("of something else is refused, and stays as it is", async () => {
    const path = await journalOf(entries);
    await expect(Journal.open(path, "other")).rejects.toThrow(
      'must be a journal of this command, which begins with {"dpo_train_journal":1,"task":"other"}',
    );
    const before = await readFile(path);
    for (const damage of ["{}\n", "nothing\n", '{"kind":"response"}\n', "\n"]) {
      const text = before.toString().split("\n");
      text.splice(2, 0, damage.trimEnd());
      await writeFile(path, text.join("\n"));
      await expect(Journal.open(path, "test")).rejects.toThrow(":3: must be an entry that dpo-train wrote");
      expect(await readFile(path, "utf8")).toBe(text.join("\n"));
    }
    await writeFile(path, "my notes");
    await expect(Journal.open(path, "test")).rejects.toThrow("must be a journal of this command");
    expect(await readFile(path, "utf8")).toBe("my notes");
  });

  it("that is no file is refused", async () => {
    const folder = join(await temporaryFolder(), "folder");
    await mkdir(folder);
    await expect(Journal.open(folder, "test")).rejects.toThrow("must be a file");
    await expect(Journal.open(join(folder, "none", "x"), "test")).rejects.toThrow(
      "cannot write: no such file or directory",
    );
  });

  it("that cannot be written rejects, and so does every later entry", async () => {
    const path = await journalOf([]);
    const journal = await Journal.open(path, "test");
    await journal.close();
    await expect(journal.append(entry("a"))).rejects.toThrow("cannot write");
    await expect(journal.append(entry("b"))).rejects.toThrow("cannot write");
    expect(journal.entries).toEqual([]);
  });
});
