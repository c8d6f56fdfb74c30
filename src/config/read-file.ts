import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";

/** A config is a page of text. */
const MAX_SIZE_BYTES = 1024 * 1024;

/** The text of a config file, without its byte order mark. Throws InputError where it is not a readable text file. */
export function readConfigFile(path: string): string {
  const bytes = readBytes(path);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new InputError(`${printable(path)}: a config must be UTF-8 text, which this file is not`);
  }
}

function readBytes(path: string): Uint8Array {
  let file: number | undefined;
  try {
    file = openSync(path, "r");
    if (fstatSync(file).isDirectory())
      throw new InputError(`${printable(path)}: a config must be a file, got a folder`);
    // Not the size that the file system tells: a pipe or a device has none.
    const buffer = new Uint8Array(MAX_SIZE_BYTES + 1);
    let sizeBytes = 0;
    for (let read = -1; read !== 0 && sizeBytes < buffer.length; sizeBytes += read) {
      read = readSync(file, buffer, sizeBytes, buffer.length - sizeBytes, null);
    }
    if (sizeBytes > MAX_SIZE_BYTES) {
      throw new InputError(`${printable(path)}: a config must not be larger than ${MAX_SIZE_BYTES} bytes`);
    }
    return buffer.subarray(0, sizeBytes);
  } catch (error) {
    if (error instanceof InputError) throw error;
    throw new InputError(`${printable(path)}: cannot read the config: ${reasonOf(error)}`, { cause: error });
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOENT") return "there is no such file";
  if (code === "EACCES" || code === "EPERM") return "permission denied";
  return printable(message);
}
