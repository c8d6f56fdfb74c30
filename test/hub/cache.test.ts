import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { findToken, hubCacheFolder, hubEndpoint, isOffline } from "../../src/hub/environment.ts";
import { resolveModel } from "../../src/hub/resolve.ts";
import { type Fixture, pattern, QUICK, REPOSITORY, SHARDS, shardWeights, startFixture, text } from "./fixture.ts";
import { COMMIT } from "./loopback-hub.ts";

describe("the environment, as huggingface_hub 2.4 reads it", () => {
  it.each([
    [{}, join(homedir(), ".cache/huggingface/hub")],
    [{ HOME: "/h" }, "/h/.cache/huggingface/hub"],
    [{ HOME: "/h", XDG_CACHE_HOME: "/x" }, "/x/huggingface/hub"],
    [{ XDG_CACHE_HOME: "/x", HF_HOME: "/hf" }, "/hf/hub"],
    [{ HF_HOME: "/hf", HUGGINGFACE_HUB_CACHE: "/old" }, "/old"],
    [{ HF_HOME: "/hf", HUGGINGFACE_HUB_CACHE: "/old", HF_HUB_CACHE: "/new" }, "/new"],
    [{ HOME: "/h", HF_HOME: "~/hf" }, "/h/hf/hub"],
    [{ HOME: "/h", HF_HOME: "~other/hf" }, "~other/hf/hub"],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: as a shell writes it.
    [{ SCRATCH: "/s", HF_HUB_CACHE: "$SCRATCH/a/${SCRATCH}/$NOT_SET" }, "/s/a//s/$NOT_SET"],
  ])("%o puts the cache in %s", (env, folder) => {
    expect(hubCacheFolder(env)).toBe(folder);
  });

  it.each([
    ["1", true],
    ["true", true],
    ["ON", true],
    ["Yes", true],
    ["0", false],
    ["", false],
    ["2", false],
  ])("HF_HUB_OFFLINE=%s means %s", (HF_HUB_OFFLINE, offline) => {
    expect(isOffline({ HF_HUB_OFFLINE })).toBe(offline);
  });

  it("reads TRANSFORMERS_OFFLINE where HF_HUB_OFFLINE is not set", () => {
    expect(isOffline({ TRANSFORMERS_OFFLINE: "1" })).toBe(true);
    expect(isOffline({ TRANSFORMERS_OFFLINE: "1", HF_HUB_OFFLINE: "0" })).toBe(false);
  });

  it.each([
    [undefined, "https://huggingface.co"],
    ["", "https://huggingface.co"],
    ["https://mirror.example/hub//", "https://mirror.example/hub"],
  ])("HF_ENDPOINT=%s is %s", (HF_ENDPOINT, endpoint) => {
    expect(hubEndpoint({ HF_ENDPOINT })).toBe(endpoint);
  });

  it.each(["mirror.example", "ftp://mirror.example", "https://mirror.example?x=1", "file:///etc", "\u001b"])(
    "HF_ENDPOINT=%o is refused",
    (HF_ENDPOINT) => {
      expect(() => hubEndpoint({ HF_ENDPOINT })).toThrow("HF_ENDPOINT must be an http or https address");
    },
  );

  it("refuses an endpoint with a password, without showing it", () => {
    expect(() => hubEndpoint({ HF_ENDPOINT: "https://me:s3cret@mirror.example" })).toThrow(
      "HF_ENDPOINT must not hold a user name or password: give the bare address, and the token in HF_TOKEN",
    );
  });
});

describe("the token", () => {
  let home: string;
  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), "dpo-train-token-"));
  });
  afterEach(() => rm(home, { recursive: true, force: true }));

  it("comes from HF_TOKEN, then HF_TOKEN_PATH, then the home folder", async () => {
    const HF_HOME = join(home, "hf");
    expect(await findToken({ HF_HOME })).toBeUndefined();
    await mkdir(HF_HOME);
    await writeFile(join(HF_HOME, "token"), "hf_home\n");
    await writeFile(join(home, "other"), " hf_\r\nother \n");
    expect(await findToken({ HF_HOME })).toBe("hf_home");
    expect(await findToken({ HOME: home, HF_HOME, HF_TOKEN_PATH: "~/other" })).toBe("hf_other");
    expect(await findToken({ HF_HOME, HUGGING_FACE_HUB_TOKEN: "hf_old" })).toBe("hf_old");
    expect(await findToken({ HF_HOME, HUGGING_FACE_HUB_TOKEN: "hf_old", HF_TOKEN: "hf_variable" })).toBe("hf_variable");
    expect(await findToken({ HF_HOME, HF_TOKEN: "hf_x", HF_HUB_DISABLE_IMPLICIT_TOKEN: "1" })).toBeUndefined();
    await writeFile(join(HF_HOME, "token"), " \n");
    expect(await findToken({ HF_HOME })).toBeUndefined();
  });

  it.each(["hf_ab cd", "hf_\u0001", "hf_é", "hf_\u{1f600}"])("is refused, unseen, when it is %o", async (token) => {
    const error: unknown = await findToken({ HF_TOKEN: token }).catch((reason: unknown) => reason);
    expect(String(error)).toContain("HF_TOKEN does not hold a Hub token");
    expect(String(error)).not.toContain("hf_");
  });

  it("is an error when its file cannot be read", async () => {
    await mkdir(join(home, "token"));
    await expect(findToken({ HF_HOME: home })).rejects.toThrow(/cannot read the Hub token in .*token \(EISDIR\)/);
  });
});

describe("a cache that something else filled", () => {
  let fixture: Fixture;
  let snapshot: string;

  beforeEach(async () => {
    fixture = await startFixture();
    snapshot = join(fixture.repositoryPath, "snapshots", COMMIT);
    await fixture.hub.close();
  });
  afterEach(() => rm(fixture.home, { recursive: true, force: true }));

  async function fill(): Promise<void> {
    await mkdir(join(fixture.repositoryPath, "blobs"), { recursive: true });
    await mkdir(join(fixture.repositoryPath, "refs"), { recursive: true });
    await mkdir(snapshot, { recursive: true });
    let n = 0;
    for (const [name, content] of fixture.files) {
      const blob = `blob${n++}`;
      await writeFile(join(fixture.repositoryPath, "blobs", blob), content);
      await symlink(`../../blobs/${blob}`, join(snapshot, name));
    }
    await writeFile(join(fixture.repositoryPath, "refs/main"), COMMIT);
  }

  const find = (reference = REPOSITORY, HF_HUB_OFFLINE = "1") =>
    resolveModel(reference, { env: { ...fixture.env, HF_HUB_OFFLINE }, timing: QUICK });

  it.each(["1", "0"])("is used without the network when it has everything (HF_HUB_OFFLINE=%s)", async (offline) => {
    await fill();
    const expected = { source: "cache", folder: snapshot, repository: REPOSITORY, revision: "main", commit: COMMIT };
    expect(await find(REPOSITORY, offline)).toEqual(expected);
    expect(await find(`${REPOSITORY}@${COMMIT}`, offline)).toEqual({ ...expected, revision: COMMIT });
  });

  it("may be sharded, and read-only", async () => {
    shardWeights(fixture.files);
    await fill();
    await chmod(snapshot, 0o500);
    expect((await find()).folder).toBe(snapshot);
    await chmod(snapshot, 0o700);
  });

  it.each(["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])(
    "is not enough without %s",
    async (name) => {
      fixture.files.delete(name);
      await fill();
      await expect(find()).rejects.toThrow(
        `model ${REPOSITORY} is not a local folder, HF_HUB_OFFLINE forbids the network, and the cache ${join(fixture.home, "hub")} lacks ${name}: unset`,
      );
      await expect(find(REPOSITORY, "0")).rejects.toThrow("ECONNREFUSED");
    },
  );

  it("is not enough without one of its shards, or with a link to a blob that is gone", async () => {
    shardWeights(fixture.files);
    await fill();
    await rm(join(snapshot, SHARDS[1]));
    await expect(find()).rejects.toThrow(`lacks ${SHARDS[1]}:`);
    await symlink("../../blobs/gone", join(snapshot, SHARDS[1]));
    await expect(find()).rejects.toThrow(`lacks ${SHARDS[1]}:`);
  });

  it.each([text("{"), text({ weight_map: { a: "../../../../secret.safetensors" } }), text("")])(
    "is not enough with the index %s",
    async (index) => {
      shardWeights(fixture.files);
      fixture.files.set("model.safetensors.index.json", index);
      await fill();
      await expect(find()).rejects.toThrow("lacks a readable model.safetensors.index.json");
    },
  );

  it("does not have a revision of another name, nor one whose ref is not a commit", async () => {
    await fill();
    await expect(find(`${REPOSITORY}@v1`)).rejects.toThrow('has no revision "v1" of it');
    await writeFile(join(fixture.repositoryPath, "refs/main"), "../../../elsewhere");
    await expect(find()).rejects.toThrow('has no revision "main" of it');
  });

  it("is said to be unreadable when it is", async () => {
    await fill();
    await expect(find(`${REPOSITORY}@${"x".repeat(300)}`)).rejects.toThrow(
      `cannot read the Hub cache ${fixture.repositoryPath} (ENAMETOOLONG): mend it, or set HF_HOME`,
    );
  });

  it("is not mistaken for another repository's", async () => {
    await fill();
    await expect(find("ada/Llama-3.1-tinier")).rejects.toThrow('has no revision "main" of it');
  });

  it("prefers the single file where an index lies beside it", async () => {
    fixture.files.set("model.safetensors.index.json", text("{"));
    fixture.files.set("model.safetensors", pattern(10, 1));
    await fill();
    expect((await find()).source).toBe("cache");
  });
});
