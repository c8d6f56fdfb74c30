/**
 * TensorBoard's event files: records of TensorFlow's TFRecord format, each an Event of protocol buffers
 * (tensorboard/compat/proto/event.proto, summary.proto, tensor.proto; plugins/hparams/plugin_data.proto).
 */
import type { Scalar } from "./tracker.ts";

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc >>> 0;
});

/** CRC-32C (Castagnoli, RFC 3720 appendix B.4). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** TFRecord's mask: a CRC of data that holds CRCs would be weak. */
function maskedCrc(bytes: Uint8Array): Buffer {
  const crc = crc32c(bytes);
  const masked = (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(masked);
  return buffer;
}

function tfRecord(data: Uint8Array): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(data.byteLength));
  return Buffer.concat([length, maskedCrc(length), data, maskedCrc(data)]);
}

type Field = Uint8Array;

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = BigInt(value);
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return [...bytes, Number(rest)];
}

function integer(number: number, value: number): Field {
  return Uint8Array.from([...varint(number << 3), ...varint(value)]);
}

function double(number: number, value: number): Field {
  const bytes = Buffer.alloc(9);
  bytes[0] = (number << 3) | 1;
  bytes.writeDoubleLE(value, 1);
  return bytes;
}

function float(number: number, value: number): Field {
  const bytes = Buffer.alloc(5);
  bytes[0] = (number << 3) | 5;
  bytes.writeFloatLE(value, 1);
  return bytes;
}

function bytes(number: number, value: string | Uint8Array): Field {
  const data = typeof value === "string" ? Buffer.from(value) : value;
  return Buffer.concat([Uint8Array.from([...varint((number << 3) | 2), ...varint(data.byteLength)]), data]);
}

function message(number: number, fields: readonly Field[]): Field {
  return bytes(number, Buffer.concat(fields));
}

function event(timeMs: number, step: number, content: Field): Buffer {
  return tfRecord(Buffer.concat([double(1, timeMs / 1000), integer(2, step), content]));
}

/** How an event file begins. */
export function fileVersionEvent(timeMs: number): Buffer {
  return event(timeMs, 0, bytes(3, "brain.Event:2"));
}

/** Values of one step, in float32 as TensorBoard has them. */
export function scalarsEvent(timeMs: number, step: number, values: readonly (readonly [string, number])[]): Buffer {
  const summary = values.map(([tag, value]) => message(1, [bytes(1, tag), float(2, value)]));
  return event(timeMs, step, message(5, summary));
}

const DT_FLOAT = 1;
const DT_STRING = 7;

function metadata(plugin: string, content: Uint8Array = new Uint8Array()): Field {
  return message(9, [message(1, [bytes(1, plugin), bytes(2, content)])]);
}

/** A text, which TensorBoard shows as Markdown. */
export function textEvent(timeMs: number, step: number, tag: string, text: string): Buffer {
  const tensor = message(8, [integer(1, DT_STRING), message(2, [message(2, [integer(1, 1)])]), bytes(8, text)]);
  return event(timeMs, step, message(5, [message(1, [bytes(1, tag), metadata("text"), tensor])]));
}

function hparamsEvent(timeMs: number, tag: string, data: Field): Buffer {
  const tensor = message(8, [integer(1, DT_FLOAT), message(2, []), float(5, 0)]);
  const plugin = metadata("hparams", Buffer.concat([integer(1, 0), data]));
  return event(timeMs, 0, message(5, [message(1, [bytes(1, `_hparams_/${tag}`), plugin, tensor])]));
}

/** What the hparams plugin shows of a run. */
export function hparamsStartEvent(timeMs: number, hparams: Readonly<Record<string, Scalar>>): Buffer {
  const entries = Object.entries(hparams).map(([key, value]) =>
    message(1, [bytes(1, key), message(2, [toValue(value)])]),
  );
  return hparamsEvent(timeMs, "session_start_info", message(3, [...entries, double(5, timeMs / 1000)]));
}

/** @param status 1 for success, 2 for failure */
export function hparamsEndEvent(timeMs: number, status: 1 | 2): Buffer {
  return hparamsEvent(timeMs, "session_end_info", message(4, [integer(1, status), double(2, timeMs / 1000)]));
}

/** google.protobuf.Value */
function toValue(value: Scalar): Field {
  if (typeof value === "number") return double(2, value);
  return typeof value === "string" ? bytes(3, value) : integer(4, value ? 1 : 0);
}
