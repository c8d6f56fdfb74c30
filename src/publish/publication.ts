import type { PushedPart } from "../config/names.ts";
import { InputError } from "../errors.ts";
import type { PushConnection, PushTarget } from "../hub/push-connection.ts";
import {
  cardProblem,
  makeRepository,
  type Uploaded,
  type UploadFile,
  type UploadProgress,
  uploadFiles,
} from "../hub/upload.ts";
import type { RemoteRepository } from "../hub/write-access.ts";
import { printable } from "../text.ts";
import { modelCard } from "./card.ts";
import { CARD_FILE, readContents, textFile } from "./contents.ts";
import { partFolder, readFinishedRun } from "./finished-run.ts";
import { licenceOf } from "./licence.ts";

/** What is to go where. */
export interface PublicationRequest extends PushTarget {
  /** The output folder of a run. */
  readonly folder: string;
  readonly what: PushedPart;
  /** The base's Hub id as the user names it; null where the run's own holds. */
  readonly baseModel: string | null;
}

/** All that goes, as it goes. */
export interface Publication extends PublicationRequest {
  /** By path. */
  readonly files: readonly UploadFile[];
  readonly card: string;
  /** Whether the card is the user's own. */
  readonly isOwnCard: boolean;
  /** Of adapter/ or merged/ what does not go. */
  readonly leftOut: readonly string[];
}

/** @throws InputError where the run is not at its end, or something of it is missing */
export async function preparePublication(request: PublicationRequest): Promise<Publication> {
  const { folder, what, repository, revision, baseModel } = request;
  const run = await readFinishedRun(folder);
  const base =
    baseModel === null || baseModel === run.hubBase?.name
      ? run.hubBase
      : { name: baseModel, commit: null, reference: baseModel };
  const { files, ownCard, leftOut } = await readContents(partFolder(folder, what), what, base);
  const licence = base === null ? null : await licenceOf(base.reference);
  const card = ownCard ?? modelCard({ run, what, repository, revision, base, licence });
  const all = [...files, textFile(CARD_FILE, card)].sort((a, b) => (a.path < b.path ? -1 : 1));
  return { ...request, files: all, card, isOwnCard: ownCard !== null, leftOut };
}

/** Files that make a repository another model, or a part of one, than was meant. */
const OF_A_MODEL =
  /^(adapter_(config\.json|model[\w.-]*)|(model|pytorch_model)[\w.-]*\.(safetensors|bin)(\.index\.json)?)$/;

/**
 * Refuses a repository that holds another model already: what is not written over would be loaded with what is pushed.
 * @throws InputError
 */
export function requireNoOtherModel({ repository, files }: Publication, remote: RemoteRepository | null): void {
  const own = new Set(files.map(({ path }) => path));
  const others = (remote?.files ?? []).filter((name) => OF_A_MODEL.test(name) && !own.has(name));
  if (others.length === 0) return;
  const shown = printable(others.slice(0, 3).join(", "));
  throw new InputError(
    `${repository} holds another model, of which ${shown}${others.length > 3 ? " and more" : ""} would stay beside this one: push to another repository or revision, or delete ${others.length === 1 ? "it" : "them"} there first`,
  );
}

/** Refuses a card that the Hub would refuse when everything has been sent. @throws InputError */
export async function requireGoodCard(
  { folder, what, card, isOwnCard }: Publication,
  connection: PushConnection,
): Promise<void> {
  const problem = await cardProblem(connection, card);
  if (problem === null) return;
  const part = printable(partFolder(folder, what), 1000);
  const remedy = isOwnCard ? `mend ${part}/${CARD_FILE}` : `put a ${CARD_FILE} of your own into ${part}`;
  throw new InputError(`${connection.subject}: the Hub refuses the metadata of the model card: ${problem}; ${remedy}`);
}

/** Sends it all, as one commit. @throws InputError; the signal's reason when it is aborted */
export async function push(
  publication: Publication,
  connection: PushConnection,
  remote: RemoteRepository | null,
  onProgress: (progress: UploadProgress) => void,
): Promise<Uploaded> {
  requireNoOtherModel(publication, remote);
  await requireGoodCard(publication, connection);
  await makeRepository(connection, publication, remote);
  const title = `Upload ${publication.what === "adapter" ? "LoRA adapter" : "merged model"} with dpo-train`;
  return uploadFiles(connection, publication, publication.files, title, onProgress);
}
