import { InputError } from "../errors.ts";
import { printable } from "../text.ts";

/** Throws InputError unless `name` is a plain file name, for `place`, which names it. */
export function requirePlainFileName(name: string, place: string): void {
  if (name === "" || name === "." || name === ".." || /[/\\\0]/.test(name) || /^[A-Za-z]:/.test(name)) {
    throw new InputError(
      `${printable(place)}: must name files in its own folder, without a path, found "${printable(name)}"`,
    );
  }
}
