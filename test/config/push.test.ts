import { describe, expect, it } from "vitest";
import { dumpConfig } from "../../src/config/dump.ts";
import { parseSweep } from "../../src/config/sweep.ts";
import { parsed, problems, REQUIRED } from "./problems.ts";

const PUSHED = `${REQUIRED}push_to_hub: ada/llama-dpo\n`;

describe("push_to_hub", () => {
  it("is a name or a map, private and on main unless it says otherwise", () => {
    const whole = { repo: "ada/llama-dpo", private: true, revision: "main" };
    expect(parsed(PUSHED).push_to_hub).toEqual(whole);
    expect(parsed(REQUIRED, "push_to_hub={repo: ada/llama-dpo}").push_to_hub).toEqual(whole);
    expect(parsed(PUSHED, "push_to_hub.private=false", "push_to_hub.what=adapter").push_to_hub).toEqual({
      ...whole,
      private: false,
      what: "adapter",
    });
    expect(parsed(PUSHED, "push_to_hub=bob/other").push_to_hub.repo).toBe("bob/other");
    expect(parsed(PUSHED, "push_to_hub=null").push_to_hub.repo).toBeUndefined();
  });

  it("is written out as it was read, and left out where nothing is pushed", () => {
    const config = parsed(PUSHED, "push_to_hub.revision=v2", "push_to_hub.base_model=meta-llama/Llama-3.2-1B");
    expect(parsed(dumpConfig(config))).toEqual(config);
    expect(dumpConfig(parsed(REQUIRED))).not.toContain("push_to_hub");
  });

  it.each([
    [
      "push_to_hub: llama-dpo",
      'c.yaml:3:14: push_to_hub.repo must be a Hugging Face Hub id as owner/name, got "llama-dpo"',
    ],
    [
      "push_to_hub: true",
      "c.yaml:3:14: push_to_hub must be a Hugging Face Hub id as owner/name, or a map of repo, what, private, revision and base_model, got true",
    ],
    [
      "push_to_hub: {repo: ../up}",
      'c.yaml:3:21: push_to_hub.repo must be a Hugging Face Hub id as owner/name, got "../up"',
    ],
    [
      "push_to_hub: {repo: a/b--c}",
      'c.yaml:3:21: push_to_hub.repo must be a Hugging Face Hub id as owner/name, got "a/b--c"',
    ],
    [
      "push_to_hub: {repo: a/b, revision: $(x)}",
      'c.yaml:3:36: push_to_hub.revision must be the name of a branch, got "$(x)"',
    ],
    [
      "push_to_hub: {repo: a/b, what: both}",
      'c.yaml:3:32: push_to_hub.what must be one of adapter or merged, got "both"',
    ],
    ["push_to_hub: {rep: a/b}", "c.yaml:3:15: unknown key push_to_hub.rep; did you mean push_to_hub.repo?"],
    [
      "push_to_hub: {private: false}",
      "c.yaml:3:24: push_to_hub.private has no effect without push_to_hub.repo: it needs push_to_hub.repo",
    ],
    [
      "push_to_hub: {repo: a/b, what: merged}\nexport: {merged_16bit: false}",
      "c.yaml:3:32: push_to_hub.what merged needs export.merged_16bit true: there is no merged model without it",
    ],
    ["hub_model_id: a/b", "c.yaml:3:1: unknown key hub_model_id; did you mean push_to_hub.repo?"],
  ])("refuses %s", (line, message) => {
    expect(problems(`${REQUIRED}${line}\n`)).toEqual([message]);
  });

  it("is for the best run of a sweep alone, and cannot be swept", () => {
    const { runs } = parseSweep(`${PUSHED}sweep: {grid: {beta: [0.1, 0.2]}}\n`, "s.yaml");
    expect(runs.map(({ config }) => config.push_to_hub.repo)).toEqual([undefined, undefined]);
    expect(runs.map(({ push }) => push.repo)).toEqual(["ada/llama-dpo", "ada/llama-dpo"]);
    for (const key of ["push_to_hub", "push_to_hub.repo"]) {
      const text = `${REQUIRED}sweep: {grid: {${key}: [a/b, c/d]}}\n`;
      expect(() => parseSweep(text, "s.yaml")).toThrow(
        `${key} cannot be swept: of a sweep only the best run is pushed`,
      );
    }
  });
});
