import { expect, it } from "vitest";
import { setConfigDtype } from "../../src/export/model-config.ts";
import { inputErrorOf } from "../weights/fixtures.ts";

const lines = (...inner: string[]) => `{\n${inner.join(",\n")}\n}\n`;

it("sets the dtype and changes nothing else: order, digits, nested keys", () => {
  const other = '  "rms_norm_eps": 1e-05';
  const nested =
    '  "rope_scaling": {\n    "factor": 8.0,\n    "dtype": "bfloat16",\n    "ids": [\n      1,\n      12345678901234567890\n    ],\n    "none": [],\n    "map": {}\n  }';
  const text = (dtype: string) => lines('  "z": "é\\u001b"', `  "dtype": ${dtype}`, other, nested, '  "tie": false');
  expect(setConfigDtype(text('"bfloat16"'), "config.json", "float16")).toBe(text('"float16"'));
});

it.each([
  ['{"torch_dtype": "float32"}', lines('  "torch_dtype": "bfloat16"')],
  ['{"torch_dtype": "float32", "dtype": null}', lines('  "torch_dtype": "bfloat16"', '  "dtype": "bfloat16"')],
  ['{"a": 1}', lines('  "a": 1', '  "torch_dtype": "bfloat16"')],
])("%s: each name that is there, or the one that all readers know", (text, expected) => {
  expect(setConfigDtype(text, "config.json", "bfloat16")).toBe(expected);
});

it("refuses what is no JSON object", async () => {
  expect(await inputErrorOf(() => setConfigDtype("[]", "a/config.json", "float32"))).toMatch(
    /^a\/config\.json: must be/,
  );
});
