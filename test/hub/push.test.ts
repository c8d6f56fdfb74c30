import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { InputError } from "../../src/errors.ts";
import { connectToPush, type PushTarget, UnreachableError } from "../../src/hub/push-connection.ts";
import { makeRepository, type Uploaded, type UploadFile, uploadFiles } from "../../src/hub/upload.ts";
import { requireWriteAccess } from "../../src/hub/write-access.ts";
import { temporaryFolder } from "../weights/fixtures.ts";
import { pattern, QUICK } from "./fixture.ts";
import { account, type PushHub, type PushRequest, remoteModel, startPushHub, TOKEN } from "./loopback-push.ts";

const NAME = "ada/llama-dpo";
const target = (more: Partial<PushTarget> = {}): PushTarget => ({
  ...{ repository: NAME, revision: "main", isPrivate: true },
  ...more,
});

interface Push {
  readonly target?: PushTarget;
  readonly environment?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  readonly notices?: string[];
}

async function push(hub: PushHub, files: readonly UploadFile[], options: Push = {}): Promise<Uploaded> {
  const { environment = {}, signal, notices = [] } = options;
  const goal = options.target ?? target();
  const connection = await connectToPush(goal, "--to", {
    env: { HF_HOME: "/nowhere", ...hub.environment, ...environment },
    timing: QUICK,
    onNotice: (notice) => notices.push(notice),
    ...(signal && { signal }),
  });
  const remote = await requireWriteAccess(connection, goal);
  await makeRepository(connection, goal, remote);
  return uploadFiles(connection, goal, files, "Upload", () => {});
}

async function failure(work: Promise<unknown>): Promise<InputError> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(InputError);
  expect((error as InputError).message).not.toContain(TOKEN);
  return error as InputError;
}

/** Two large files, the first of them in three parts, and two small ones. */
async function someFiles(): Promise<{ files: UploadFile[]; contents: Map<string, Buffer> }> {
  const folder = await temporaryFolder();
  const contents = new Map([
    ["model-00001-of-00002.safetensors", pattern(2_500_001, 3)],
    ["model-00002-of-00002.safetensors", pattern(700_003, 5)],
    ["config.json", Buffer.from('{"grüß": "dich 🙂"}')],
    ["merges.txt", Buffer.alloc(0)],
  ]);
  const files: UploadFile[] = [];
  for (const [path, content] of contents) {
    await writeFile(join(folder, path), content);
    files.push({ path, sizeBytes: content.length, content: pathToFileURL(join(folder, path)) });
  }
  const card = Buffer.from("# Card\n");
  contents.set("README.md", card);
  files.push({ path: "README.md", sizeBytes: card.length, content: new Blob([card]) });
  return { files, contents };
}

function requireAll(hub: PushHub, contents: ReadonlyMap<string, Buffer>, branch = "main"): void {
  expect(hub.violations).toEqual([]);
  const found = hub.models.get(NAME)?.branches.get(branch);
  for (const [path, content] of contents) expect(found?.get(path)?.equals(content), path).toBe(true);
}

const puts = ({ seen }: PushHub) => seen.filter(({ method }) => method === "PUT");

describe("a push", () => {
  it("makes a private repository and one commit with everything, the token seen by the Hub alone", async () => {
    const hub = await startPushHub();
    const { files, contents } = await someFiles();
    const { commitUrl, known } = await push(hub, files);
    requireAll(hub, contents);
    expect(hub.models.get(NAME)).toMatchObject({ isPrivate: true });
    expect(hub.models.get(NAME)!.commits).toEqual([files.map(({ path }) => path)]);
    expect(commitUrl).toMatch(/\/commit\/0*1$/);
    expect(known).toEqual([]);
    expect(puts(hub)).toHaveLength(4);
    expect(hub.seen.filter(({ server, headers }) => server === "storage" && headers.authorization)).toEqual([]);
  });

  it("makes a branch, and writes to one that is there", async () => {
    const hub = await startPushHub();
    const { files, contents } = await someFiles();
    const goal = target({ revision: "v2/try", isPrivate: false });
    await push(hub, files, { target: goal });
    await push(hub, files, { target: goal });
    requireAll(hub, contents, "v2/try");
    expect(hub.models.get(NAME)).toMatchObject({ isPrivate: false, commits: { length: 2 } });
    expect([...hub.models.get(NAME)!.branches.get("main")!.keys()]).toEqual([".gitattributes"]);
  });

  it("goes on after refusals for the moment and cut connections, without sending what has arrived", async () => {
    const hub = await startPushHub();
    const { files, contents } = await someFiles();
    const faults: Record<string, (request: PushRequest) => ReturnType<PushHub["fault"]>> = {
      PUT: ({ nth }) => (nth === 1 ? { cutAfterBytes: 100_000 } : null),
      "/api/complete_multipart": ({ nth }) => (nth === 1 ? { status: 503 } : null),
      "/api/repos/create": ({ nth }) => (nth === 1 ? { status: 500 } : null),
      [`/api/models/${NAME}/commit/main`]: ({ nth }) =>
        nth === 1 ? { status: 429, headers: { "retry-after": "1" } } : nth === 2 ? { cutAfterBytes: 0 } : null,
    };
    hub.fault = (request) => (faults[request.path] ?? faults[request.method])?.(request) ?? null;
    const notices: string[] = [];
    await push(hub, files, { notices });
    requireAll(hub, contents);
    expect(hub.models.get(NAME)!.commits).toHaveLength(1);
    expect(puts(hub)).toHaveLength(8); // Each of four was cut once.
    expect(notices.join("\n")).toMatch(/answered 429 and asks to wait 1 s, trying again in 1 s/);
  });

  it("that broke leaves the repository as it was, and the next one sends only what is missing", async () => {
    const hub = await startPushHub();
    const { files, contents } = await someFiles();
    // The second file arrives; of the first the last part never does.
    hub.fault = ({ method, path }) => (method === "PUT" && path.endsWith("/3") ? { status: 500 } : null);
    expect((await failure(push(hub, files))).message).toMatch(/answered 500 \(3 attempts\)$/);
    expect(hub.models.get(NAME)!.commits).toEqual([]);
    expect(hub.objects.size).toBe(1);
    hub.fault = () => null;
    hub.seen.length = 0;
    const { known } = await push(hub, files);
    expect(known).toEqual(["model-00002-of-00002.safetensors"]);
    expect(puts(hub)).toHaveLength(3); // The parts of the first file.
    requireAll(hub, contents);
    hub.seen.length = 0;
    await push(hub, files);
    expect(puts(hub)).toEqual([]);
  });

  it("asks for new links where the storage refuses old ones", async () => {
    const hub = await startPushHub();
    const { files, contents } = await someFiles();
    let refused = 0;
    hub.fault = ({ server }) => (server === "storage" && refused++ === 0 ? { status: 403 } : null);
    const notices: string[] = [];
    await push(hub, files, { notices });
    requireAll(hub, contents);
    expect(notices).toEqual([expect.stringMatching(/answered 403, asking for new links$/)]);
    hub.objects.clear();
    hub.fault = ({ server }) => (server === "storage" ? { status: 403 } : null);
    expect((await failure(push(hub, files))).message).toMatch(/^--to ada\/llama-dpo: http.* answered 403$/);
  });

  it("ends at once when it is interrupted, and another one completes it", async () => {
    const hub = await startPushHub();
    const { files, contents } = await someFiles();
    const controller = new AbortController();
    const reason = new Error("interrupted");
    hub.fault = ({ method }) => {
      if (method !== "PUT") return null;
      controller.abort(reason);
      return { status: 503, headers: { "retry-after": "100" } };
    };
    await expect(push(hub, files, { signal: controller.signal })).rejects.toBe(reason);
    expect(hub.models.get(NAME)!.commits).toEqual([]);
    hub.fault = () => null;
    await push(hub, files);
    requireAll(hub, contents);
  });

  it("says what the Hub holds against it, without the token that it may send back", async () => {
    const hub = await startPushHub();
    const { files } = await someFiles();
    const body = JSON.stringify({ error: `Invalid metadata in README.md\u001b[31m of ${TOKEN}` });
    hub.fault = ({ path }) =>
      path.includes("/commit/") ? { status: 400, headers: { "content-type": "application/json" }, body } : null;
    const { message } = await failure(push(hub, files));
    expect(message).toMatch(/answered 400: Invalid metadata in README.md\\u001b\[31m of …$/);
  });

  it("takes a file that is gone for what it is, and an answer of somebody else for no Hub", async () => {
    const hub = await startPushHub();
    const { files } = await someFiles();
    hub.fault = ({ path }) => (path.includes("/preupload/") ? { status: 200, body: "<html>log in</html>" } : null);
    expect((await failure(push(hub, files))).message).toMatch(/did not answer as the Hugging Face Hub does/);
    hub.fault = () => null;
    await rm(files[1]!.content as URL);
    expect((await failure(push(hub, files))).message).toMatch(/model-00002-of-00002.safetensors: cannot read/);
  });
});

describe("before a push the token", () => {
  const refusalOf = async (hub: PushHub, options: Push = {}) => (await failure(push(hub, [], options))).message;

  it("is looked for without asking anybody", async () => {
    const hub = await startPushHub();
    expect(await refusalOf(hub, { environment: { HF_TOKEN: "" } })).toMatch(
      /needs a token .*\/settings\/tokens: set HF_TOKEN/,
    );
    expect(await refusalOf(hub, { environment: { HF_TOKEN: "api_org_old" } })).toMatch(
      /is not the Hub's, which begins with hf_/,
    );
    expect(await refusalOf(hub, { environment: { HF_TOKEN: "hf_a b" } })).toMatch(/does not hold a Hub token/);
    expect(await refusalOf(hub, { environment: { HF_HUB_OFFLINE: "1" } })).toMatch(
      /HF_HUB_OFFLINE forbids the network/,
    );
    expect(hub.seen).toEqual([]);
  });

  it.each([
    ["a token that may only read", account("read"), NAME, /the token in use may only read/],
    [
      "another's namespace",
      account(),
      "bob/llama",
      /the token in use is of ada, which may not write to bob: push to ada\/llama/,
    ],
    ["an organization that it may only read in", account(), "library/llama", /ada may only read in library/],
    [
      "rights for other repositories alone",
      account("fineGrained", {
        fineGrained: { scoped: [{ entity: { name: "analytics" }, permissions: ["repo.write"] }] },
      }),
      NAME,
      /may not write to repositories of ada/,
    ],
    ["an account without a name", { type: "user", auth: {} }, NAME, /does not say whose the token in use is/],
  ])("is refused for %s", async (_, whoami, repository, message) => {
    const hub = await startPushHub();
    hub.account = whoami;
    expect(await refusalOf(hub, { target: target({ repository }) })).toMatch(message);
    expect(hub.models.size).toBe(0);
  });

  it.each([
    ["an organization", account(), "Analytics/llama"],
    [
      "rights for this repository alone",
      account("fineGrained", { fineGrained: { scoped: [{ entity: { name: NAME }, permissions: ["repo.write"] }] } }),
      NAME,
    ],
  ])("is taken for %s", async (_, whoami, repository) => {
    const hub = await startPushHub();
    hub.account = whoami;
    await push(hub, (await someFiles()).files, { target: target({ repository }) });
    expect(hub.violations).toEqual([]);
  });

  it("is refused by the Hub with 401 or 403 in one sentence", async () => {
    const hub = await startPushHub();
    expect(await refusalOf(hub, { environment: { HF_TOKEN: "hf_wrong" } })).toMatch(
      /does not accept the token in use \(401\)/,
    );
    hub.fault = ({ path }) => (path === "/api/repos/create" ? { status: 403 } : null);
    expect(await refusalOf(hub)).toMatch(/the token in use may not write there \(403\)/);
  });

  it("does not put a private model into a public repository", async () => {
    const hub = await startPushHub();
    hub.models.set(NAME, remoteModel(false));
    expect(await refusalOf(hub)).toMatch(/is public on .*: say push_to_hub.private: false \(--public\)/);
    expect(hub.models.get(NAME)!.commits).toEqual([]);
  });

  it("cannot be asked about where nobody answers", async () => {
    const hub = await startPushHub();
    const environment = { HF_ENDPOINT: "http://127.0.0.1:9" };
    expect(await failure(push(hub, [], { environment }))).toBeInstanceOf(UnreachableError);
  });
});
