import { readFileSync } from "node:fs";
import { expect, it } from "vitest";

interface LockedPackage {
  readonly version?: string;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const lock = JSON.parse(readFileSync(new URL("../package-lock.json", import.meta.url), "utf8")) as {
  readonly packages: Readonly<Record<string, LockedPackage>>;
};

// npm 11 refuses `npm ci` without them, also those of other platforms; `npm install` drops those that the registry at hand
// does not carry. Such an entry needs no integrity.
it("package-lock.json has every package that is optional", () => {
  const missing = Object.values(lock.packages).flatMap(({ optionalDependencies = {} }) =>
    Object.keys(optionalDependencies).filter((name) => !lock.packages[`node_modules/${name}`]?.version),
  );
  expect(missing).toEqual([]);
});

it("package-lock.json names no registry", () => {
  expect(JSON.stringify(lock)).not.toContain('"resolved"');
});
