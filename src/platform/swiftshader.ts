import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { cacheFolder } from "./cache-folder.ts";

/**
 * SwiftShader, Google's Vulkan driver for the CPU, from the npm package `@sparticuz/chromium`: it lets the trainer run
 * where there is neither a GPU nor a Vulkan loader, with no system package and no root.
 *
 * Dawn looks for `libvulkan.so.1` beside its own binary first, so the loader and a copy of `dawn.node` are unpacked into
 * one folder of the user's cache (36 MB, once for each pair of versions).
 */
export interface SwiftShader {
  /** The copy of dawn.node that finds the Vulkan loader beside it. */
  readonly dawnPath: string;
  /** For VK_DRIVER_FILES: tells the loader to use SwiftShader and nothing else. */
  readonly driverManifestPath: string;
}

const DRIVER_MANIFEST = "vk_swiftshader_icd.json";
const FILES = new Set(["libvulkan.so.1", "libvk_swiftshader.so", DRIVER_MANIFEST]);

/** Unpacks SwiftShader if need be. Null where the package is not installed or has no build for this platform. */
export function findSwiftShader(): SwiftShader | null {
  if (process.platform !== "linux" || process.arch !== "x64") return null;
  const require = createRequire(import.meta.url);
  let chromium: { version: string; root: string };
  let dawn: { version: string; root: string };
  try {
    chromium = packageOf(require.resolve("@sparticuz/chromium"), "@sparticuz/chromium");
    dawn = packageOf(require.resolve("webgpu"), "webgpu");
  } catch {
    return null;
  }
  const archive = path.join(chromium.root, "bin", "swiftshader.tar.br");
  if (!existsSync(archive)) return null;

  const name = `swiftshader-${chromium.version}-dawn-${dawn.version}`;
  const dawnSource = path.join(dawn.root, "dist", `${process.platform}-${process.arch}`, "dawn.node");
  const folder = unpackOnce(name, (target) => {
    for (const file of readTar(brotliDecompressSync(readFileSync(archive)))) {
      if (FILES.has(file.name)) writeFileSync(path.join(target, file.name), file.bytes, { mode: 0o755 });
    }
    copyFileSync(dawnSource, path.join(target, "dawn.node"));
  });
  return { dawnPath: path.join(folder, "dawn.node"), driverManifestPath: path.join(folder, DRIVER_MANIFEST) };
}

function packageOf(entryPath: string, name: string): { version: string; root: string } {
  let root = path.dirname(entryPath);
  for (;;) {
    const manifest = path.join(root, "package.json");
    if (existsSync(manifest)) {
      const { name: found, version } = JSON.parse(readFileSync(manifest, "utf8")) as {
        name?: string;
        version?: string;
      };
      if (found === name && version) return { version, root };
    }
    const parent = path.dirname(root);
    if (parent === root) throw new Error(`internal: package.json of ${name} not found above ${entryPath}`);
    root = parent;
  }
}

/** Fills a folder of the cache exactly once, also when several processes start together: whoever renames first wins. */
function unpackOnce(name: string, fill: (folder: string) => void): string {
  const cache = cacheFolder();
  const folder = path.join(cache, name);
  if (existsSync(folder)) return folder;
  let parent = cache;
  try {
    mkdirSync(cache, { recursive: true });
  } catch {
    parent = tmpdir(); // A home that cannot be written to: unpack for this process alone.
  }
  const temporary = mkdtempSync(path.join(parent, `${name}-`));
  fill(temporary);
  if (parent !== cache) {
    process.once("exit", () => rmSync(temporary, { recursive: true, force: true }));
    return temporary;
  }
  try {
    renameSync(temporary, folder);
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    if (!existsSync(folder)) throw error;
  }
  return folder;
}

/** The regular files of a tar archive (POSIX ustar): 512-byte headers, contents padded to 512 bytes. */
function* readTar(archive: Buffer): Generator<{ name: string; bytes: Buffer }> {
  const REGULAR_FILE = new Set(["0", "\0"]);
  for (let at = 0; at + 512 <= archive.length && archive[at] !== 0; ) {
    const name = archive.toString("utf8", at, at + 100).replace(/\0.*$/s, "");
    const sizeBytes = Number.parseInt(archive.toString("ascii", at + 124, at + 136), 8);
    const type = archive.toString("ascii", at + 156, at + 157);
    if (REGULAR_FILE.has(type)) {
      yield { name: path.posix.basename(name), bytes: archive.subarray(at + 512, at + 512 + sizeBytes) };
    }
    at += 512 + Math.ceil(sizeBytes / 512) * 512;
  }
}
