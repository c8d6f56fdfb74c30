import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";

// Imported before the command line: every write to a file with FULL_DISK in its name fails as on a full disk.

const { open } = fs;
fs.open = async (path, ...rest) => {
  const handle = await open(path, ...rest);
  if (!String(path).includes(process.env.FULL_DISK)) return handle;
  const fail = async () => {
    throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
  };
  return Object.assign(handle, { write: fail, appendFile: fail });
};
syncBuiltinESMExports();
