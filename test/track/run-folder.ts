import { appendFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryFolder } from "../weights/fixtures.ts";
import type { Point } from "./loopback.ts";

export interface TestRun {
  readonly folder: string;
  /** Appends so many steps, every fifth with an evaluation. */
  readonly train: (steps: number) => Promise<void>;
  /** Goes back to what was recorded after so many lines. */
  readonly rewind: (lines: number) => Promise<void>;
  readonly end: (status: string) => Promise<void>;
  /** Every value of metrics.jsonl but those that were not finite. */
  readonly points: (grouped: boolean) => Point[];
}

/** An output folder of a run that has begun. */
export async function beginRun(seed = 1): Promise<TestRun> {
  const folder = join(await temporaryFolder(), "runs", "first run");
  await mkdir(folder, { recursive: true });
  await writeFile(
    join(folder, "config.yaml"),
    'beta: 0.1\nlora: {r: 8}\nloss_type: ["sigmoid"]\nsample_prompt: "Who?"\n',
  );
  await writeFile(join(folder, "run.json"), JSON.stringify({ status: "running", device: { name: "test" } }));
  const metrics = join(folder, "metrics.jsonl");
  await writeFile(metrics, "");
  let lines: Record<string, number | null>[] = [];
  const write = () => writeFile(metrics, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  let step = 0;
  return {
    folder,
    train: async (steps) => {
      for (let i = 0; i < steps; i++) {
        step += 1;
        const record = {
          step,
          epoch: step / 10,
          loss: seed / step,
          "rewards/margins": step % 7 === 3 ? null : -step * 1e-7,
        };
        const evaluation = { step, epoch: step / 10, eval_loss: seed / (step + 1) };
        const added = step % 5 === 0 ? [record, evaluation] : [record];
        lines.push(...added);
        await appendFile(metrics, added.map((line) => `${JSON.stringify(line)}\n`).join(""));
      }
    },
    rewind: async (count) => {
      lines = lines.slice(0, count);
      step = lines.at(-1)?.step ?? 0;
      await write();
    },
    end: (status) => {
      const samples = { before: "Nobody.", after: "I, *dpo-train* 🙂" };
      const speed = { pairs_per_second: 12.5 };
      return writeFile(join(folder, "run.json"), JSON.stringify({ status, samples, speed, device: { name: "test" } }));
    },
    points: (grouped) =>
      lines.flatMap(({ step, ...values }) =>
        Object.entries(values).flatMap(([recorded, value]): Point[] => {
          const key = recorded === "epoch" && "eval_loss" in values ? "eval_epoch" : recorded;
          const name = key.startsWith("eval_") ? `eval/${key.slice(5)}` : `train/${key}`;
          return value === null ? [] : [[grouped ? name : key, step!, value]];
        }),
      ),
  };
}
