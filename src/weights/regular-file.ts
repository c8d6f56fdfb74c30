import { type FileHandle, open, stat } from "node:fs/promises";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { decodeUtf8 } from "./strict-json.ts";

/** Most bytes of one read: a single read of 2^31 bytes or more aborts the Node process. */
const MAX_READ_BYTES = 1 << 30;

export interface OpenedFile {
  readonly handle: FileHandle;
  readonly sizeBytes: number;
  readonly modifiedMs: number;
  /** Of the file or of what is known of it (ctime), which no program can set. */
  readonly changedMs: number;
}

/** A failed file operation as an InputError: `path: cannot read: no such file or directory`. */
export function fileError(path: string, action: string, cause: unknown): InputError {
  const { code, message } = cause as NodeJS.ErrnoException;
  // Node's messages read "ENOENT: no such file or directory, open 'path'".
  const reason = code === undefined ? message : message.replace(`${code}: `, "").replace(/, \w+( '.*)?$/s, "");
  return new InputError(`${printable(path)}: cannot ${action}: ${printable(reason)}`, { cause });
}

/** Opens a regular file for reading; the caller closes the handle. Throws InputError for anything else. */
export async function openRegularFile(path: string): Promise<OpenedFile> {
  let handle: FileHandle | undefined;
  try {
    // Before opening, because opening a named pipe waits for its writer.
    if (!(await stat(path)).isFile()) throw new InputError(`${printable(path)}: must be a file`);
    handle = await open(path, "r");
    const { size, mtimeMs, ctimeMs } = await handle.stat();
    return { handle, sizeBytes: size, modifiedMs: mtimeMs, changedMs: ctimeMs };
  } catch (error) {
    await handle?.close();
    throw error instanceof InputError ? error : fileError(path, "open", error);
  }
}

/** Fills `target` from the file's bytes at `positionBytes`. Throws InputError when the file ends before. */
export async function readExactly(
  handle: FileHandle,
  path: string,
  target: Uint8Array,
  positionBytes: number,
): Promise<void> {
  let done = 0;
  while (done < target.byteLength) {
    const length = Math.min(target.byteLength - done, MAX_READ_BYTES);
    let bytesRead: number;
    try {
      ({ bytesRead } = await handle.read(target, done, length, positionBytes + done));
    } catch (cause) {
      throw fileError(path, "read", cause);
    }
    if (bytesRead === 0) {
      throw new InputError(
        `${printable(path)}: the file became shorter while it was read: ` +
          `${target.byteLength} bytes were expected at byte ${positionBytes}, found ${done}`,
      );
    }
    done += bytesRead;
  }
}

/** The text of a UTF-8 file of at most `limitBytes`. Throws InputError. */
export async function readTextFile(path: string, limitBytes: number): Promise<string> {
  const { handle, sizeBytes } = await openRegularFile(path);
  try {
    if (sizeBytes > limitBytes) {
      throw new InputError(`${printable(path)}: must have at most ${limitBytes} bytes, found ${sizeBytes}`);
    }
    const bytes = new Uint8Array(sizeBytes);
    await readExactly(handle, path, bytes, 0);
    return decodeUtf8(bytes, path);
  } finally {
    await handle.close();
  }
}
