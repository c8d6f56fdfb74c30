import { InputError } from "../../errors.ts";
import { printableLines } from "../../text.ts";
import { openRegularFile, readExactly } from "../../weights/regular-file.ts";

/** How much of a log's end is looked at. */
const LOG_TAIL_BYTES = 4096;
const LOG_TAIL_LINES = 5;

/** The last lines of a file, each on an indented line; empty where there is no file, or nothing in it. */
async function lastLines(logFile: string): Promise<string> {
  let opened: Awaited<ReturnType<typeof openRegularFile>>;
  try {
    opened = await openRegularFile(logFile);
  } catch (error) {
    if (error instanceof InputError) return "";
    throw error;
  }
  try {
    const bytes = new Uint8Array(Math.min(LOG_TAIL_BYTES, opened.sizeBytes));
    await readExactly(opened.handle, logFile, bytes, opened.sizeBytes - bytes.byteLength);
    const lines = new TextDecoder()
      .decode(bytes)
      .split("\n")
      .filter((line) => line.trim() !== "");
    return lines
      .slice(-LOG_TAIL_LINES)
      .map((line) => `\n    ${printableLines(line)}`)
      .join("");
  } finally {
    await opened.handle.close();
  }
}

/**
 * The end of a task's log, as the end of a message.
 *
 * @param whenEmpty what else to say where nothing was logged
 */
export async function logEnd(logFile: string, whenEmpty = ""): Promise<string> {
  const lines = await lastLines(logFile);
  return lines === "" ? `; there is nothing in ${logFile}${whenEmpty}` : `; ${logFile} ends with${lines}`;
}
