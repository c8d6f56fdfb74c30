import { lstat, mkdir, readdir, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { InputError } from "../../src/errors.ts";
import { http1Options } from "../../src/hub/http1.ts";
import { type ResolvedModel, type ResolveOptions, resolveModel } from "../../src/hub/resolve.ts";
import type { DownloadProgress } from "../../src/hub/snapshot.ts";
import { type Fixture, pattern, QUICK, REPOSITORY, SHARDS, shardWeights, startFixture, text } from "./fixture.ts";
import { answer, COMMIT, cutAfter, gitHash, sha256 } from "./loopback-hub.ts";

const TOKEN = "hf_s3cretT0ken";

let fixture: Fixture;
beforeEach(async () => {
  fixture = await startFixture();
});
afterEach(() => fixture.close());

function download(options: ResolveOptions = {}, reference = REPOSITORY): Promise<ResolvedModel> {
  return resolveModel(reference, { env: fixture.env, timing: QUICK, ...options });
}

async function failure(options: ResolveOptions = {}, reference = REPOSITORY): Promise<string> {
  const error: unknown = await download(options, reference).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(InputError);
  const { message } = error as InputError;
  expect(message).not.toContain(TOKEN);
  return message;
}

const weights = () => fixture.files.get("model.safetensors")!;
const blobs = () => readdir(join(fixture.repositoryPath, "blobs")).catch(() => []);
const requestsFor = (name: string) => fixture.hub.seen.filter(({ path }) => path.endsWith(`/${name}`));
const cdnRequests = () => fixture.hub.seen.filter(({ server }) => server === "cdn");

/** A cut may cost the bytes that were still on their way to the disk. */
function expectRangeWithin(range: string | undefined, sentBytes: number): number {
  const from = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1]);
  expect(from).toBeGreaterThan(0);
  expect(from).toBeLessThanOrEqual(sentBytes);
  return from;
}

async function expectSnapshot(names: Iterable<string> = fixture.files.keys()): Promise<void> {
  const folder = join(fixture.repositoryPath, "snapshots", COMMIT);
  expect((await readdir(folder)).sort()).toEqual([...names].sort());
  for (const name of names)
    expect((await readFile(join(folder, name))).equals(fixture.files.get(name)!), name).toBe(true);
}

describe("the layout", () => {
  it("holds each file once, by hash, with relative links and the ref", async () => {
    const model = await download();
    expect(model).toEqual({
      source: "download",
      folder: join(fixture.repositoryPath, "snapshots", COMMIT),
      repository: REPOSITORY,
      revision: "main",
      commit: COMMIT,
    });
    await expectSnapshot();
    expect(await readFile(join(fixture.repositoryPath, "refs/main"), "utf8")).toBe(COMMIT);
    expect(await readlink(join(model.folder, "model.safetensors"))).toBe(`../../blobs/${sha256(weights())}`);
    expect(await readlink(join(model.folder, "config.json"))).toBe(
      `../../blobs/${gitHash(fixture.files.get("config.json")!)}`,
    );
    expect(await blobs()).toHaveLength(fixture.files.size);
  });

  it("takes shards that the index names, and only those", async () => {
    shardWeights(fixture.files);
    fixture.files.set("consolidated.safetensors", pattern(10, 3));
    await download();
    await expectSnapshot([...fixture.files.keys()].filter((name) => name !== "consolidated.safetensors"));
  });

  it("leaves out what a model folder does not need", async () => {
    const names = [...fixture.files.keys()];
    for (const name of ["original/consolidated.00.pth", "pytorch_model.bin", "tiny.gguf", "train.py", "a\\b.json"]) {
      fixture.files.set(name, text("not wanted"));
    }
    await download();
    await expectSnapshot(names);
  });

  it("moves files into the snapshot where symbolic links are not to be had", async () => {
    fixture.files.set("NOTICE", fixture.files.get("LICENSE")!);
    const model = await download({ env: { ...fixture.env, HF_HUB_DISABLE_SYMLINKS: "1" } });
    await expectSnapshot();
    for (const name of fixture.files.keys()) expect((await lstat(join(model.folder, name))).isFile()).toBe(true);
    expect(await blobs()).toEqual([]);
  });

  it("records a branch with a slash, a tag and a commit by their own names", async () => {
    fixture.hub.revisions.set("refs/pr/1", COMMIT).set("v1.0", COMMIT);
    await download({}, `${REPOSITORY}@refs/pr/1`);
    expect(await readFile(join(fixture.repositoryPath, "refs/refs/pr/1"), "utf8")).toBe(COMMIT);
    await download({}, `${REPOSITORY}@v1.0`);
    expect((await download({}, `${REPOSITORY}@${COMMIT}`)).source).toBe("cache");
    expect((await readdir(join(fixture.repositoryPath, "refs"))).sort()).toEqual(["refs", "v1.0"]);
  });

  it("shares blobs between commits", async () => {
    await download();
    const next = "f".repeat(40);
    fixture.hub.revisions.set("next", next).set(next, next);
    fixture.files.set("config.json", text({ model_type: "llama", changed: true }));
    fixture.hub.seen.length = 0;
    const model = await download({}, `${REPOSITORY}@next`);
    expect((await readFile(join(model.folder, "model.safetensors"))).equals(weights())).toBe(true);
    expect(fixture.hub.seen.filter(({ path }) => path.includes("/resolve/")).map(({ path }) => path)).toEqual([
      `/${REPOSITORY}/resolve/${next}/config.json`,
    ]);
  });

  it("writes equal and empty files once", async () => {
    fixture.files.set("NOTICE", fixture.files.get("LICENSE")!).set("merges.txt", text("")).set("README.md", text(""));
    await download();
    await expectSnapshot();
    expect(await blobs()).toHaveLength(fixture.files.size - 2);
  });

  it("mends a snapshot that lacks a file, or has a shorter or longer one", async () => {
    const { folder } = await download();
    await rm(join(folder, "tokenizer.json"));
    await rm(join(folder, "LICENSE"));
    await writeFile(join(folder, "LICENSE"), "do as");
    await writeFile(join(fixture.repositoryPath, "blobs", sha256(weights())), Buffer.concat([weights(), weights()]));
    expect((await download()).source).toBe("download");
    await expectSnapshot();
  });

  it("asks for HTTP/1.1 through the dispatcher of this Node's fetch", async () => {
    await download();
    expect(http1Options()).toHaveProperty("dispatcher.dispatch");
  });
});

describe("progress", () => {
  it("counts every byte once and ends at the total", async () => {
    const reports: DownloadProgress[] = [];
    await download({ onProgress: (progress) => reports.push(progress) });
    const totalBytes = [...fixture.files.values()].reduce((sum, content) => sum + content.length, 0);
    for (let i = 1; i < reports.length; i++) {
      expect(reports[i]!.doneBytes).toBeGreaterThanOrEqual(reports[i - 1]!.doneBytes);
    }
    expect(reports.at(-1)).toMatchObject({ file: "model.safetensors", doneBytes: totalBytes, totalBytes });
  });
});

describe("a failing network", () => {
  it("resumes after a cut with a Range request", async () => {
    fixture.hub.fault = (request, response, nth) =>
      request.server === "cdn" && nth === 1 && cutAfter(response, weights(), 40_000);
    await download();
    await expectSnapshot();
    expect(cdnRequests()).toHaveLength(2);
    expectRangeWithin(cdnRequests()[1]?.range, 40_000);
  });

  it("resumes in a later run what an earlier one left", async () => {
    fixture.hub.fault = (request, response, nth) =>
      request.server === "cdn" && (nth === 1 ? cutAfter(response, weights(), 30_000) : answer(response, 503));
    expect(await failure()).toContain("answered 503 (3 attempts); run again to go on where this stopped");
    fixture.hub.fault = () => false;
    fixture.hub.seen.length = 0;
    const reports: DownloadProgress[] = [];
    await download({ onProgress: (progress) => reports.push(progress) });
    expect(cdnRequests()).toHaveLength(1);
    const resumedBytes = expectRangeWithin(cdnRequests()[0]?.range, 30_000);
    expect(reports.find(({ file }) => file === "model.safetensors")?.fileDoneBytes).toBe(resumedBytes);
    await expectSnapshot();
  });

  it("goes on as long as the download comes further", async () => {
    fixture.files.set("model.safetensors", pattern(8_000_000, 5));
    fixture.hub.fault = (request, response) => {
      if (request.server !== "cdn") return false;
      const from = Number(/\d+/.exec(request.range ?? "0")?.[0]);
      if (weights().length - from < 1_500_000) return false;
      const range = `bytes ${from}-${weights().length - 1}/${weights().length}`;
      response.writeHead(request.range ? 206 : 200, { "content-range": range });
      response.write(weights().subarray(from, from + 1_500_000), () => setTimeout(() => response.destroy(), 10));
      return true;
    };
    await download();
    await expectSnapshot();
    expect(cdnRequests().length).toBeGreaterThan(QUICK.attempts + 1);
  });

  it("starts anew when the server ignores Range", async () => {
    fixture.hub.fault = (request, response, nth) => {
      if (request.server !== "cdn") return false;
      if (nth === 1) return cutAfter(response, weights(), 40_000);
      response.writeHead(200).end(weights());
      return true;
    };
    await download();
    await expectSnapshot();
  });

  it("does not take another part for the one it asked for", async () => {
    fixture.hub.fault = (request, response, nth) => {
      if (request.server !== "cdn" || nth > 2) return false;
      if (nth === 1) return cutAfter(response, weights(), 40_000);
      response.writeHead(206, { "content-range": `bytes 0-99/${weights().length}` }).end(weights().subarray(0, 100));
      return true;
    };
    await download();
    await expectSnapshot();
  });

  it("treats a body that ends early without a cut as a cut", async () => {
    fixture.hub.fault = (request, response, nth) => {
      if (request.server !== "cdn" || nth > 1) return false;
      response.writeHead(200).end(weights().subarray(0, 12_345));
      return true;
    };
    await download();
    await expectSnapshot();
    expect(cdnRequests()[1]?.range).toBe("bytes=12345-");
  });

  it("waits as long as 429 asks, and says so", async () => {
    fixture.hub.fault = (request, response, nth) =>
      request.path.includes("/revision/") && nth === 1 && answer(response, 429, { "retry-after": "1" });
    const notices: string[] = [];
    const startMs = performance.now();
    await download({ onNotice: (message) => notices.push(message) });
    expect(performance.now() - startMs).toBeGreaterThan(990);
    expect(notices).toEqual([
      `model ${REPOSITORY}: ${fixture.hub.endpoint} answered 429 and asks to wait 1 s, trying again in 1 s (attempt 2 of 3)`,
    ]);
  });

  it("reads the Hub's own rate-limit header, and does not wait beyond reason", async () => {
    fixture.hub.fault = (_, response) => answer(response, 429, { ratelimit: '"api";r=0;t=3600' });
    expect(await failure()).toContain("answered 429 and asks to wait 3600 s; run again");
    expect(fixture.hub.seen).toHaveLength(1);
  });

  it("tries 500 again, for the listing and for a file, and then gives up", async () => {
    fixture.hub.fault = ({ server }, response, nth) => server === "hub" && nth <= 2 && answer(response, 500);
    await download();
    await expectSnapshot();
    await rm(fixture.repositoryPath, { recursive: true });
    fixture.hub.fault = (request, response) => request.path.endsWith("tokenizer.json") && answer(response, 500);
    fixture.hub.seen.length = 0;
    expect(await failure()).toContain("answered 500 (3 attempts)");
    expect(requestsFor("tokenizer.json")).toHaveLength(3);
  });

  it("asks for a new link when that of the CDN has expired", async () => {
    fixture.hub.fault = (request, response, nth) => request.server === "cdn" && nth === 1 && answer(response, 403);
    await download();
    await expectSnapshot();
    expect(requestsFor("model.safetensors")).toHaveLength(2);
  });

  it("cuts a listing or a file that has gone silent, and asks again", async () => {
    fixture.hub.fault = (request, response, nth) => {
      if (nth > 1) return false;
      if (request.path.includes("/tree/")) {
        response.writeHead(200, { "content-type": "application/json" }).write("[");
        return true;
      }
      if (request.server !== "cdn") return false;
      response.writeHead(200, { "content-length": weights().length }).write(weights().subarray(0, 20_000));
      return true;
    };
    const notices: string[] = [];
    await download({ onNotice: (message) => notices.push(message) });
    expect(notices.map((message) => message.includes("nothing received for 0.3 s"))).toEqual([true, true]);
    expect(cdnRequests()[1]?.range).toBe("bytes=20000-");
    await expectSnapshot();
  });

  it("leaves a slow server alone while it sends", async () => {
    fixture.hub.fault = (request, response) => {
      if (request.server !== "cdn") return false;
      response.writeHead(200, { "content-length": weights().length });
      const send = (from: number) => {
        if (from >= weights().length) return void response.end();
        response.write(weights().subarray(from, from + 20_000));
        setTimeout(send, 100, from + 20_000);
      };
      send(0);
      return true;
    };
    await download();
    expect(cdnRequests()).toHaveLength(1);
    await expectSnapshot();
  });

  it("names the remedy when the endpoint cannot be reached", async () => {
    await fixture.hub.close();
    const message = await failure({ env: { ...fixture.env, HF_TOKEN: TOKEN, https_proxy: "http://proxy:3128" } });
    expect(message).toContain(`the connection to ${fixture.hub.endpoint} failed (ECONNREFUSED) (3 attempts)`);
    expect(message).toContain(`hf download ${REPOSITORY} --local-dir FOLDER`);
    expect(message).toContain("NODE_USE_ENV_PROXY=1");
  });

  it("stops at once when aborted, and keeps what it has", async () => {
    const controller = new AbortController();
    fixture.hub.fault = (request, response) => {
      if (request.server !== "cdn") return false;
      response.writeHead(200, { "content-length": weights().length }).write(weights().subarray(0, 20_000));
      return true;
    };
    const onProgress = ({ file, fileDoneBytes }: DownloadProgress) => {
      if (file === "model.safetensors" && fileDoneBytes === 20_000) controller.abort(new Error("interrupted"));
    };
    await expect(download({ signal: controller.signal, onProgress })).rejects.toThrow("interrupted");
    fixture.hub.fault = () => false;
    await download();
    expect(cdnRequests().at(-1)?.range).toBe("bytes=20000-");
    await expectSnapshot();
  });
});

describe("what arrives is checked", () => {
  it("refuses a file whose sha256 is wrong twice, and leaves no blob of it", async () => {
    const altered = Buffer.from(weights()).fill(0, 500, 600);
    fixture.hub.fault = (request, response) => {
      if (request.server !== "cdn") return false;
      response.writeHead(200).end(altered);
      return true;
    };
    const message = await failure();
    expect(message).toContain(`model.safetensors must have sha256 ${sha256(weights())}, but what arrived twice has`);
    expect(message).toContain(sha256(altered));
    expect(cdnRequests()).toHaveLength(2);
    expect((await blobs()).filter((name) => name.startsWith(sha256(weights())))).toEqual([]);
  });

  it("refuses a small file whose Git hash is wrong", async () => {
    fixture.hub.fault = (request, response) => {
      if (!request.path.endsWith("/config.json")) return false;
      response.writeHead(200).end(text({ model_type: "LLAMA" }));
      return true;
    };
    expect(await failure()).toContain("config.json must have git-sha1");
  });

  it("starts a damaged partial file anew", async () => {
    const partial = join(fixture.repositoryPath, "blobs", `${sha256(weights())}.dpo-train.incomplete`);
    await mkdir(join(fixture.repositoryPath, "blobs"), { recursive: true });
    await writeFile(partial, Buffer.alloc(60_000, 1));
    const notices: string[] = [];
    await download({ onNotice: (message) => notices.push(message) });
    expect(cdnRequests().map(({ range }) => range)).toEqual(["bytes=60000-", undefined]);
    expect(notices).toEqual([`model ${REPOSITORY}: model.safetensors does not match its hash, starting it anew`]);
    await expectSnapshot();
  });

  it.each([
    ["whole", 100_003],
    ["longer than the file", 200_000],
  ])("deals with a partial file that is %s", async (_, sizeBytes) => {
    const partial = join(fixture.repositoryPath, "blobs", `${sha256(weights())}.dpo-train.incomplete`);
    await mkdir(join(fixture.repositoryPath, "blobs"), { recursive: true });
    await writeFile(partial, Buffer.concat([weights(), weights()]).subarray(0, sizeBytes));
    await download();
    expect(cdnRequests()).toHaveLength(sizeBytes === weights().length ? 0 : 1);
    await expectSnapshot();
  });

  it("refuses a body that is longer than listed", async () => {
    fixture.hub.fault = (request, response) => {
      if (request.server !== "cdn") return false;
      response.writeHead(200).end(Buffer.concat([weights(), weights()]));
      return true;
    };
    expect(await failure()).toContain("sends more of model.safetensors than the 100003 bytes it lists");
  });

  it("refuses a model larger than the disk before downloading it", async () => {
    fixture.hub.editListing = (entries) =>
      entries.map((entry) =>
        entry.path === "model.safetensors" ? { ...entry, lfs: { ...(entry.lfs as object), size: 2 ** 52 } } : entry,
      );
    expect(await failure()).toMatch(/needs 4503599.63 GB more in .*, which has \d+\.\d\d GB free: .*set HF_HOME/);
    expect(fixture.hub.seen.some(({ path }) => path.includes("/resolve/"))).toBe(false);
  });

  it("says which folder cannot be written", async () => {
    await writeFile(join(fixture.home, "hub"), "a file where the cache should be");
    expect(await failure()).toMatch(/cannot be downloaded: .*hub cannot be written \(\w+\): set HF_HOME/);
  });
});

describe("access", () => {
  it("sends the token to the endpoint and never to the CDN", async () => {
    await download({ env: { ...fixture.env, HF_TOKEN: TOKEN } });
    await expectSnapshot();
    for (const { server, authorization } of fixture.hub.seen) {
      expect(authorization).toBe(server === "hub" ? `Bearer ${TOKEN}` : undefined);
    }
    expect(cdnRequests()).toHaveLength(1);
  });

  it("does not send the token where a listing's next page leads", async () => {
    const other = await startFixture();
    try {
      other.hub.repositories.set(REPOSITORY, fixture.files);
      fixture.hub.fault = (request, response) => {
        if (request.path.includes("/tree/")) {
          response.setHeader("link", `<${other.hub.endpoint}${request.path}>; rel="next"`);
        }
        return false;
      };
      fixture.hub.editListing = () => [];
      await download({ env: { ...fixture.env, HF_TOKEN: TOKEN } });
      expect(other.hub.seen.length).toBeGreaterThan(0);
      for (const { authorization } of other.hub.seen) expect(authorization).toBeUndefined();
    } finally {
      await other.close();
    }
  });

  it.each([
    [401, {}, undefined, ["does not exist or is gated or private", "set HF_TOKEN"]],
    [401, {}, TOKEN, ["does not accept the token in use"]],
    [401, { "x-error-code": "GatedRepo" }, undefined, ["gated or private (401): accept its licence on", "HF_TOKEN"]],
    [403, { "x-error-code": "GatedRepo" }, TOKEN, ["gated or private (403)", "the token in use may not"]],
    [404, { "x-error-code": "RepoNotFound" }, undefined, ["has no such repository or revision", "HF_TOKEN"]],
    [404, { "x-error-code": "RevisionNotFound" }, TOKEN, ['has no revision "main" (404)']],
    [400, {}, undefined, ["answered 400"]],
  ])("explains %i %o with token %s, at the first request", async (status, headers, HF_TOKEN, parts) => {
    fixture.hub.fault = (_, response) => answer(response, status, headers);
    const message = await failure({ env: { ...fixture.env, HF_TOKEN } });
    for (const part of parts) expect(message).toContain(part);
    expect(fixture.hub.seen).toHaveLength(1);
    expect(await readdir(fixture.home)).toEqual([]);
  });

  it("explains a gated repository whose listing is public", async () => {
    fixture.hub.fault = (request, response) =>
      request.path.includes("/resolve/") && answer(response, 401, { "x-error-code": "GatedRepo" });
    expect(await failure()).toContain(`accept its licence on ${fixture.hub.endpoint}/${REPOSITORY}`);
  });

  it("shows no signature of a CDN link", async () => {
    fixture.hub.fault = (request, response) => request.server === "cdn" && answer(response, 500);
    expect(await failure()).not.toContain("signature");
  });
});

describe("a repository that is not a model we load", () => {
  it.each([
    [["pytorch_model.bin"], "it has pytorch_model.bin, which are not read"],
    [["tiny.Q4_K_M.gguf"], "it has tiny.Q4_K_M.gguf, which are not read"],
    [["adapter_config.json", "adapter_model.safetensors"], "is an adapter, not a model"],
    [[], "has no model.safetensors and no model.safetensors.index.json: load it in Python"],
  ])("refuses weights in %o", async (names, message) => {
    fixture.files.delete("model.safetensors");
    for (const name of names) fixture.files.set(name, text("weights"));
    expect(await failure()).toContain(message);
    expect(await readdir(fixture.home)).toEqual([]);
  });

  it("refuses one without configuration or tokenizer, before its weights", async () => {
    fixture.files.delete("config.json");
    fixture.files.delete("tokenizer.json");
    expect(await failure()).toContain("has no config.json and no tokenizer.json");
    expect(cdnRequests()).toEqual([]);
  });

  it.each([
    ["a shard the repository lacks", { weight_map: { a: "model-00009-of-00009.safetensors" } }, "does not have"],
    ["a path", { weight_map: { a: "../model.safetensors" } }, 'found "../model.safetensors"'],
    ["an absolute path", { weight_map: { a: "/etc/model.safetensors" } }, 'found "/etc/model.safetensors"'],
    ["a NUL", { weight_map: { a: "a\u0000.safetensors" } }, 'found "a\\u0000.safetensors"'],
    ["a pickle", { weight_map: { a: "model.bin" } }, "model.bin: weights must be in the safetensors format"],
    ["a number", { weight_map: { a: 5 } }, "found 5"],
    ["a name for a URL to trip over", { weight_map: { a: "a%2f.safetensors" } }, 'found "a%2f.safetensors"'],
    ["nothing", { weight_map: {} }, "weight_map must be an object from tensor names to shard files, found {}"],
    ["no map", { metadata: {} }, "shard files, found nothing"],
    ["null", null, "must be a JSON object, found null"],
    ["no JSON", "{", "model.safetensors.index.json:1:2: not strict JSON"],
  ])("refuses an index that holds %s", async (_, index, message) => {
    shardWeights(fixture.files);
    fixture.files.set("model.safetensors.index.json", text(index));
    expect(await failure()).toContain(message);
    expect(requestsFor(SHARDS[0])).toEqual([]);
  });
});

describe("a hostile server", () => {
  it.each(["../../evil.json", "/etc/passwd", "a/../../evil", "..", "nul\0.json", ""])(
    "is refused when it lists %o",
    async (path) => {
      fixture.hub.editListing = (entries) => [{ ...entries[0], path }, ...entries];
      expect(await failure()).toContain("would leave the repository's folder");
      expect(await readdir(fixture.home)).toEqual([]);
    },
  );

  it.each([
    ["hash", { oid: "../../../evil" }],
    ["hash", { oid: undefined }],
    ["hash", { lfs: { oid: "f".repeat(40), size: 3 } }],
    ["size", { size: -1 }],
    ["size", { size: "12" }],
    ["size", { size: 2 ** 60 }],
  ])("is refused when it lists a file with such a %s: %o", async (_, change) => {
    fixture.hub.editListing = (entries) => entries.map((entry) => ({ ...entry, ...change }));
    expect(await failure()).toContain("without a size and hash to check it against");
  });

  it.each([["not json"], ["null"], ["{}"], ["[null]"], ['[{"type":"file"}]']])(
    "is told from the Hub when its listing is %s",
    async (body) => {
      fixture.hub.fault = (request, response) => {
        if (!request.path.includes("/tree/")) return false;
        response.writeHead(200, { "content-type": "application/json" }).end(body);
        return true;
      };
      expect(await failure()).toContain("did not answer as the Hugging Face Hub does");
    },
  );

  it("is refused when its commit is a path", async () => {
    fixture.hub.revisions.set("main", "../../../evil");
    expect(await failure()).toContain('names no commit for revision "main"');
  });

  it("cannot put control characters into a message", async () => {
    fixture.hub.editListing = (entries) => [{ ...entries[0], path: "../\u001b]0;evil\u0007" }];
    const message = await failure();
    expect(message).toContain("../\\u001b]0;evil\\u0007");
  });
});

it("removes its temporary files", async () => {
  shardWeights(fixture.files);
  await download();
  const names = await readdir(fixture.home, { recursive: true });
  expect(names.filter((name) => /incomplete|tmp|lock$/.test(name))).toEqual([]);
  expect((await stat(join(fixture.home, "hub"))).isDirectory()).toBe(true);
});
