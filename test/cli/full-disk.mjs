import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";

// Imported before the command line: every write to a file with FULL_DISK in its name fails as on a full disk, and every
// folder with READ_ONLY in its name cannot be made, as on a file system that became read-only.

const { mkdir, open } = fs;
fs.open = async (path, ...rest) => {
  const handle = await open(path, ...rest);
  const { FULL_DISK } = process.env;
  if (!FULL_DISK || !String(path).includes(FULL_DISK)) return handle;
  const fail = async () => {
    throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
  };
  return Object.assign(handle, { write: fail, appendFile: fail });
};
fs.mkdir = async (path, ...rest) => {
  const { READ_ONLY } = process.env;
  if (!READ_ONLY || !String(path).includes(READ_ONLY)) return mkdir(path, ...rest);
  throw Object.assign(new Error(`EROFS: read-only file system, mkdir '${path}'`), { code: "EROFS" });
};
syncBuiltinESMExports();
