import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ScaleOut } from '../core/ports.ts';
import type { ScaleAnswer, ScaleRequest } from '../core/scale.ts';

/** Longest that one attempt may take: whoever is asked may look at a whole fleet, and must leave time for a second attempt. */
const ATTEMPT_MS_MAX = 10_000;
/** Pause before the second attempt; doubled before each further one, up to the largest. */
const PAUSE_MS_FIRST = 500;
const PAUSE_MS_MAX = 8_000;
/** Bytes of an answer that are read: a sentence and a word. */
const ANSWER_BYTES_MAX = 16 * 1024;
/** Characters of the answer's text that reach a lease's reason. */
const TEXT_CHARS_MAX = 200;
const UNPRINTABLE = /[^\p{L}\p{M}\p{N}\p{P}\p{S} ]+/gu;
const PASSING = new Set([408, 425, 429, 500, 502, 503, 504]);

export interface WebhookOptions {
  /** http or https. */
  readonly url: string;
  /** A file whose content is sent as bearer token; read anew for each request, so that it can be changed. Absent: none is sent. */
  readonly tokenFile?: string;
}

/** What one attempt came to; without an answer it may be tried again. */
type Attempt = { readonly answer: ScaleAnswer } | { readonly failure: string };

/**
 * Asks an HTTP service for room: one POST of JSON, the keys of `ScaleRequest` in snake_case, repeated under the same
 * `Idempotency-Key` until it is answered. A 2xx is consent unless its body says `"accepted": false`; any other answer that is not
 * of passing trouble is a refusal. Redirects are not followed: the token was meant for this address.
 */
export class Webhook implements ScaleOut {
  readonly #options: WebhookOptions;

  constructor(options: WebhookOptions) {
    this.#options = options;
  }

  async ask(request: ScaleRequest, signal: AbortSignal): Promise<ScaleAnswer> {
    let failure = 'it was not asked';
    for (let pauseMs = PAUSE_MS_FIRST; !signal.aborted; pauseMs = Math.min(2 * pauseMs, PAUSE_MS_MAX)) {
      const attempt = await this.#attempt(request, signal);
      if ('answer' in attempt) return attempt.answer;
      failure = attempt.failure;
      await sleep(pauseMs, undefined, { signal }).catch(() => {});
    }
    return { accepted: false, text: `no answer from the scaling webhook: ${failure}` };
  }

  async #attempt(request: ScaleRequest, signal: AbortSignal): Promise<Attempt> {
    const { url, tokenFile } = this.#options;
    try {
      const token = tokenFile === undefined ? undefined : readFileSync(tokenFile, 'utf8').trim();
      const response = await fetch(url, {
        method: 'POST',
        redirect: 'error',
        signal: AbortSignal.any([signal, AbortSignal.timeout(ATTEMPT_MS_MAX)]),
        headers: {
          'content-type': 'application/json',
          'idempotency-key': request.id,
          ...(token !== undefined && { authorization: `Bearer ${token}` }),
        },
        body: JSON.stringify(webhookDocument(request)),
      });
      if (PASSING.has(response.status)) {
        await response.body?.cancel();
        return { failure: `HTTP ${response.status}` };
      }
      return { answer: answerOf(response.ok, response.status, await textOf(response)) };
    } catch (cause) {
      return { failure: reasonOf(cause as Error) };
    }
  }
}

/** The body of a request for room. Bytes and millicores; what is not known is absent. */
export function webhookDocument({
  id,
  atMs,
  host,
  short,
  tenant,
  workload,
  priority,
  ...more
}: ScaleRequest) {
  const { guest, needed, leaseId } = more;
  return {
    id,
    at_ms: atMs,
    host,
    short,
    tenant,
    workload,
    priority,
    guest,
    needed: needed && { cpu_millicores: needed.cpuMillicores, memory_bytes: needed.memoryBytes },
    lease_id: leaseId,
  };
}

/** The first bytes of a body as text; the rest is not waited for. */
async function textOf(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk);
    bytes += chunk.byteLength;
    if (bytes > ANSWER_BYTES_MAX) break;
  }
  return Buffer.concat(chunks).subarray(0, ANSWER_BYTES_MAX).toString();
}

function answerOf(ok: boolean, status: number, body: string): ScaleAnswer {
  const { accepted, text } = documentOf(body);
  const consents = ok && accepted !== false;
  const fallback = consents ? 'asked outside for room' : `room was refused outside (HTTP ${status})`;
  const said = typeof text === 'string' ? text.replace(UNPRINTABLE, ' ').trim().slice(0, TEXT_CHARS_MAX) : '';
  return { accepted: consents, text: said === '' ? fallback : said };
}

function documentOf(body: string): { readonly accepted?: unknown; readonly text?: unknown } {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {}; // An answer need not be JSON: its status says enough.
  }
}

/** fetch wraps what went wrong in "fetch failed". */
function reasonOf({ message, cause }: Error): string {
  const inner = cause instanceof Error ? cause.message : '';
  return inner === '' ? message : inner;
}
