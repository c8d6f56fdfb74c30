import { appendFile, readdir, readFile, truncate } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { findTrackers } from "../../src/track/environment.ts";
import { crc32c } from "../../src/track/event-file.ts";
import { startTracking, syncRun } from "../../src/track/tracking.ts";
import { beginRun, type TestRun } from "./run-folder.ts";

// An independent reader of event files, by the descriptions of TFRecord and of protocol buffers' wire format.

type Fields = Map<number, (Buffer | number)[]>;

function readFields(bytes: Buffer): Fields {
  const fields: Fields = new Map();
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  const fixed = (size: number): number => {
    const value = size === 8 ? bytes.readDoubleLE(at) : bytes.readFloatLE(at);
    at += size;
    return value;
  };
  const part = (): Buffer => {
    const size = varint();
    at += size;
    return bytes.subarray(at - size, at);
  };
  while (at < bytes.length) {
    const key = varint();
    const value = [varint, () => fixed(8), part, null, null, () => fixed(4)][key & 7]!();
    fields.set(key >> 3, [...(fields.get(key >> 3) ?? []), value]);
  }
  return fields;
}

/** CRC-32C bit by bit, and TFRecord's mask. */
function maskedCrc(bytes: Buffer): number {
  let crc = 0xffffffffn;
  for (const byte of bytes) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = (crc >> 1n) ^ (crc & 1n ? 0x82f63b78n : 0n);
  }
  crc ^= 0xffffffffn;
  return Number((((crc >> 15n) | (crc << 17n)) + 0xa282ead8n) & 0xffffffffn);
}

interface EventValue {
  readonly step: number;
  readonly tag: string;
  /** A scalar's. */
  readonly value: number | undefined;
  readonly plugin: string;
  readonly content: Buffer;
  readonly text: string;
}

async function readEvents({ folder }: TestRun): Promise<EventValue[]> {
  const names = await readdir(join(folder, "tensorboard"));
  expect(names).toEqual([expect.stringMatching(/^events\.out\.tfevents\.\d{10}\.dpo-train\.[0-9a-f]{16}$/)]);
  const bytes = await readFile(join(folder, "tensorboard", names[0]!));
  const events: Fields[] = [];
  for (let at = 0; at < bytes.length; ) {
    const size = Number(bytes.readBigUInt64LE(at));
    expect(bytes.readUInt32LE(at + 8)).toBe(maskedCrc(bytes.subarray(at, at + 8)));
    const data = bytes.subarray(at + 12, at + 12 + size);
    expect(bytes.readUInt32LE(at + 12 + size)).toBe(maskedCrc(data));
    events.push(readFields(data));
    at += size + 16;
  }
  expect(String(events[0]!.get(3)?.[0])).toBe("brain.Event:2");
  for (const event of events) expect(Math.abs(Number(event.get(1)![0]) - Date.now() / 1000)).toBeLessThan(600);
  return events.slice(1).flatMap((event) =>
    readFields(event.get(5)![0] as Buffer)
      .get(1)!
      .map((value) => {
        const fields = readFields(value as Buffer);
        const metadata = readFields((fields.get(9)?.[0] ?? Buffer.of()) as Buffer);
        const plugin = readFields((metadata.get(1)?.[0] ?? Buffer.of()) as Buffer);
        const tensor = readFields((fields.get(8)?.[0] ?? Buffer.of()) as Buffer);
        return {
          step: Number(event.get(2)![0]),
          tag: String(fields.get(1)![0]),
          value: fields.get(2)?.[0] as number | undefined,
          plugin: String(plugin.get(1)?.[0] ?? ""),
          content: (plugin.get(2)?.[0] ?? Buffer.of()) as Buffer,
          text: String(tensor.get(8)?.[0] ?? ""),
        };
      }),
  );
}

const NEVER = new AbortController().signal;
const tensorboard = ({ folder }: TestRun) => findTrackers(["tensorboard"], {})[0]!(folder);
const scalars = (events: readonly EventValue[]) =>
  events.flatMap(({ tag, step, value }) => (value === undefined ? [] : [[tag, step, value]]));
const expected = (run: TestRun) => run.points(true).map(([tag, step, value]) => [tag, step, Math.fround(value)]);

it("CRC-32C of the vectors of RFC 3720, B.4", () => {
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array(32).fill(255))).toBe(0x62a8ab43);
  expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
});

it("an event file holds every value, the hyperparameters, the samples and the end", async () => {
  const run = await beginRun();
  const tracking = startTracking(run.folder, [tensorboard(run)], () => {});
  await run.train(110);
  await run.end("done");
  await tracking.end();
  const events = await readEvents(run);
  expect(scalars(events)).toEqual(expected(run));

  const info = (tag: string, field: number) => {
    const found = events.find((event) => event.tag === `_hparams_/${tag}`)!;
    expect(found.plugin).toBe("hparams");
    return readFields(readFields(found.content).get(field)![0] as Buffer);
  };
  const hparams = info("session_start_info", 3)
    .get(1)!
    .map((entry) => {
      const fields = readFields(entry as Buffer);
      const value = readFields(fields.get(2)![0] as Buffer);
      return [String(fields.get(1)![0]), value.get(2)?.[0] ?? String(value.get(3)?.[0])];
    });
  expect(Object.fromEntries(hparams)).toMatchObject({ beta: 0.1, "lora.r": 8, sample_prompt: "Who?" });
  expect(info("session_end_info", 4).get(1)).toEqual([1]);
  const texts = Object.fromEntries(
    events.filter(({ plugin }) => plugin === "text").map(({ tag, text }) => [tag, text]),
  );
  expect(texts).toMatchObject({ "sample/after": "    I, *dpo-train* 🙂", "sample/prompt": "    Who?" });
});

it("is whole and without doubles after a kill between writing and remembering, and grows on", async () => {
  const run = await beginRun();
  await run.train(9);
  await run.end("failed");
  await syncRun(run.folder, tensorboard(run), NEVER);
  const [name] = await readdir(join(run.folder, "tensorboard"));
  const file = join(run.folder, "tensorboard", name!);
  const before = await readFile(file);
  await appendFile(file, before.subarray(40)); // What a killed process had written behind what it remembers.
  await run.rewind(4);
  await run.train(20);
  await run.end("done");
  await syncRun(run.folder, tensorboard(run), NEVER);
  const events = await readEvents(run);
  expect(scalars(events)).toEqual(expected(run));
  expect((await readFile(file)).subarray(0, before.length).equals(before)).toBe(true);
  await truncate(file, 3);
  expect((await syncRun(run.folder, tensorboard(run), NEVER)).problem).toBeNull(); // Nothing is left to be sent.
});
