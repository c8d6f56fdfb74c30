import { type HubConnection, readWhole, request, withRetries } from "./http.ts";
import { http1Options } from "./http1.ts";
import { StaleLinkError } from "./push-connection.ts";

/** What @huggingface/hub hangs on a request whose progress it passes on. */
interface ProgressHint {
  readonly progressHint?: { readonly progressCallback?: (share: number) => void };
}

/** Requests of the Hub's API as it is documented. What else goes to the endpoint is a link that it gave itself. */
const API = /^\/api\/((repos|models)\/|validate-yaml$)|\.git\/info\/lfs\/objects\/batch$/;

/**
 * Keeps fetch from copying a body: for a redirect or a password prompt it would hold all of it in memory until the answer
 * comes. Ten parts of 64 MiB at a time took 805 MiB, and now take 152.
 */
const STREAMED: RequestInit = { redirect: "error", window: null };

/**
 * A fetch for the functions of @huggingface/hub that write. A request that another attempt may mend is made again by
 * itself, so that one cut connection does not cost the others what they have sent. Bodies stream from the disk.
 */
export function uploadFetch(connection: HubConnection): typeof fetch {
  return (input, init = {}) => {
    const url = input instanceof Request ? input.url : String(input);
    const scope = scoped(connection, url, init.signal);
    const { progressHint } = init as ProgressHint;
    const headers = Object.fromEntries(new Headers(init.headers));
    delete headers.authorization; // It is put in where it belongs: a storage host must not see it.
    return withRetries(scope, async ({ signal, received }) => {
      const onSent = (sentBytes: number, sizeBytes: number) => {
        received(sentBytes);
        progressHint?.progressCallback?.(sentBytes / sizeBytes);
      };
      const body = init.body instanceof Blob ? new CountedBlob(init.body, onSent) : (init.body ?? null);
      const large = body instanceof Blob ? { ...http1Options(), ...STREAMED } : {};
      const method = init.method ?? "GET";
      const response = await request(scope, url, { ...large, method, headers, body, signal });
      return readWhole(scope, response, () => received(0));
    });
  };
}

/** Ends with the request's own signal too, and takes a refused link of the endpoint for a stale one. */
function scoped(connection: HubConnection, url: string, own: AbortSignal | null | undefined): HubConnection {
  const signals = [connection.signal, own ?? undefined].filter((signal) => signal !== undefined);
  const scope = signals.length > 0 ? { ...connection, signal: AbortSignal.any(signals) } : connection;
  const { endpoint } = connection;
  if (url.startsWith(endpoint) && API.test(url.slice(endpoint.length))) return scope;
  const refused = ({ status }: { status: number }) => new StaleLinkError(`${new URL(url).origin} answered ${status}`);
  return { ...scope, failures: { ...scope.failures, refused } };
}

/** A blob that tells how much of it has been read: fetch itself tells nothing of what it sends. */
class CountedBlob extends Blob {
  override readonly size: number;
  readonly #inner: Blob;
  readonly #onRead: (doneBytes: number, sizeBytes: number) => void;

  constructor(inner: Blob, onRead: (doneBytes: number, sizeBytes: number) => void) {
    super([]);
    this.size = inner.size;
    this.#inner = inner;
    this.#onRead = onRead;
  }

  override stream(): ReturnType<Blob["stream"]> {
    let doneBytes = 0;
    const counter = new TransformStream<Uint8Array, Uint8Array>({
      transform: (chunk, controller) => {
        doneBytes += chunk.byteLength;
        this.#onRead(doneBytes, this.size);
        controller.enqueue(chunk);
      },
    });
    return this.#inner.stream().pipeThrough(counter) as ReturnType<Blob["stream"]>;
  }
}
