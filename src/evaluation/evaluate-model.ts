import path from "node:path";
import type { Config } from "../config/schema.ts";
import type { Journal } from "../curation/ask/journal.ts";
import { withJournal } from "../curation/session.ts";
import { InputError } from "../errors.ts";
import { resolveModel } from "../hub/resolve.ts";
import { compareGroups, type TextGroup } from "../style/compare-groups.ts";
import type { Terminal } from "../terminal.ts";
import { printable } from "../text.ts";
import { fetching } from "../train/begin-run.ts";
import { readData } from "../train/prepare-data.ts";
import type { SessionRequest } from "../train/session.ts";
import { writeFileAtomically } from "../weights/atomic-file.ts";
import { type ModelFolder, openModelFolder } from "../weights/model-folder.ts";
import { readPeftAdapter } from "../weights/peft-adapter.ts";
import type { AskSettings } from "./answer-questions.ts";
import { type ComparedModels, computeOnGpu } from "./compute.ts";
import { answersJsonl, type Evaluation, evaluationJson } from "./evaluation.ts";
import { type JudgeSettings, judgeAnswers } from "./judge.ts";
import { type Material, prepareMaterial } from "./material.ts";

export interface EvaluationRequest {
  readonly config: Config;
  readonly session: SessionRequest;
  /** The folder of an adapter for the config's model, or of a model of its own. */
  readonly trained: { readonly kind: "adapter" | "merged"; readonly folder: string };
  /** Null to ask the prompts of the held-out pairs. */
  readonly questions: string | null;
  /** How many questions are asked at most, the first ones. */
  readonly limit: number;
  readonly ask: AskSettings;
  /** Null to ask no judge. */
  readonly judge: JudgeSettings | null;
  /** A folder. */
  readonly out: string;
  /** Told what is found, before the judges are asked and after. */
  readonly onFound: (evaluation: Evaluation) => Promise<void>;
}

/** In the output folder. The journal keeps every answer of a model and of a judge as soon as it is there. */
export const EVALUATION_FILES = {
  journal: "eval.journal",
  answers: "answers.jsonl",
  report: "eval.json",
  page: "eval.html",
};
const TASK = "eval";

/**
 * Compares a trained model with its base: on held-out pairs, by its answers, by how they are written, and by what judges
 * say of them. Writes answers.jsonl and eval.json. Interrupted, the same command goes on with the next answer.
 *
 * @throws ExpectedError whose exit code says what kind of thing went wrong; the signal's reason
 */
export async function evaluateModel(
  request: EvaluationRequest,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const { config, out } = request;
  const rows = await readData(config, fetching("data", terminal, signal));
  const { folder } = await resolveModel(config.model, fetching("model", terminal, signal));
  await withModels(folder, request.trained, async (models) => {
    const material = await prepareMaterial(config, rows, models.base, request.questions, request.limit);
    const at = (name: string) => path.join(out, name);
    const files = { out: at(EVALUATION_FILES.answers), journal: at(EVALUATION_FILES.journal), lock: at(".eval.lock") };
    const outputs = [files.out, at(EVALUATION_FILES.report), at(EVALUATION_FILES.page)];
    await withJournal(files, outputs, TASK, terminal, signal, (journal) =>
      evaluateWith(request, models, material, journal, terminal, signal),
    );
  });
}

/** Opens both models, and closes them when `use` is done with them. */
async function withModels(
  folder: string,
  { kind, folder: trainedFolder }: EvaluationRequest["trained"],
  use: (models: ComparedModels) => Promise<void>,
): Promise<void> {
  const base = await openModelFolder(folder);
  try {
    if (kind === "adapter") return await use({ base, trained: await readPeftAdapter(trainedFolder, base.config) });
    const trained = await openModelFolder(trainedFolder);
    try {
      requireSameVocabulary(base, trained);
      await use({ base, trained });
    } finally {
      await trained.close();
    }
  } finally {
    await base.close();
  }
}

function requireSameVocabulary(base: ModelFolder, trained: ModelFolder): void {
  const [expected, found] = [base.config.vocabSize, trained.config.vocabSize];
  if (expected === found) return;
  throw new InputError(
    `${printable(trained.path)}: must be made from ${printable(base.path)}, whose vocab_size is ${expected}, found ${found}`,
  );
}

async function evaluateWith(
  request: EvaluationRequest,
  models: ComparedModels,
  material: Material,
  journal: Journal,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const { config, trained, out, ask } = request;
  const { questions, pairs, chosen, chosenFrom } = material;
  const computed = await computeOnGpu({ ...request, ...models, material, journal }, terminal, signal);
  terminal.status("comparing the answers");
  const rows = questions.map(({ text, chosen }, i) => ({
    question: text,
    base: computed.base[i]!,
    trained: computed.trained[i]!,
    chosen,
  }));
  const group = (name: "base" | "trained"): TextGroup => ({
    name,
    texts: rows.map((row) => row[name].text),
    questions: rows.map(({ question }) => question),
  });
  const found: Evaluation = {
    model: config.model,
    trained: trained.folder,
    questions: request.questions,
    chosenFrom,
    ask,
    computed,
    heldOutPairs: pairs.length,
    rows,
    style: compareGroups([group("base"), group("trained"), chosen], ask.seed),
    judging: null,
  };
  const publish = async (evaluation: Evaluation) => {
    await writeFileAtomically(path.join(out, EVALUATION_FILES.answers), answersJsonl(evaluation));
    const report = `${JSON.stringify(evaluationJson(evaluation), null, 2)}\n`;
    await writeFileAtomically(path.join(out, EVALUATION_FILES.report), report);
    await request.onFound(evaluation);
  };
  await publish(found);
  if (!request.judge) return;
  const answered = rows.map((row) => ({ question: row.question, base: row.base.text, trained: row.trained.text }));
  const judging = await judgeAnswers(answered, request.judge, journal, terminal, signal);
  await publish({ ...found, judging });
}
