import { parse } from "yaml";
import { findModelFolder } from "../hub/resolve.ts";
import { isTree, type Tree, textAt } from "../train/json-tree.ts";
import { findInFolder } from "../weights/folder-files.ts";
import { readTextFile } from "../weights/regular-file.ts";
import { CARD_FILE } from "./contents.ts";

/** What a base's own card says of its licence, under the Hub's names. */
export interface Licence {
  readonly license: string;
  readonly license_name?: string;
  readonly license_link?: string;
}

const MAX_CARD_BYTES = 2 ** 22;
const FRONT_MATTER = /^\s*---\r?\n(.*?)\r?\n---\s*(?:\n|$)/s;
const MAX_HEAD_CHARACTERS = 2 ** 16;

/**
 * The licence of a base by its Hub id, if the Hub's cache on this machine has its card. Null where it does not say, or says
 * it otherwise than the Hub wants it.
 */
export async function licenceOf(base: string): Promise<Licence | null> {
  // A card that cannot be read says nothing: the model card then leaves the licence open.
  try {
    const folder = await findModelFolder(base);
    const file = folder === null ? undefined : await findInFolder(folder, CARD_FILE);
    return file === undefined ? null : licenceIn(await readTextFile(file, MAX_CARD_BYTES));
  } catch {
    return null;
  }
}

/** @throws where the front matter is no YAML */
export function licenceIn(card: string): Licence | null {
  const head = FRONT_MATTER.exec(card.slice(0, MAX_HEAD_CHARACTERS))?.[1];
  const tree: unknown = head === undefined ? null : parse(head, { maxAliasCount: 10 });
  if (!isTree(tree)) return null;
  const license = idAt(tree, "license");
  const [name, link] = [idAt(tree, "license_name"), linkAt(tree)];
  if (license === null) return null;
  return { license, ...(name !== null && { license_name: name }), ...(link !== null && { license_link: link }) };
}

function idAt(tree: Tree, key: string): string | null {
  const text = textAt(tree, key);
  return text !== null && /^[\w.+-]{1,100}$/.test(text) ? text : null;
}

function linkAt(tree: Tree): string | null {
  const text = textAt(tree, "license_link");
  return text !== null && /^https:\/\/[\w./%#?=&~+:-]{1,300}$/.test(text) ? text : null;
}
