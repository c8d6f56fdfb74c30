/** As huggingface_hub checks them: `owner/name` of up to 96 letters, digits, `.`, `_` and `-` each. */
const NAME = /^[a-z0-9_](?:[\w.-]{0,94}\w)?\/[a-z0-9_](?:[\w.-]{0,94}\w)?$/i;

/** What `git check-ref-format` forbids, and with it every way out of the `refs` folder. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this refuses.
const BAD_REVISION = /^$|[\u0000- \u007f~^:?*[\\]|\.\.|@\{|\/\/|^[/.-]|\/$|\/\.|\.$|\.lock$/;

/** Whether a text is shaped as the name of a repository is: `owner/name`. */
export function isNameShaped(text: string): boolean {
  return NAME.test(text);
}

/** Whether the Hub takes this name for a repository. */
export function isRepositoryName(text: string): boolean {
  return NAME.test(text) && !/--|\.\.|\.git$/.test(text);
}

/** Whether a text can be a branch, a tag or a commit. */
export function isRevision(text: string): boolean {
  return !BAD_REVISION.test(text);
}

/**
 * Whether a text can be the name of a branch to write to: no commit, and none of the Hub's own references. Characters that
 * mean something to a shell are not taken, as a model card has the name in its commands.
 */
export function isBranch(text: string): boolean {
  return isRevision(text) && /^[\w.+/-]{1,200}$/.test(text) && !/^([0-9a-f]{40}$|refs\/)/i.test(text);
}
