import { mkdir, readdir, rename, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { findInFolder } from "../../src/weights/folder-files.ts";
import { openModelFolder } from "../../src/weights/model-folder.ts";
import { parseModelIndex } from "../../src/weights/model-index.ts";
import {
  inputErrorOf,
  modelFolder,
  patternBytes,
  TINY_CONFIG,
  temporaryFolder,
  tensorFile,
  tinyTensors,
} from "./fixtures.ts";

const EXAMPLE = new URL("../../examples/twin-tiny/model", import.meta.url).pathname;
const INDEX = "model.safetensors.index.json";

async function open(folder: string) {
  const model = await openModelFolder(folder);
  onTestFinished(() => model.close());
  return model;
}

/** The tiny model in two shards: the first three tensors, and the rest. */
function shards(tensors = tinyTensors()) {
  const names = Object.keys(tensors);
  const pick = (chosen: string[]) => Object.fromEntries(chosen.map((name) => [name, tensors[name]!]));
  const [first, second] = [names.slice(0, 3), names.slice(3)];
  const weightMap: Record<string, string> = {};
  for (const name of first) weightMap[name] = "a.safetensors";
  for (const name of second) weightMap[name] = "b.safetensors";
  return { first: pick(first), second: pick(second), weightMap };
}

function shardedFiles(
  change: (parts: ReturnType<typeof shards>) => void = () => {},
): Record<string, Uint8Array | string> {
  const parts = shards();
  change(parts);
  return {
    "a.safetensors": tensorFile(parts.first),
    "b.safetensors": tensorFile(parts.second),
    [INDEX]: JSON.stringify({ metadata: { total_size: 1 }, weight_map: parts.weightMap }),
  };
}

describe("opens", () => {
  test("the example, in two shards", async () => {
    const model = await open(EXAMPLE);
    expect(model.config.layers).toBe(6);
    expect(model.files.map(({ path }) => path.slice(EXAMPLE.length + 1))).toEqual([
      "model-00001-of-00002.safetensors",
      "model-00002-of-00002.safetensors",
    ]);
    expect(model.tensors.size).toBe(3 + 6 * 9);
    const head = model.tensors.get("lm_head.weight")!;
    expect(head).toMatchObject({ dtype: "BF16", shape: [4160, 192] });
    expect(head.file).toBe(model.files[1]);
    expect((await head.file.readRows("lm_head.weight", 4159, 4160)).byteLength).toBe(384);
  });

  test("one file; shards; one file although an index is there", async () => {
    const single = { "model.safetensors": tensorFile(tinyTensors()) };
    expect((await open(await modelFolder(single))).files.length).toBe(1);
    expect((await open(await modelFolder(shardedFiles()))).files.length).toBe(2);
    expect((await open(await modelFolder({ ...shardedFiles(), ...single }))).files.length).toBe(1);
  });

  test("mixed dtypes, and tensors that nobody needs", async () => {
    const tensors = tinyTensors();
    const norm = tensors["model.norm.weight"]!;
    tensors["model.norm.weight"] = { ...norm, dtype: "F32", data: patternBytes(4 * 8) };
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = { dtype: "F32", shape: [2], data: patternBytes(8) };
    const model = await open(await modelFolder({ "model.safetensors": tensorFile(tensors) }));
    expect(model.tensors.get("model.norm.weight")?.dtype).toBe("F32");
  });

  test("tied embeddings, with and without the head stored as well", async () => {
    const config = { ...TINY_CONFIG, tie_word_embeddings: true };
    const tensors = tinyTensors(config);
    expect(tensors["lm_head.weight"]).toBeUndefined();
    await open(await modelFolder({ "model.safetensors": tensorFile(tensors) }, config));
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]!;
    await open(await modelFolder({ "model.safetensors": tensorFile(tensors) }, config));
  });
});

describe("tied embeddings whose stored head differs are refused", () => {
  const config = { ...TINY_CONFIG, tie_word_embeddings: true };
  test.each<[string, { dtype: string; shape: number[]; data: Uint8Array }, string]>([
    ["in its values", { dtype: "BF16", shape: [10, 8], data: patternBytes(160).reverse() }, "must equal"],
    ["in its dtype", { dtype: "F32", shape: [10, 8], data: patternBytes(320) }, "must equal"],
    ["in its shape", { dtype: "BF16", shape: [11, 8], data: patternBytes(176) }, "must be [10, 8], found [11, 8]"],
  ])("%s", async (_, head, problem) => {
    const tensors = { ...tinyTensors(config), "lm_head.weight": head };
    const folder = await modelFolder({ "model.safetensors": tensorFile(tensors) }, config);
    const message = await inputErrorOf(() => open(folder));
    expect(message).toContain('"lm_head.weight"');
    expect(message).toContain(problem);
  });
});

describe("refused folders", () => {
  const folderProblem = async (files: Record<string, Uint8Array | string>, config?: object) =>
    inputErrorOf(async () => open(await modelFolder(files, config)));

  test("no folder, a file, an empty folder", async () => {
    const folder = await temporaryFolder();
    expect(await inputErrorOf(() => open(join(folder, "none")))).toContain("no such file or directory");
    await writeFile(join(folder, "file"), "");
    expect(await inputErrorOf(() => open(join(folder, "file")))).toContain("must be a model folder, found a file");
    expect(await inputErrorOf(() => open(folder))).toContain("with a config.json, found none");
  });

  test("no weights, other weights, shards without an index", async () => {
    expect(await folderProblem({})).toContain("found no .safetensors file");
    expect(await folderProblem({ "pytorch_model.bin": "x", "training_args.bin": "x" })).toMatch(
      /pytorch_model\.bin: weights must be in the safetensors format/,
    );
    expect(await folderProblem({ "consolidated.00.pth": "x" })).toContain("save_pretrained");
    expect(await folderProblem({ "model-00001-of-00002.safetensors": "x" })).toContain(
      'found "model-00001-of-00002.safetensors"',
    );
  });

  test("a config.json of another model, a config.json of a huge size", async () => {
    const files = { "model.safetensors": tensorFile(tinyTensors()) };
    expect(await folderProblem(files, { ...TINY_CONFIG, model_type: "gemma" })).toMatch(
      /config\.json: model_type must be/,
    );
    expect(await folderProblem({ ...files, "config.json": " ".repeat(2 ** 20 + 1) })).toContain(
      "at most 1048576 bytes",
    );
  });

  test("a missing shard, or several", async () => {
    const { "b.safetensors": _, ...rest } = shardedFiles();
    expect(await folderProblem(rest)).toContain('every shard must be in the folder, missing "b.safetensors"');
    expect(await folderProblem({ [INDEX]: rest[INDEX]! })).toContain('missing "a.safetensors", "b.safetensors"');
  });

  test("a damaged shard is named, and no file stays open", async () => {
    const openFiles = async () => (process.platform === "linux" ? (await readdir("/proc/self/fd")).length : 0);
    const before = await openFiles();
    const files = shardedFiles();
    const message = await folderProblem({
      ...files,
      "b.safetensors": (files["b.safetensors"] as Uint8Array).slice(0, -1),
    });
    expect(message).toMatch(
      /b\.safetensors: the header declares a file of \d+ bytes, found \d+ \(the file is cut short\)/,
    );
    expect(await openFiles()).toBe(before);
  });

  test("a tensor that is in another shard than the index says, or in none", async () => {
    const name = "model.norm.weight";
    const wrong = shardedFiles(({ weightMap }) => {
      weightMap[name] = "a.safetensors";
    });
    expect(await folderProblem(wrong)).toContain(
      `tensor "${name}" must be in a.safetensors, found it in b.safetensors`,
    );
    const gone = shardedFiles(({ second }) => {
      delete second[name];
    });
    expect(await folderProblem(gone)).toContain(`tensor "${name}" must be in b.safetensors, found it in no shard`);
  });

  test("a tensor that the index does not name, or that is in two shards", async () => {
    const name = "model.norm.weight";
    const unnamed = shardedFiles(({ weightMap }) => {
      delete weightMap[name];
    });
    expect(await folderProblem(unnamed)).toContain(
      `b.safetensors: holds tensor "${name}", which the index does not name`,
    );
    const twice = shardedFiles(({ first, second }) => {
      first[name] = second[name]!;
    });
    expect(await folderProblem(twice)).toContain(
      `a.safetensors: holds tensor "${name}", which the index places in b.safetensors`,
    );
  });
});

describe("tensors that are not the config's", () => {
  const tensorProblem = async (
    change: (tensors: ReturnType<typeof tinyTensors>) => void,
    config: object = TINY_CONFIG,
  ) => {
    const tensors = tinyTensors();
    change(tensors);
    return inputErrorOf(async () => open(await modelFolder({ "model.safetensors": tensorFile(tensors) }, config)));
  };
  const QUERY = "model.layers.1.self_attn.q_proj.weight";

  test("one is missing", async () => {
    const message = await tensorProblem((tensors) => delete tensors[QUERY]);
    expect(message).toContain(`must hold every tensor of config.json's Llama, missing "${QUERY}"`);
  });

  test("the head is missing, with the likely reason", async () => {
    const message = await tensorProblem((tensors) => delete tensors["lm_head.weight"]);
    expect(message).toContain(
      'missing "lm_head.weight" (a model whose head is its embedding has "tie_word_embeddings": true',
    );
  });

  test("a whole layer is missing, or one too many", async () => {
    const more = await tensorProblem(() => {}, { ...TINY_CONFIG, num_hidden_layers: 3 });
    expect(more).toContain('missing "model.layers.2.input_layernorm.weight"');
    expect(more).toContain("and 3 more");
    const fewer = await tensorProblem(() => {}, { ...TINY_CONFIG, num_hidden_layers: 1 });
    expect(fewer).toContain("must hold no other tensors than those of config.json's Llama, found \"model.layers.1.");
  });

  test("shapes differ", async () => {
    const message = await tensorProblem((tensors) => {
      tensors[QUERY] = { dtype: "BF16", shape: [8, 7], data: patternBytes(112) };
    });
    expect(message).toContain(`"${QUERY}" must be [8, 8], found [8, 7]`);
    const flat = await tensorProblem((tensors) => {
      tensors[QUERY] = { ...tensors[QUERY]!, shape: [64] };
    });
    expect(flat).toContain("must be [8, 8], found [64]");
    const all = await tensorProblem(() => {}, { ...TINY_CONFIG, hidden_size: 16 });
    expect(all).toMatch(/"model\.embed_tokens\.weight" must be \[10, 16\], found \[10, 8\] \(and \d+ more tensors/);
  });

  test("biases, and other extras", async () => {
    const vector = { dtype: "BF16", shape: [8], data: patternBytes(16) };
    const message = await tensorProblem((tensors) => {
      tensors["model.layers.0.self_attn.q_proj.bias"] = vector;
      tensors["score.weight"] = vector;
      tensors["\u001b[31m"] = vector;
    });
    expect(message).toContain(
      'must have no biases, which are not supported, found "model.layers.0.self_attn.q_proj.bias"',
    );
    expect(message).toContain('found "score.weight", "\\u001b[31m"');
  });

  test.each([
    ["F8_E4M3", 1],
    ["I8", 1],
    ["F64", 8],
  ])("the dtype is %s", async (dtype, bytes) => {
    const message = await tensorProblem((tensors) => {
      tensors[QUERY] = { dtype, shape: [8, 8], data: patternBytes(64 * bytes) };
    });
    expect(message).toContain(`must be stored in BF16, F16, F32, found ${dtype} in "${QUERY}"`);
    expect(message).toContain("save_pretrained");
  });
});

describe("index files", () => {
  const shardName = (name: string) => JSON.stringify({ weight_map: { t: name } });
  test.each<[string, string, string]>([
    [
      "parent folder",
      shardName("../x.safetensors"),
      'must name files in its own folder, without a path, found "../x.safetensors"',
    ],
    ["subfolder", shardName("sub/x.safetensors"), "without a path"],
    ["absolute path", shardName("/etc/x.safetensors"), "without a path"],
    ["backslash", shardName("..\\x.safetensors"), "without a path"],
    ["drive", shardName("C:x.safetensors"), "without a path"],
    ["NUL", shardName("x\0.safetensors"), 'found "x\\u0000.safetensors"'],
    ["empty name", shardName(""), "without a path"],
    ["the folder", shardName("."), "without a path"],
    ["the parent", shardName(".."), "without a path"],
    ["other format", shardName("pytorch_model.bin"), "safetensors format"],
    ["no format", shardName("model"), "must be a .safetensors file"],
    ["a number", '{"weight_map":{"t":1}}', 'weight_map of "t": must be the name of a shard file, found 1'],
    ["repeated tensor", '{"weight_map":{"t":"a.safetensors","\\u0074":"b.safetensors"}}', 'repeat the key "t"'],
    ["empty map", '{"weight_map":{}}', "weight_map must be an object from tensor names to shard files, found {}"],
    ["no map", "{}", "found nothing"],
    ["a list", "[]", "must be a JSON object, found []"],
    ["not JSON", "x", "not strict JSON"],
    [
      "too many shards",
      JSON.stringify({
        weight_map: Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [`t${i}`, `${i}.safetensors`])),
      }),
      "at most 1000 shards, found 1001",
    ],
  ])("%s", async (_, text, problem) => {
    const message = await inputErrorOf(() => parseModelIndex(text, "f/index.json"));
    expect(message).toContain(problem);
    expect(message).toMatch(/^f\/index\.json|^pytorch_model\.bin/);
  });

  test("a tensor named __proto__ is a tensor", () => {
    const index = parseModelIndex('{"weight_map":{"__proto__":"a.safetensors"}}', "i");
    expect([...index]).toEqual([["__proto__", "a.safetensors"]]);
  });

  test("cut at any byte, a whole model's index is refused", async () => {
    const text = shardedFiles()[INDEX] as string;
    for (let length = 0; length < text.length; length++) {
      await inputErrorOf(() => parseModelIndex(text.slice(0, length), "i"));
    }
  });
});

describe("symbolic links", () => {
  test("a shard, a config or an index that leaves the folder is refused before it is opened", async () => {
    for (const name of ["b.safetensors", "config.json", INDEX]) {
      const outside = await temporaryFolder();
      const folder = await modelFolder(shardedFiles());
      await rename(join(folder, name), join(outside, "target"));
      await symlink(join(outside, "target"), join(folder, name));
      const message = await inputErrorOf(() => open(folder));
      expect(message).toContain(`${join(folder, name)}: must not be a symbolic link out of the folder`);
    }
  });

  test("a folder beside it whose name begins alike is outside", async () => {
    const parent = await temporaryFolder();
    await mkdir(join(parent, "model"));
    await mkdir(join(parent, "model-other"));
    await writeFile(join(parent, "model-other", "x"), "");
    await symlink("../model-other/x", join(parent, "model", "x"));
    expect(await inputErrorOf(() => findInFolder(join(parent, "model"), "x"))).toContain(
      "symbolic link out of the folder",
    );
  });

  test("links within the folder, and a link to the folder itself, are fine", async () => {
    const folder = await modelFolder(shardedFiles());
    await rename(join(folder, "b.safetensors"), join(folder, "real"));
    await symlink("real", join(folder, "b.safetensors"));
    const alias = join(await temporaryFolder(), "alias");
    await symlink(folder, alias);
    expect((await open(alias)).files.length).toBe(2);
  });

  test("a link that leads nowhere is a missing shard; one in a circle cannot be opened", async () => {
    const folder = await modelFolder(shardedFiles());
    await rename(join(folder, "b.safetensors"), join(folder, "moved"));
    await symlink("nowhere", join(folder, "b.safetensors"));
    expect(await inputErrorOf(() => open(folder))).toContain('missing "b.safetensors"');
    const circle = await modelFolder(shardedFiles());
    await rename(join(circle, "b.safetensors"), join(circle, "moved"));
    await symlink("b.safetensors", join(circle, "b.safetensors"));
    expect(await inputErrorOf(() => open(circle))).toContain("cannot open");
  });

  /** `models--o--n/snapshots/REV/` with each file a link into `blobs/`, as huggingface_hub lays it out. */
  async function cacheSnapshot(files: Record<string, Uint8Array | string>, repositoryName: string): Promise<string> {
    const repository = join(await temporaryFolder(), repositoryName);
    const snapshot = join(repository, "snapshots", "0123abc");
    await mkdir(snapshot, { recursive: true });
    await mkdir(join(repository, "blobs"));
    let blob = 0;
    for (const [name, content] of Object.entries(files)) {
      const blobName = `${blob++}`.padStart(40, "0");
      await writeFile(join(repository, "blobs", blobName), content);
      await symlink(`../../blobs/${blobName}`, join(snapshot, name));
    }
    return snapshot;
  }

  test("a snapshot of a Hugging Face cache opens, also by another name", async () => {
    const files = { ...shardedFiles(), "config.json": JSON.stringify(TINY_CONFIG) };
    const snapshot = await cacheSnapshot(files, "models--owner--name");
    expect((await open(snapshot)).files.length).toBe(2);
    const alias = join(await temporaryFolder(), "alias");
    await symlink(snapshot, alias);
    expect((await open(alias)).files.length).toBe(2);
  });

  test("a snapshot's link to anything but a blob of its own repository is refused", async () => {
    const files = { ...shardedFiles(), "config.json": JSON.stringify(TINY_CONFIG) };
    const other = await cacheSnapshot(files, "models--owner--other");
    const snapshot = await cacheSnapshot({ "config.json": files["config.json"] }, "models--owner--name");
    await mkdir(join(snapshot, "../../blobs/sub"));
    await writeFile(join(snapshot, "../../blobs/sub/x"), "");
    await mkdir(join(snapshot, "../../refs"));
    await writeFile(join(snapshot, "../../refs/main"), "");
    for (const target of [join(other, "a.safetensors"), "../../blobs/sub/x", "../../refs/main"]) {
      const name = `link${target.length}.safetensors`;
      await symlink(target, join(snapshot, name));
      expect(await inputErrorOf(() => findInFolder(snapshot, name))).toContain("symbolic link out of the folder");
    }
  });

  test("blobs beside snapshots of anything else than a cache are outside", async () => {
    const files = { ...shardedFiles(), "config.json": JSON.stringify(TINY_CONFIG) };
    const snapshot = await cacheSnapshot(files, "something-else");
    expect(await inputErrorOf(() => open(snapshot))).toContain("symbolic link out of the folder");
  });
});
