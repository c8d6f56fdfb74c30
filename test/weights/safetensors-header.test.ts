import { describe, expect, test } from "vitest";
import {
  parseSafetensorsHeader,
  readHeaderLength,
  refuseOtherWeightFormats,
} from "../../src/weights/safetensors-header.ts";
import { inputErrorOf, safetensorsBytes } from "./fixtures.ts";

/** Reads the header of a file in memory. */
function parse(file: Uint8Array, fileName = "m.safetensors") {
  const length = readHeaderLength(file.subarray(0, 8), file.byteLength, fileName);
  return parseSafetensorsHeader(file.subarray(8, 8 + length), file.byteLength, fileName);
}

const tensor = (shape: string, offsets: string, dtype = "F32") =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
const one = (shape: string, offsets: string, dtype = "F32") => `{"t":${tensor(shape, offsets, dtype)}}`;
const two = (first: string, second: string) => `{"a":${tensor("[2]", first)},"b":${tensor("[2]", second)}}`;

describe("refused headers", () => {
  test.each<[string, string | Uint8Array, number, string]>([
    ["not UTF-8", Uint8Array.from([0x7b, 0xff, 0x7d]), 0, "must be UTF-8"],
    ["surrogates as UTF-8", Uint8Array.from([0x7b, 0x22, 0xed, 0xa0, 0x80, 0x22, 0x7d]), 0, "must be UTF-8"],
    ["byte order mark", "\ufeff{}", 0, "byte order mark"],
    ["lone surrogate", '{"\\ud800":1}', 0, "lone surrogate"],
    ["a list", "[]", 0, "must be a JSON object, found []"],
    ["a string", '"x"', 0, 'must be a JSON object, found "x"'],
    ["null", "null", 0, "must be a JSON object, found null"],
    ["no JSON", "hello", 0, "not strict JSON"],
    ["zero bytes", "\0\0\0\0", 0, "not strict JSON"],
    ["NUL padding", "{}\0\0", 0, "must end after"],
    ["trailing garbage", "{}x", 0, "must end after"],
    ["deep nesting", `{"a":${"[".repeat(50_000)}${"]".repeat(50_000)}}`, 0, "nested at most"],
    ["duplicate tensor", `{"a":${tensor("[1]", "[0,4]")},"a":${tensor("[1]", "[0,4]")}}`, 4, 'repeat the key "a"'],
    [
      "escaped duplicate",
      `{"a":${tensor("[1]", "[0,4]")},"\\u0061":${tensor("[1]", "[0,4]")}}`,
      4,
      'repeat the key "a"',
    ],
    ["duplicate field", '{"t":{"dtype":"F32","dtype":"F16","shape":[],"data_offsets":[0,4]}}', 4, 'the key "dtype"'],
    ["duplicate metadata", '{"__metadata__":{},"__metadata__":{}}', 0, 'the key "__metadata__"'],
    ["tensor is a list", '{"t":[]}', 0, 'tensor "t": must be an object, found []'],
    ["no dtype", '{"t":{"shape":[],"data_offsets":[0,4]}}', 4, "dtype must be one of"],
    ["no shape", '{"t":{"dtype":"F32","data_offsets":[0,4]}}', 4, "shape must be a list of integers, found nothing"],
    ["no offsets", '{"t":{"dtype":"F32","shape":[]}}', 4, "data_offsets must be a list of integers, found nothing"],
    ["unknown dtype", one("[1]", "[0,4]", "F31"), 4, 'found "F31"'],
    ["lower-case dtype", one("[1]", "[0,4]", "f32"), 4, 'found "f32"'],
    ["inherited dtype", one("[1]", "[0,4]", "toString"), 4, 'found "toString"'],
    ["numeric dtype", '{"t":{"dtype":3,"shape":[1],"data_offsets":[0,4]}}', 4, "found 3"],
    ["negative size", one("[-1]", "[0,4]"), 4, "shape must hold plain integers from 0 to 9007199254740991, found -1"],
    ["minus zero", one("[-0]", "[0,0]"), 0, "found -0"],
    ["fractional size", one("[1.5]", "[0,6]"), 6, "found 1.5"],
    ["size as a fraction", one("[1.0]", "[0,4]"), 4, "found 1.0"],
    ["size with exponent", one("[1e0]", "[0,4]"), 4, "found 1e0"],
    ["size as a string", one('["1"]', "[0,4]"), 4, 'found "1"'],
    ["size null", one("[null]", "[0,4]"), 4, "found null"],
    ["size true", one("[true]", "[0,4]"), 4, "found true"],
    ["nested size", one("[[1]]", "[0,4]"), 4, "found [1]"],
    ["size over 2^53", one("[9007199254740993]", "[0,4]"), 4, "found 9007199254740993"],
    ["shape is a number", one("1", "[0,4]"), 4, "shape must be a list of integers, found 1"],
    ["shape is an object", one("{}", "[0,4]"), 4, "found {}"],
    ["negative offset", one("[1]", "[-4,0]"), 4, "data_offsets must hold plain integers"],
    ["fractional offset", one("[1]", "[0,4.0]"), 4, "found 4.0"],
    ["exponent offset", one("[1]", "[0,4e0]"), 4, "found 4e0"],
    ["string offset", one("[1]", '[0,"4"]'), 4, 'found "4"'],
    ["offset over 2^53", one("[1]", "[0,9007199254740996]"), 4, "found 9007199254740996"],
    ["one offset", one("[1]", "[0]"), 4, "must be two integers, found [0]"],
    ["three offsets", one("[1]", "[0,4,4]"), 4, "must be two integers, found [0, 4, 4]"],
    ["reversed offsets", one("[1]", "[4,0]"), 4, "must not run backwards, found [4, 0]"],
    ["product over 2^53", one("[3037000500,3037000500]", "[0,4]"), 4, "the shape [3037000500, 3037000500]"],
    ["product past every float", one(`[${"9007199254740991,".repeat(40)}1]`, "[0,4]"), 4, "size must be at most"],
    ["bytes over 2^53", one("[4503599627370496]", "[0,4]"), 4, "size must be at most 9007199254740991 bytes"],
    ["overflow before a zero", one("[4294967296,4294967296,0]", "[0,0]"), 0, "size must be at most"],
    [
      "too few bytes for the shape",
      one("[2]", "[0,4]"),
      4,
      "F32 of shape [2] takes 8 bytes, but data_offsets [0, 4] hold 4",
    ],
    ["too many bytes for the shape", one("[1]", "[0,8]"), 8, "takes 4 bytes"],
    ["bytes for a zero-size tensor", one("[0]", "[0,4]"), 4, "takes 0 bytes"],
    [
      "hole",
      two("[0,8]", "[12,20]"),
      20,
      'tensor "b": must begin at byte 8 of the data, where "a" ends, found 12 (a hole)',
    ],
    ["overlap", two("[0,8]", "[4,12]"), 12, "found 4 (an overlap)"],
    ["the same bytes twice", two("[0,8]", "[0,8]"), 8, "(an overlap)"],
    [
      "non-zero start",
      one("[1]", "[4,8]"),
      8,
      "must begin at byte 0 of the data, where the data begins, found 4 (a hole)",
    ],
    ["empty tensor inside another", `{"a":${tensor("[2]", "[0,8]")},"z":${tensor("[0]", "[4,4]")}}`, 8, "(an overlap)"],
    ["empty tensor past the end", `{"a":${tensor("[2]", "[0,8]")},"z":${tensor("[0]", "[12,12]")}}`, 8, "(a hole)"],
    ["file longer", one("[1]", "[0,4]"), 5, "bytes follow the last tensor"],
    ["file shorter", one("[2]", "[0,8]"), 7, "the file is cut short"],
    ["data without tensors", "{}", 1, "bytes follow"],
    ["metadata is a list", '{"__metadata__":[]}', 0, "__metadata__ must be a map of strings, found []"],
    ["metadata is null", '{"__metadata__":null}', 0, "__metadata__ must be a map of strings, found null"],
    ["metadata holds a number", '{"__metadata__":{"a":1}}', 0, 'found 1 at "a"'],
    ["metadata holds a map", '{"__metadata__":{"a":{"b":"c"}}}', 0, 'found {…} at "a"'],
  ])("%s", async (_, header, dataBytes, problem) => {
    const message = await inputErrorOf(() => parse(safetensorsBytes(header, dataBytes)));
    expect(message).toContain(problem);
    expect(message).toMatch(/^m\.safetensors/);
    expect(message).not.toContain("\n");
  });

  test("the file's name and the tensor's are made printable", async () => {
    const header = `{"\\u001b]0;pwned\\u0007":${tensor("[1]", "[0,8]")}}`;
    const message = await inputErrorOf(() => parse(safetensorsBytes(header, 8), "\u202ex.safetensors"));
    expect(message).toContain("\\u202ex.safetensors");
    expect(message).toContain("\\u001b]0;pwned\\u0007");
    // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may be in the message.
    expect(message).not.toMatch(/[\u0000-\u001f\u202e]/);
  });
});

describe("refused before the header is read", () => {
  const prefix = (value: bigint) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(value);
    return bytes;
  };
  test.each<[string, Uint8Array, number, string]>([
    ["empty file", new Uint8Array(0), 0, "at least 8 bytes, found 0"],
    ["7 bytes", new Uint8Array(7), 7, "at least 8 bytes, found 7"],
    ["header of length 0", prefix(0n), 100, "must be above 0, found 0 bytes"],
    ["header past the end", prefix(93n), 100, "at most the 92 bytes that the file has after it, found 93"],
    ["header over the limit", prefix(100_000_001n), 2 ** 40, "at most 100000000 bytes, found 100000001"],
    ["header of 2^64 - 1", prefix(2n ** 64n - 1n), 2 ** 40, "found 18446744073709551615"],
    ["header of 2^63", prefix(2n ** 63n), 2 ** 40, "found 9223372036854775808"],
    ["Git LFS pointer", Buffer.from("version https://git-lfs"), 130, "git lfs pull"],
  ])("%s", async (_, bytes, fileSizeBytes, problem) => {
    const message = await inputErrorOf(() => readHeaderLength(bytes.subarray(0, 8), fileSizeBytes, "m.safetensors"));
    expect(message).toContain(problem);
  });

  test("the largest header that is allowed", () => {
    expect(readHeaderLength(prefix(100_000_000n), 100_000_008, "m")).toBe(100_000_000);
    expect(readHeaderLength(prefix(92n), 100, "m")).toBe(92);
  });

  test("reads the length through a view that does not begin at its buffer's start", () => {
    const bytes = Buffer.concat([Buffer.from([9, 9, 9]), prefix(5n), Buffer.from([9])]);
    expect(readHeaderLength(bytes.subarray(3, 11), 100, "m")).toBe(5);
  });
});

describe("accepted headers", () => {
  test.each<[string, string, number]>([
    ["no tensors", "{}", 0],
    ["spaces before and after", ` \n\t\r${one("[1]", "[0,4]")}   `, 4],
    ["scalar", one("[]", "[0,4]"), 4],
    ["zero-size tensors", `{"a":${tensor("[0]", "[0,0]")},"b":${tensor("[3,0,2]", "[0,0]")}}`, 0],
    ["zero before a large size", one("[0,4294967296,4294967296]", "[0,0]"), 0],
    ["any order", two("[8,16]", "[0,8]"), 16],
    ["odd alignment", `{"a":${tensor("[3]", "[0,3]", "U8")},"b":${tensor("[1]", "[3,7]")}}`, 7],
    ["unknown fields", '{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"extra":{"a":[1.5,null]}}}', 4],
    ["metadata", '{"__metadata__":{"format":"pt","":"x"}}', 0],
    ["many dimensions", one(`[${"1,".repeat(100)}1]`, "[0,4]"), 4],
    ["names that are not ASCII", `{"é😀\\u0000":${tensor("[1]", "[0,4]")}}`, 4],
    ["an empty name", `{"":${tensor("[1]", "[0,4]")}}`, 4],
  ])("%s", (_, header, dataBytes) => {
    const { tensors } = parse(safetensorsBytes(header, dataBytes));
    const names = Object.keys(JSON.parse(header)).filter((name) => name !== "__metadata__");
    expect([...tensors.keys()].sort()).toEqual(names.sort());
  });

  test.each([
    ["BOOL", 1],
    ["U8", 1],
    ["I8", 1],
    ["F8_E4M3", 1],
    ["F8_E5M2", 1],
    ["I16", 2],
    ["F16", 2],
    ["BF16", 2],
    ["I32", 4],
    ["F32", 4],
    ["C64", 8],
    ["F64", 8],
    ["U64", 8],
  ])("an element of %s has %i bytes", (dtype, elementBytes) => {
    const info = parse(safetensorsBytes(one("[3]", `[0,${3 * elementBytes}]`, dtype), 3 * elementBytes)).tensors.get(
      "t",
    );
    expect(info).toMatchObject({ dtype, elements: 3, sizeBytes: 3 * elementBytes });
  });

  test("tensors come in the order of the file, with absolute offsets", () => {
    const header = two("[8,16]", "[0,8]");
    const { tensors, dataOffsetBytes } = parse(safetensorsBytes(header, 16));
    expect(dataOffsetBytes).toBe(8 + header.length);
    expect([...tensors.values()].map(({ name, offsetBytes }) => [name, offsetBytes - dataOffsetBytes])).toEqual([
      ["b", 0],
      ["a", 8],
    ]);
  });

  test("a tensor named __proto__ is a tensor", () => {
    const { tensors } = parse(safetensorsBytes(`{"__proto__":${tensor("[1]", "[0,4]")}}`, 4));
    expect(tensors.get("__proto__")?.shape).toEqual([1]);
    expect("dtype" in {}).toBe(false);
  });
});

test("files of other formats are refused by their name, with a remedy", async () => {
  for (const name of ["pytorch_model.bin", "a/model.pt", "m.PTH", "consolidated.00.pth", "llama.gguf"]) {
    const message = await inputErrorOf(() => refuseOtherWeightFormats(name));
    expect(message).toContain("safetensors");
    expect(message).toContain("save_pretrained");
  }
  refuseOtherWeightFormats("model.safetensors");
});

describe("damaged files", () => {
  const header = `{"__metadata__":{"format":"pt"},"w.a":${tensor("[2,3]", "[0,12]", "BF16")},"w.b":${tensor("[1]", "[12,16]")}}  `;
  const valid = safetensorsBytes(header, 16);

  test("cut at any byte", async () => {
    for (let length = 0; length < valid.byteLength; length++) {
      await inputErrorOf(() => parse(valid.subarray(0, length)));
    }
    expect(parse(valid).tensors.size).toBe(2);
  });

  test("with any bit turned, is refused or read for exactly what it says", async () => {
    let accepted = 0;
    for (let bit = 0; bit < valid.byteLength * 8; bit++) {
      const damaged = Uint8Array.from(valid);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      let result: ReturnType<typeof parse>;
      try {
        result = parse(damaged);
      } catch (error) {
        await inputErrorOf(() => Promise.reject(error));
        continue;
      }
      accepted++;
      const headerEnd = 8 + Number(new DataView(damaged.buffer).getBigUint64(0, true));
      const { __metadata__: _, ...expected } = JSON.parse(Buffer.from(damaged.subarray(8, headerEnd)).toString());
      const found = [...result.tensors.values()].map((info) => {
        const begin = info.offsetBytes - headerEnd;
        return [info.name, info.dtype, info.shape, [begin, begin + info.sizeBytes]];
      });
      const entries = Object.entries(
        expected as Record<string, { dtype: string; shape: number[]; data_offsets: number[] }>,
      );
      const wanted = entries.map(([name, info]) => [name, info.dtype, info.shape, info.data_offsets]);
      expect(found).toEqual(wanted);
    }
    // Turns in the data, in names and in the metadata leave a valid file.
    expect(accepted).toBeGreaterThan(16 * 8);
    expect(accepted).toBeLessThan(valid.byteLength * 8 * 0.5);
  });
});
