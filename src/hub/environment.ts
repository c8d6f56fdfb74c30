/** What the environment says about the Hub, under the names and defaults that Python's huggingface_hub reads. */
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { HUB_URL } from "@huggingface/hub";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

const TRUE_VALUES = new Set(["1", "ON", "YES", "TRUE"]);

function isTrue(value: string | undefined): boolean {
  return value !== undefined && TRUE_VALUES.has(value.toUpperCase());
}

/** `~` and `~/x` with the user's home folder; other paths as they are. */
export function expandHome(path: string, env: Environment): string {
  return path.replace(/^~(?=$|[/\\])/, () => env.HOME || homedir());
}

/** Python's os.path.expanduser and os.path.expandvars: a variable that is not set stays as written. */
function expandPath(path: string, env: Environment): string {
  return expandHome(path, env).replace(
    /\$(?:\{([^}]*)\}|(\w+))/g,
    (whole, braced?: string, bare?: string) => env[braced ?? bare ?? ""] ?? whole,
  );
}

function hubHome(env: Environment): string {
  const cacheHome = env.XDG_CACHE_HOME ?? expandHome("~/.cache", env);
  return expandPath(env.HF_HOME ?? join(cacheHome, "huggingface"), env);
}

/** The folder that holds `models--owner--name`: HF_HUB_CACHE, else `hub` in HF_HOME, else ~/.cache/huggingface/hub. */
export function hubCacheFolder(env: Environment): string {
  const folder = env.HF_HUB_CACHE ?? env.HUGGINGFACE_HUB_CACHE ?? join(hubHome(env), "hub");
  return expandPath(folder, env);
}

/** Whether HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids the network. */
export function isOffline(env: Environment): boolean {
  return isTrue(env.HF_HUB_OFFLINE || env.TRANSFORMERS_OFFLINE);
}

/** Whether snapshots may be links to blobs: HF_HUB_DISABLE_SYMLINKS says no. */
export function mayUseSymlinks(env: Environment): boolean {
  return !isTrue(env.HF_HUB_DISABLE_SYMLINKS);
}

/** Added to a message that the Hub cannot be reached, where the environment names a proxy that Node's fetch does not look at. */
export function proxyHint(env: Environment): string {
  const isIgnored = Boolean(env.HTTPS_PROXY || env.https_proxy) && env.NODE_USE_ENV_PROXY !== "1";
  return isIgnored ? " (Node uses HTTPS_PROXY from 22.21 or 24.5 on, with NODE_USE_ENV_PROXY=1)" : "";
}

/**
 * The Hub's address without a slash at its end: HF_ENDPOINT, else https://huggingface.co.
 *
 * @throws InputError when HF_ENDPOINT is not a plain http(s) address. A name and password in it are never shown.
 */
export function hubEndpoint(env: Environment): string {
  const endpoint = (env.HF_ENDPOINT || HUB_URL).replace(/\/+$/, "");
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (url?.username || url?.password) {
    throw new InputError(
      "HF_ENDPOINT must not hold a user name or password: give the bare address, and the token in HF_TOKEN",
    );
  }
  if (!url || !/^https?:$/.test(url.protocol) || url.search || url.hash) {
    throw new InputError(
      `HF_ENDPOINT must be an http or https address such as ${HUB_URL}, got "${printable(endpoint)}"`,
    );
  }
  return endpoint;
}

/**
 * The access token: HF_TOKEN, else the file HF_TOKEN_PATH, else `token` in HF_HOME; undefined when there is none or
 * HF_HUB_DISABLE_IMPLICIT_TOKEN is set.
 *
 * @throws InputError, without the token, when a header cannot carry it, or when its file cannot be read.
 */
export async function findToken(env: Environment): Promise<string | undefined> {
  if (isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN)) return undefined;
  const variable = env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN;
  const path = expandPath(env.HF_TOKEN_PATH ?? join(hubHome(env), "token"), env);
  const text = variable || (await readTokenFile(path));
  const token = text.replaceAll(/[\r\n]/g, "").trim();
  // fetch refuses such a header in an error that quotes it, so it never gets that far.
  if (!/^[\x21-\x7e]*$/.test(token)) {
    throw new InputError(
      `${variable ? "HF_TOKEN" : printable(path)} does not hold a Hub token: it has a blank, control or non-ASCII character`,
    );
  }
  return token || undefined;
}

async function readTokenFile(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ENOTDIR") return "";
    throw new InputError(`cannot read the Hub token in ${printable(path)} (${code}): mend it, or set HF_TOKEN`, {
      cause: error,
    });
  }
}
