import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { type HubFailures, type Refusal, type RepositoryConnection, TransientError } from "./http.ts";

type Download = Pick<RepositoryConnection, "endpoint" | "token" | "subject" | "type" | "repository" | "revision">;

/** The repository is there, and has no such branch, tag or commit. */
export class RevisionNotFound extends InputError {}

/** How a download tells what went wrong. @param networkHint added where the endpoint cannot be reached */
export function downloadFailures(download: Download, networkHint: string): HubFailures {
  const { subject, repository, type } = download;
  return {
    gaveUp: (failure, attempts) => {
      const typeOption = type === "dataset" ? " --repo-type dataset" : "";
      return new InputError(
        `${subject} cannot be downloaded: ${failure.message}${attempts > 1 ? ` (${attempts} attempts)` : ""}; ` +
          "run again to go on where this stopped, or download it on a machine with network access " +
          `(hf download ${repository}${typeOption} --local-dir FOLDER) and give that folder${networkHint}`,
        { cause: failure },
      );
    },
    refused: (refusal) => refusedDownload(download, refusal),
    // Such links expire, and the next attempt is given another.
    linkRefused: (said, waitMs) => new TransientError(said, waitMs),
  };
}

/** A repository's address, of which its pages and files are parts. */
export function repositoryUrl({
  endpoint,
  type,
  repository,
}: Pick<Download, "endpoint" | "type" | "repository">): string {
  return `${endpoint}/${type === "dataset" ? "datasets/" : ""}${repository}`;
}

function refusedDownload(download: Download, { status, errorCode }: Refusal): InputError {
  const { subject, endpoint, type, revision, token } = download;
  const page = repositoryUrl(download);
  const local = type === "dataset" ? "local file or folder" : "local folder";
  if (errorCode === "GatedRepo" || status === 403) {
    return new InputError(
      `${subject} is gated or private (${status}): accept its licence on ${page}, then set HF_TOKEN to ` +
        `${token ? "a token of that account that may read it; the token in use may not" : "a token of that account"}`,
    );
  }
  if (errorCode === "RevisionNotFound") {
    return new RevisionNotFound(`${subject} has no revision "${printable(revision)}" (${status}): see ${page}`);
  }
  // Without a token the Hub answers 401 both for what is private and for what does not exist.
  if (status === 401) {
    return new InputError(
      token
        ? `${subject}: the Hub does not accept the token in use (401): set HF_TOKEN to a valid one, and accept the licence on ${page} if there is one`
        : `${subject} is no ${local}, and on the Hub does not exist or is gated or private (401): check the name; if it is right, accept the licence on ${page} and set HF_TOKEN to a token of that account`,
    );
  }
  if (status === 404) {
    return new InputError(
      `${subject} is no ${local}, and ${endpoint} has no such repository or revision "${printable(revision)}" (404)` +
        `${token ? "" : "; if it is private, set HF_TOKEN"}`,
    );
  }
  return new InputError(`${subject} cannot be downloaded: ${endpoint} answered ${status}`);
}
