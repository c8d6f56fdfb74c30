import { modelInfo, whoAmI } from "@huggingface/hub";
import { z } from "zod";
import { InputError } from "../errors.ts";
import { printable } from "../text.ts";
import { apiFetch, callHub } from "./http.ts";
import { type PushConnection, type PushTarget, RefusedError } from "./push-connection.ts";

/** What /api/whoami-v2 tells of a token. What it does not tell is not held against it: the Hub itself refuses later. */
const ACCOUNT = z.object({
  name: z.string(),
  orgs: z.array(z.object({ name: z.string(), roleInOrg: z.string().optional() })).default([]),
  auth: z
    .object({
      accessToken: z
        .object({
          role: z.string().optional(),
          fineGrained: z
            .object({
              scoped: z
                .array(
                  z.object({ entity: z.object({ name: z.string().optional() }), permissions: z.array(z.string()) }),
                )
                .optional(),
            })
            .optional(),
        })
        .optional(),
    })
    .optional(),
});

type Account = z.output<typeof ACCOUNT>;

/** A repository as it is. */
export interface RemoteRepository {
  readonly isPrivate: boolean;
  /** Names of the files on the branch; null where there is no such branch. */
  readonly files: readonly string[] | null;
}

/**
 * Asks the Hub whose token this is, whether it may write to the repository, and what is there. Nothing is changed.
 *
 * @returns null where there is no such repository yet
 * @throws InputError where it may not, or where a private model would go into a public repository; UnreachableError
 */
export async function requireWriteAccess(
  connection: PushConnection,
  target: PushTarget,
): Promise<RemoteRepository | null> {
  const { endpoint, token, subject } = connection;
  const answer = await callHub(connection, () =>
    whoAmI({ accessToken: token, hubUrl: endpoint, fetch: apiFetch(connection) }),
  );
  const account = ACCOUNT.safeParse(answer);
  if (!account.success) throw new InputError(`${subject}: ${endpoint} does not say whose the token in use is`);
  requireMayWrite(connection, target, account.data);
  const remote = await readRepository(connection, target);
  if (remote && !remote.isPrivate && target.isPrivate) {
    throw new InputError(
      `${subject} is public on ${endpoint}, and a private model would be shown to everybody there: say push_to_hub.private: false (--public), or make the repository private in its settings`,
    );
  }
  return remote;
}

function requireMayWrite({ subject, endpoint }: PushConnection, { repository }: PushTarget, account: Account): void {
  const owner = repository.split("/")[0]!;
  const { role, fineGrained } = account.auth?.accessToken ?? {};
  const remedy = `make one that may write on ${endpoint}/settings/tokens, and set HF_TOKEN to it`;
  if (role === "read") throw new InputError(`${subject}: the token in use may only read: ${remedy}`);
  const organization = account.orgs.find(({ name }) => isSame(name, owner));
  if (!isSame(account.name, owner) && !organization) {
    throw new InputError(
      `${subject}: the token in use is of ${printable(account.name)}, which may not write to ${owner}: push to ${printable(account.name)}/${repository.split("/")[1]}, or take a token of an account that may`,
    );
  }
  if (organization?.roleInOrg === "read") {
    throw new InputError(
      `${subject}: ${printable(account.name)} may only read in ${owner}: ask its administrator for the right to write, or push elsewhere`,
    );
  }
  if (role !== "fineGrained" || !fineGrained?.scoped) return;
  const mayWrite = fineGrained.scoped.some(({ entity: { name = "" }, permissions }) => {
    return (isSame(name, owner) || isSame(name, repository)) && permissions.includes("repo.write");
  });
  if (!mayWrite)
    throw new InputError(`${subject}: the token in use may not write to repositories of ${owner}: ${remedy}`);
}

/** The Hub's names differ by more than case. */
function isSame(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}

async function readRepository(
  connection: PushConnection,
  { repository, revision }: PushTarget,
): Promise<RemoteRepository | null> {
  const branch = await readBranch(connection, repository, revision);
  if (branch !== "none" && branch !== "no branch") return branch;
  const first = branch === "none" ? branch : await readBranch(connection, repository, undefined);
  return typeof first === "string" ? null : { isPrivate: first.isPrivate, files: null };
}

async function readBranch(
  connection: PushConnection,
  name: string,
  revision: string | undefined,
): Promise<RemoteRepository | "none" | "no branch"> {
  const { endpoint } = connection;
  try {
    const info = await callHub(connection, () =>
      modelInfo({
        name,
        hubUrl: endpoint,
        additionalFields: ["filePaths"],
        fetch: apiFetch(connection),
        ...(revision !== undefined && { revision }),
      }),
    );
    return { isPrivate: info.private === true, files: info.filePaths };
  } catch (error) {
    if (!(error instanceof RefusedError) || error.status !== 404) throw error;
    return error.errorCode === "RevisionNotFound" ? "no branch" : "none";
  }
}
