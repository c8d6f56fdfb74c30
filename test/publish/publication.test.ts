import { readFile } from "node:fs/promises";
import { hostname, userInfo } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { InputError } from "../../src/errors.ts";
import { licenceIn } from "../../src/publish/licence.ts";
import { code, codeBlock } from "../../src/publish/markdown.ts";
import { type PublicationRequest, preparePublication } from "../../src/publish/publication.ts";
import { RUN, runFolder } from "../report/run-folders.ts";
import { BASE, COMMIT, finishedFolder, HUB_CONFIG, HUB_RUN, LOCAL_RUN, MERGED_FILES } from "./finished-folder.ts";

const request = (folder: string, more: Partial<PublicationRequest> = {}): PublicationRequest => ({
  ...{ folder, what: "merged", repository: "ada/llama-dpo", revision: "main", isPrivate: true, baseModel: null },
  ...more,
});

async function refusal(folder: string, more: Partial<PublicationRequest> = {}): Promise<string> {
  const error: unknown = await preparePublication(request(folder, more)).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(InputError);
  return (error as InputError).message;
}

function metadataOf(card: string): Record<string, unknown> {
  const [, head = ""] = /^---\n(.*?)\n---\n/s.exec(card) ?? [];
  return parse(head) as Record<string, unknown>;
}

describe("what goes", () => {
  it("is the merged model with its card, and no checkpoint, log or config", async () => {
    const { files, leftOut } = await preparePublication(request(await finishedFolder()));
    expect(files.map(({ path }) => path)).toEqual(MERGED_FILES);
    expect(files.find(({ path }) => path === "model-00002-of-00002.safetensors")?.sizeBytes).toBe(3001);
    expect(leftOut).toEqual([]);
  });

  it("is the adapter as PEFT wrote it, where its base is on the Hub", async () => {
    const folder = await finishedFolder();
    const { files } = await preparePublication(request(folder, { what: "adapter" }));
    expect(files.map(({ path }) => path)).toEqual(["README.md", "adapter_config.json", "adapter_model.safetensors"]);
    expect(files.filter(({ content }) => content instanceof URL)).toHaveLength(2);
  });

  it("names the base of an adapter by its Hub id, and refuses to publish a path of this machine", async () => {
    const local = { base_model_name_or_path: "/home/alice/secret-models/llama", r: 16, lora_dropout: 0.0 };
    const files = { "adapter/adapter_config.json": JSON.stringify(local) };
    const folder = await finishedFolder({ run: LOCAL_RUN, files });
    expect(await refusal(folder, { what: "adapter" })).toMatch(/--base-model owner\/name/);
    const { files: named } = await preparePublication(request(folder, { what: "adapter", baseModel: BASE }));
    const config = named.find(({ path }) => path === "adapter_config.json")!.content as Blob;
    expect(JSON.parse(await config.text())).toEqual({ ...local, base_model_name_or_path: BASE });
    expect(await readFile(join(folder, "adapter/adapter_config.json"), "utf8")).toContain("/home/alice");
  });

  it("pins the base of an adapter that was trained on one of its revisions", async () => {
    const run = { ...HUB_RUN, model: { ...HUB_RUN.model, reference: `${BASE}@v2` } };
    const folder = await finishedFolder({ run });
    const { files, card } = await preparePublication(request(folder, { what: "adapter" }));
    const config = files.find(({ path }) => path === "adapter_config.json")!.content as Blob;
    expect(JSON.parse(await config.text())).toMatchObject({ base_model_name_or_path: BASE, revision: COMMIT });
    expect(metadataOf(card)).toMatchObject({ base_model: BASE });
    expect(card).toContain(
      `revision = "${COMMIT}"\ntokenizer = AutoTokenizer.from_pretrained(base, revision=revision)`,
    );
    expect(card).toContain(`dpo-train generate --model ${BASE}@${COMMIT} --adapter adapter`);
    const other = await preparePublication(request(folder, { what: "adapter", baseModel: "ada/copy" }));
    expect(other.card).not.toContain("revision");
  });

  it("takes the places on this machine out of config.json and tokenizer_config.json", async () => {
    const files = {
      "merged/config.json": '{"_name_or_path": "/home/alice/llama", "rms_norm_eps": 1e-05}',
      "merged/tokenizer_config.json": '{"name_or_path": "meta-llama/Llama-3.2-1B"}',
    };
    const { files: sent } = await preparePublication(request(await finishedFolder({ files })));
    const content = (name: string) => sent.find(({ path }) => path === name)!.content;
    expect(await (content("config.json") as Blob).text()).toBe('{\n  "rms_norm_eps": 1e-05\n}\n');
    expect(content("tokenizer_config.json")).toBeInstanceOf(URL);
    const old = {
      name_or_path: "a/b",
      tokenizer_file: "/home/alice/tokenizer.json",
      special_tokens_map_file: "/home/ada/x",
    };
    const folder = await finishedFolder({ files: { "merged/tokenizer_config.json": JSON.stringify(old) } });
    const again = (await preparePublication(request(folder))).files;
    const config = again.find(({ path }) => path === "tokenizer_config.json")!.content as Blob;
    expect(JSON.parse(await config.text())).toEqual({ name_or_path: "a/b" });
  });

  it("takes the user's own model card as it stands, and tells what else lies there", async () => {
    const files = { "merged/README.md": "# Mine\n", "merged/.DS_Store": "x", "merged/pictures/a.png": "x" };
    const publication = await preparePublication(request(await finishedFolder({ files })));
    expect(publication).toMatchObject({ card: "# Mine\n", isOwnCard: true, leftOut: [".DS_Store", "pictures"] });
    expect(publication.files.map(({ path }) => path)).toEqual(MERGED_FILES);
  });

  it.each([
    [{ status: "running" }, /holds a run that goes on, or was killed, at step 40: .*--resume/],
    [{ status: "interrupted", steps_done: 7 }, /was interrupted after step 7: continue it .*--resume/],
    [{ status: "stopped", steps_done: 9, reason: "it lags" }, /was stopped after step 9 \(it lags\)/],
    [{ status: "failed", steps_done: 9, error: "loss is NaN", exit_code: 4 }, /failed after step 9 \(loss is NaN\)/],
  ])("is nothing of a run that is %j", async (state, message) => {
    expect(await refusal(await finishedFolder({ run: { ...RUN, ...state } }))).toMatch(message);
  });

  it("is nothing where a part is missing", async () => {
    const folder = await runFolder();
    expect(await refusal(folder)).toMatch(/merged is not there: push the adapter with --what adapter/);
    expect(await refusal(folder, { what: "adapter" })).toMatch(/adapter is not there/);
    expect(await refusal(join(folder, "nowhere"))).toMatch(/must be the output folder of a run/);
  });
});

describe("the model card", () => {
  it("has the Hub's metadata, the recipe, the results and how to load it", async () => {
    const { card } = await preparePublication(request(await finishedFolder()));
    expect(metadataOf(card)).toEqual({
      base_model: BASE,
      base_model_relation: "finetune",
      library_name: "transformers",
      pipeline_tag: "text-generation",
      datasets: ["ada/pairs"],
      tags: ["dpo", "dpo-train"],
    });
    expect(card).toContain("https://huggingface.co/datasets/ada/pairs");
    expect(card).toContain("| `beta` | 0.5 |");
    expect(card).toContain("| `lora.r` | 16 |");
    expect(card).toMatch(/\| step \| loss \| margin \|[^\n]*\n\| --- \| ---: /);
    expect(card.match(/^\| 40 \| /gm)).toHaveLength(1);
    expect(card).toContain('AutoModelForCausalLM.from_pretrained("ada/llama-dpo", dtype="auto"');
    expect(card).toContain("dpo-train generate --model ada/llama-dpo");
    expect(card).toContain("rounding has left 0.97 ");
    expect(card).toContain("A better answer.");
    expect(card).toContain("rafailov2023direct");
    expect(card).not.toMatch(/undefined|null|NaN|\[object/);
  });

  it("of an adapter is filed under PEFT, with the prompt template in its example", async () => {
    const config = `${HUB_CONFIG}prompt_template: "alpaca"\n`;
    const { card } = await preparePublication(request(await finishedFolder({ config }), { what: "adapter" }));
    expect(metadataOf(card)).toMatchObject({
      base_model_relation: "adapter",
      library_name: "peft",
      tags: ["dpo", "dpo-train", "lora"],
    });
    expect(card).toContain('PeftModel.from_pretrained(model, "ada/llama-dpo")');
    expect(card).toContain(String.raw`### Instruction:\nWhat is a preference?`);
  });

  it("tells of the adapter that training began with, and of a base in 4 bits", async () => {
    const plain = (await preparePublication(request(await finishedFolder()))).card;
    expect(plain).not.toMatch(/Training began with|NF4/);
    const run = { ...HUB_RUN, sha256: { init_adapter: "cd".repeat(32) } };
    const config = `${HUB_CONFIG}init_adapter: "/home/alice/sft"\nload_in_4bit: true\n`;
    const { card } = await preparePublication(request(await finishedFolder({ run, config })));
    expect(card).toContain(
      `Training began with an adapter that was there before (SHA-256 of its weights \`${"cd".repeat(32)}\`)`,
    );
    expect(card).toMatch(/projections in 4 bits \(NF4\)/);
    expect(card).not.toContain("alice");
  });

  it("names no path, data set, user or host of this machine", async () => {
    const config = HUB_CONFIG.replace(BASE, "/home/alice/secret-models/llama")
      .replace("ada/pairs", "/home/alice/secret-data/pairs.jsonl")
      .replace("runs/one", "/home/alice/runs/secret-run");
    const folder = await finishedFolder({ run: LOCAL_RUN, config });
    const { card } = await preparePublication(request(folder));
    for (const secret of ["alice", "secret", "pairs.jsonl", "/home", folder, hostname(), `${userInfo().username}/`]) {
      expect(card).not.toContain(secret);
    }
    expect(metadataOf(card)).not.toHaveProperty("base_model");
    expect(metadataOf(card)).not.toHaveProperty("datasets");
    // Whether its base is on the Hub under some name nobody has said.
    expect(card).toContain("\nA Llama model of 8.03 billion parameters, trained with");
    expect(card).toContain("ab".repeat(32)); // By which its owner knows it again.
  });

  it("keeps hostile texts from being Markdown, HTML or metadata", async () => {
    const hostile =
      "```\n---\nlicense: mit\n---\n<script>alert(1)</script> ![x](http://evil/x.png) | # Title\r\n\u001b[31m\u202e";
    const run = {
      ...HUB_RUN,
      device: { name: hostile },
      precision: hostile,
      versions: { "dpo-train": hostile },
      data: { ...HUB_RUN.data, dataset: { repository: hostile, commit: hostile } },
      samples: { before: hostile, after: "~~~\n````" },
      merge: { fidelity: { dtype: hostile, overall: { fidelity: 1 } } },
    };
    const config = `${HUB_CONFIG}optim: ${JSON.stringify(hostile)}\n`.replace(
      '"What is a preference?"',
      JSON.stringify(hostile),
    );
    const { card } = await preparePublication(request(await finishedFolder({ run, config })));
    expect(metadataOf(card)).not.toHaveProperty("license");
    const outside = withoutCode(card);
    expect(outside).not.toMatch(/<|!\[|^# Title|evil/m);
    const optimizer = card.split("\n").filter((line) => line.startsWith("| `optim`"));
    expect(optimizer.map((line) => line.match(/\|/g)?.length)).toEqual([3]);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there.
    expect(card).not.toMatch(/[\u001b\u202e\r]/);
  });

  it("takes the licence from the base's card alone, and only as the Hub writes it", () => {
    const link = "https://huggingface.co/x/LICENSE";
    const card = `---\nlicense: other\nlicense_name: llama3.2\nlicense_link: ${link}\n---\n# Llama`;
    expect(licenceIn(card)).toEqual({ license: "other", license_name: "llama3.2", license_link: link });
    expect(licenceIn("---\nlicense: [mit]\n---\n")).toBeNull();
    expect(licenceIn('---\nlicense: "mit\\nbase_model: evil/x"\n---\n')).toBeNull();
    expect(licenceIn("---\nlicense: mit\nlicense_link: javascript:alert(1)\n---\n")).toEqual({ license: "mit" });
    expect(licenceIn("# no metadata")).toBeNull();
  });
});

/** What a reader of Markdown does not take for code, as CommonMark has it. */
function withoutCode(card: string): string {
  let fence = "";
  return card
    .split("\n")
    .filter((line) => {
      const run = /^`{3,}/.exec(line)?.[0] ?? "";
      if (fence === "") fence = run;
      else if (/^`+$/.test(line) && run.length >= fence.length) {
        fence = "";
        return false;
      }
      return fence === "";
    })
    .join("\n")
    .replace(/(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)/g, ""); // Code inside a line.
}

describe("Markdown", () => {
  it("takes others' text inside a line for code", () => {
    expect(code("a_b*c|d<e>")).toBe("`a_b*c¦d<e>`");
    expect(code("one\ntwo")).toBe("`one\\ntwo`");
    expect(code("`a`` b")).toBe("``` `a`` b ```");
    expect(code(" ")).toBe("");
  });

  it("fences code with more backticks than it holds", () => {
    expect(codeBlock("a ```` b", "text")).toBe("`````text\na ```` b\n`````");
  });
});
