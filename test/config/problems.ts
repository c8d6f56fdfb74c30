import { parseConfig } from "../../src/config/load.ts";
import type { Config } from "../../src/config/schema.ts";
import { InputError } from "../../src/errors.ts";

export const REQUIRED = "model: m\ndataset: d\n";

export function parsed(text: string, ...set: string[]): Config {
  return parseConfig(text, "c.yaml", set);
}

/** The lines of the error that loading `text` ends with; empty where it loads. Anything but an InputError is thrown. */
export function problems(text: string, ...set: string[]): string[] {
  try {
    parseConfig(text, "c.yaml", set);
    return [];
  } catch (error) {
    if (error instanceof InputError) return error.message.split("\n");
    throw error;
  }
}
