import { InputError } from "../errors.ts";
import type { Terminal } from "../terminal.ts";
import { writeFileAtomically } from "../weights/atomic-file.ts";
import { type AskSettings, askAll } from "./ask/ask.ts";
import { type BudgetLimits, createBudget, type Prices } from "./ask/budget.ts";
import { type Journal, readJournal } from "./ask/journal.ts";
import { hashRequest, type Outcome, type Question, settleAll } from "./ask/questions.ts";
import { type ChatServer, shownUrl } from "./ask/server.ts";
import { estimateCalls, formatEstimate, formatLimits, formatNumber, tallyCalls, usageOf } from "./ask/tally.ts";
import { type BuildResult, formatBuild, writeBuildReport } from "./build-report.ts";
import { createSieve, curateTriples, dropEqualAnswers } from "./curate.ts";
import { EXTRACT_MAX_LENGTH, extractSubstrings } from "./extracts.ts";
import type { CurationFiles } from "./files.ts";
import { answerOwn, type OwnModel } from "./own-answers.ts";
import { codePointLength } from "./python-text.ts";
import { splitRows, writeRows } from "./rows-out.ts";
import { withJournal } from "./session.ts";
import { readTriples, TRIPLES_PER_EXTRACT, type TripleSet, triplesRequest } from "./triples.ts";

export interface BuildOptions {
  readonly articles: readonly string[];
  readonly files: CurationFiles;
  readonly server: ChatServer;
  readonly temperature: number;
  readonly ask: AskSettings;
  readonly limits: BudgetLimits;
  readonly prices: Prices | null;
  /** Writes the rows of the rejected answers in the server's place; null for the server's own. */
  readonly ownModel: OwnModel | null;
  /** A share or number of rows for a split, as `test_size` of a config; null for none. */
  readonly testSize: number | null;
  readonly seed: number;
  readonly terminal: Terminal;
}

/** An extract, and the article that it is first found in, from 1. */
export interface Extract {
  readonly text: string;
  readonly article: number;
}

const TASK = "data build";
/** Of a triple in JSON: the handbook's have 250 characters of text on average, but answers of 100 and more are wanted. */
const EXPECTED_TOKENS_PER_TRIPLE = 130;

/** The extracts of all articles, in order and each once, and how many there are with those that come again. */
export function distinctExtracts(articles: readonly string[]): { extracts: Extract[]; found: number } {
  const extracts = new Map<string, Extract>();
  let found = 0;
  for (const [i, content] of articles.entries()) {
    for (const text of extractSubstrings(content)) {
      found++;
      if (!extracts.has(text)) extracts.set(text, { text, article: i + 1 });
    }
  }
  return { extracts: [...extracts.values()], found };
}

/** Says what `buildPairs` would ask. Asks nothing and writes nothing. */
export async function planBuild(options: BuildOptions): Promise<void> {
  const { files, terminal } = options;
  const { extracts, questions } = prepare(options);
  const entries = await readJournal(files.journal, TASK);
  announce(options, questions, entries);
  const longest = extracts.reduce((most, { text }) => Math.max(most, codePointLength(text)), 0);
  for (const { text, article } of extracts.slice(0, 3)) {
    terminal.line(`extract of article ${article}, ${formatNumber(codePointLength(text))} characters:`);
    terminal.line(`  ${text.slice(0, 300)}…`);
  }
  terminal.line(`the longest extract has ${formatNumber(longest)} characters; nothing was asked (--dry-run)`);
}

/**
 * Makes preference rows of articles: extracts, triples from the server for each, checks and filters, and writes them with
 * a report. What the journal beside the output holds is not asked again.
 *
 * @throws InputError where no row is left or the server refuses every call; the signal's reason
 */
export async function buildPairs(options: BuildOptions, signal: AbortSignal): Promise<BuildResult> {
  const prepared = prepare(options);
  const { files, testSize, terminal } = options;
  const outputs = testSize === null ? [files.out] : [files.out, files.train, files.test];
  return withJournal(files, outputs, TASK, terminal, signal, async (journal) => {
    announce(options, prepared.questions, journal.entries);
    const result = await makeRows(options, prepared, journal, signal);
    for (const line of formatBuild(result, options)) terminal.line(line);
    if (result.sieve.rows.length === 0) {
      throw new InputError("no row is left to write: the counts above and the report say where they were lost");
    }
    return result;
  });
}

interface Prepared {
  readonly extracts: readonly Extract[];
  readonly questions: readonly Question<TripleSet>[];
}

function prepare({ articles, server, temperature, terminal }: BuildOptions): Prepared {
  const { extracts, found } = distinctExtracts(articles);
  const tooLong = extracts.filter(({ text }) => codePointLength(text) > EXTRACT_MAX_LENGTH).length;
  const notes = [
    ...(found > extracts.length ? [`${found - extracts.length} found twice and asked once`] : []),
    ...(tooLong > 0 ? [`${tooLong} of one sentence longer than ${formatNumber(EXTRACT_MAX_LENGTH)} characters`] : []),
  ];
  terminal.line(
    `${formatNumber(articles.length)} articles, ${formatNumber(extracts.length)} extracts of whole sentences${notes.length > 0 ? ` (${notes.join("; ")})` : ""}`,
  );
  const questions = extracts.map(({ text }): Question<TripleSet> => {
    const request = triplesRequest(text, temperature);
    return { server, request, hash: hashRequest(server.model, request), read: readTriples };
  });
  return { extracts, questions };
}

/** What is about to be asked, and what it may cost. */
function announce(
  { server, temperature, ask, prices, limits, terminal }: BuildOptions,
  questions: readonly Question<TripleSet>[],
  entries: Journal["entries"],
): void {
  const { open } = settleAll(questions, entries, ask.askAgain);
  const requests = open.map(({ question }) => question.request);
  terminal.line(
    `${server.shownModel} at ${shownUrl(server.baseUrl)}, temperature ${temperature}, ${ask.concurrency} calls at once; ` +
      `${formatNumber(questions.length - open.length)} of ${formatNumber(questions.length)} extracts are answered already`,
  );
  terminal.line(formatEstimate(estimateCalls(requests, TRIPLES_PER_EXTRACT * EXPECTED_TOKENS_PER_TRIPLE, prices)));
  terminal.line(formatLimits(limits));
}

async function makeRows(
  options: BuildOptions,
  { extracts, questions }: Prepared,
  journal: Journal,
  signal: AbortSignal,
): Promise<BuildResult> {
  const { terminal, prices, ownModel, files } = options;
  const past = usageOf(journal.entries);
  const budget = createBudget(options.limits, prices, past);
  const asked = await askAll(questions, {
    ...options.ask,
    journal,
    budget,
    signal,
    onProgress: (done, total, failedCalls) =>
      terminal.status(`extracts ${done}/${total}${failedCalls > 0 ? `  ${failedCalls} calls failed` : ""}`),
  });
  const outcomes = questions.map(({ hash }) => asked.outcomes.get(hash)!);

  const { sieve: curated, verbatim } = curateTriples(
    extracts.map(({ text }, i) => ({ extract: text, triples: triplesOf(outcomes[i]!) })),
  );
  let sieve = curated;
  let cutOwnAnswers = 0;
  if (ownModel !== null && curated.rows.length > 0) {
    const own = await answerOwn(curated.rows, ownModel, {
      journal,
      signal,
      onProgress: (done, total) => terminal.status(`rejected answers ${done}/${total}`),
    });
    sieve = createSieve(own.rows, curated.stages, curated.dropped);
    cutOwnAnswers = own.cut;
  }
  sieve = dropEqualAnswers(sieve);

  const result = {
    extracts,
    outcomes,
    stopped: asked.stopped,
    sieve,
    verbatim,
    cutOwnAnswers,
    tally: tallyCalls(journal.entries, past.length, budget.spent, prices),
  };
  const written = sieve.rows.length === 0 ? [] : await writeRows(splitRows(sieve.rows, options), files);
  await writeFileAtomically(files.report, writeBuildReport(result, options, written));
  return { ...result, written };
}

function triplesOf(outcome: Outcome<TripleSet>): TripleSet["triples"] {
  return outcome.kind === "answer" ? outcome.value.triples : [];
}
