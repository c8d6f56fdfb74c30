import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const SOURCE = fileURLToPath(new URL("../src/", import.meta.url));

/** Folders of src/ from top to bottom: each imports only from those below it. */
const LAYERS = [
  ["cli"],
  // A model card tells what the pages tell of a run, and is made of the same files.
  ["publish", "live"],
  ["plan", "report"],
  ["evaluation"],
  ["sweep", "curation", "track"],
  ["train"],
  ["generate", "export"],
  ["platform"],
  ["model"],
  ["ops"],
  ["gpu"],
];
/** What every layer may use, and what knows nothing of the GPU. */
const FOUNDATIONS = ["data", "weights", "config", "hub", "random", "style"];

interface Import {
  readonly specifier: string;
  /** Gone once the types are stripped. */
  readonly typeOnly: boolean;
}

/** Files of src/ as paths relative to it: "model/lora.ts". */
const files = readdirSync(SOURCE, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .map((file) => file.split(path.sep).join("/"));

function sourceOf(file: string): string {
  return readFileSync(path.join(SOURCE, file), "utf8");
}

function importsOf(file: string): Import[] {
  const statements = /\b(?:import|export)\s+(type\s)?(?:[\w*{][^;"']*?\sfrom\s*)?["']([^"']+)["']/g;
  const calls = /\bimport\(\s*["']([^"']+)["']\s*\)/g;
  const source = sourceOf(file);
  return [
    ...Array.from(source.matchAll(statements), ([, type, specifier]) => ({
      specifier: specifier!,
      typeOnly: type !== undefined,
    })),
    ...Array.from(source.matchAll(calls), ([, specifier]) => ({ specifier: specifier!, typeOnly: false })),
  ];
}

/** The file of src/ that a relative import names; null for a package. */
function resolve(file: string, { specifier }: Import): string | null {
  return specifier.startsWith(".") ? path.posix.join(path.posix.dirname(file), specifier) : null;
}

function folderOf(file: string): string {
  return file.includes("/") ? file.slice(0, file.indexOf("/")) : "";
}

/** Whether a file of one folder may import from another. */
function isAllowed(from: string, to: string): boolean {
  if (from === to || to === "" || FOUNDATIONS.includes(to)) return true;
  const layerOf = (folder: string) => LAYERS.findIndex((layer) => layer.includes(folder));
  return layerOf(from) !== -1 && layerOf(from) < layerOf(to);
}

describe("imports between the folders of src/", () => {
  it("are found at all", () => {
    expect(importsOf("model/pair-model.ts").map(({ specifier }) => specifier)).toContain("../gpu/commands.ts");
    expect(importsOf("platform/dawn.ts")).toContainEqual({ specifier: "webgpu", typeOnly: false });
    expect(importsOf("gpu/readback.ts")).toContainEqual({ specifier: "./gpu.ts", typeOnly: true });
  });

  it("know every folder", () => {
    const known = ["", ...LAYERS.flat(), ...FOUNDATIONS];
    expect(files.filter((file) => !known.includes(folderOf(file)))).toEqual([]);
  });

  it("go downward", () => {
    const wrong = files.flatMap((file) =>
      importsOf(file).flatMap((found) => {
        const target = resolve(file, found);
        return target === null || isAllowed(folderOf(file), folderOf(target)) ? [] : [`${file} imports ${target}`];
      }),
    );
    expect(wrong).toEqual([]);
  });
});

describe("what is to run in a browser one day: gpu, ops, model and the training step", () => {
  const roots = files.filter((file) => /^(gpu|ops|model)\/|^train\/step/.test(file));
  /** Each file that they need when they run, with the path of imports that leads there. */
  const needed = new Map<string, string>(roots.map((file) => [file, file]));
  for (const [file, route] of needed) {
    for (const found of importsOf(file)) {
      const target = resolve(file, found);
      if (target !== null && !found.typeOnly && !needed.has(target)) needed.set(target, `${route} → ${target}`);
    }
  }

  it("is all of it", () => {
    expect(roots).toContain("train/step.ts");
    expect(roots.length).toBeGreaterThan(20);
    expect(needed.has("weights/half.ts")).toBe(true);
  });

  it("imports neither Node.js nor a package", () => {
    const packages = [...needed].flatMap(([file, route]) =>
      importsOf(file)
        .filter((found) => resolve(file, found) === null && !found.typeOnly)
        .map(({ specifier }) => `${route} → ${specifier}`),
    );
    expect(packages).toEqual([]);
  });

  it("uses none of Node.js's globals", () => {
    const users = [...needed.keys()].filter((file) => /\b(process|Buffer|require|global)\b[.(]/.test(sourceOf(file)));
    expect(users).toEqual([]);
  });
});
