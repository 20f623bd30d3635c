import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CallPhase, ProxmoxError } from './errors.ts';
import { SecureAgent, type ServerTrust } from './secure-agent.ts';

/** Longest answer. The metrics of a thousand guests are 1 MiB; half an hour's history of a hundred is 18. */
const BODY_BYTES_MAX = 32 * 1024 * 1024;
/** Longest wait for one call, its retries included: pveproxy itself gives up after 30 s, a busy node answers within 3. */
const CALL_MS_MAX = 10_000;
/** The same of a change: Proxmox VE waits 10 s for a guest's lock before it refuses, and the refusal is worth having. */
const CHANGE_MS_MIN = 20_000;
/** Pauses before a read is tried again. Two, since what a moment does not mend is for the caller's own retries. */
const RETRY_PAUSES_MS = [100, 400] as const;
/** Longest sentence of Proxmox VE that is passed on. */
const MESSAGE_CHARS_MAX = 500;
/** USER@REALM!TOKENID=SECRET, as Proxmox VE shows it once. */
const TOKEN = /^[^\s:@!=]{1,64}@[A-Za-z][\w.-]{1,31}![A-Za-z][\w.-]{0,63}=[0-9a-fA-F-]{36}$/;
/** Statuses that say that a node was not reached: a read may be tried again. */
const PASSING: ReadonlySet<number> = new Set([502, 503, 504, 595, 596, 599]);

/** Values of a call. Those that the path names go there, others into the query or the form. */
export type CallParameters = Readonly<Record<string, string | number | boolean>>;

/** Where the API is and how it is entered. */
export interface ApiOptions extends ServerTrust {
  /** Such as `https://pve1:8006`. */
  readonly url: string;
  /** Reads `USER@REALM!TOKENID=SECRET`; asked again when the token was refused, so that one can be exchanged. */
  readonly readToken: () => string;
  /** Longest wait for one call, ms. Absent: 10 s. */
  readonly timeoutMs?: number;
}

interface Answer {
  readonly status: number;
  readonly reason: string;
  readonly body: Buffer;
}

/**
 * Calls of the Proxmox VE REST API, by the paths of its own schema. Reads are tried again where a moment may mend them;
 * changes never are, unless they cannot have left. Every call ends within its deadline.
 */
export class ProxmoxApi {
  readonly #base: URL;
  readonly #agent: SecureAgent;
  readonly #readToken: () => string;
  readonly #timeoutMs: number;
  #token: string | undefined;

  constructor({ url, readToken, timeoutMs = CALL_MS_MAX, ...trust }: ApiOptions) {
    this.#base = new URL(url);
    this.#agent = new SecureAgent(trust);
    this.#readToken = readToken;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * The `data` of an answer, unchecked.
   * @param path as in the schema, such as `/nodes/{node}/qemu/{vmid}/config`
   * @throws {ProxmoxError}
   */
  async get(path: string, parameters: CallParameters = {}, signal?: AbortSignal): Promise<unknown> {
    const deadline = this.#deadline(signal);
    for (let tries = 0; ; tries += 1) {
      try {
        return await this.#call('GET', path, parameters, deadline);
      } catch (cause) {
        const pauseMs = RETRY_PAUSES_MS[tries];
        if (pauseMs === undefined || !isPassing(cause) || deadline.aborted) throw cause;
        await sleep(pauseMs, undefined, { signal: deadline }).catch(() => {
          throw cause;
        });
      }
    }
  }

  /** As `get`, of a call that changes something. @throws {ProxmoxError} `unanswered`: it may have been carried out */
  post(path: string, parameters: CallParameters, signal?: AbortSignal): Promise<unknown> {
    return this.#call('POST', path, parameters, this.#deadline(signal, CHANGE_MS_MIN));
  }

  close(): void {
    this.#agent.destroy();
  }

  #deadline(signal: AbortSignal | undefined, leastMs = 0): AbortSignal {
    const timeout = AbortSignal.timeout(Math.max(this.#timeoutMs, leastMs));
    return signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
  }

  async #call(
    method: 'GET' | 'POST',
    path: string,
    parameters: CallParameters,
    deadline: AbortSignal,
  ): Promise<unknown> {
    const call = `${method} ${path}`;
    const known = this.#token;
    const answer = await this.#send(method, path, parameters, deadline);
    if (answer.status !== 401) return dataOf(call, answer);
    // Exchanged since it was read? A refused call was not carried out.
    this.#token = undefined;
    if (known === undefined || this.#currentToken(call) === known) return dataOf(call, answer);
    return dataOf(call, await this.#send(method, path, parameters, deadline));
  }

  #currentToken(call: string): string {
    if (this.#token !== undefined) return this.#token;
    let text: string;
    try {
      text = this.#readToken().trim();
    } catch (cause) {
      const message = `the token cannot be read: ${(cause as NodeJS.ErrnoException).code ?? 'no reason given'}`;
      throw new ProxmoxError(call, 'unsent', 0, message);
    }
    // What is no token is not shown: it may be most of one.
    if (!TOKEN.test(text))
      throw new ProxmoxError(call, 'unsent', 0, 'the token file does not hold USER@REALM!TOKENID=SECRET');
    this.#token = text;
    return text;
  }

  #send(
    method: 'GET' | 'POST',
    path: string,
    parameters: CallParameters,
    deadline: AbortSignal,
  ): Promise<Answer> {
    const call = `${method} ${path}`;
    const token = this.#currentToken(call);
    const { target, form } = placed(path, parameters);
    const isRead = method === 'GET';
    const url = new URL(`/api2/json${target}${isRead && form !== '' ? `?${form}` : ''}`, this.#base);
    return new Promise((resolve, reject) => {
      let phase: CallPhase = 'unsent';
      const fail = (cause: unknown): void => reject(failed(call, phase, cause, deadline));
      const outgoing = request(
        url,
        {
          method,
          agent: this.#agent,
          signal: deadline,
          headers: {
            accept: 'application/json',
            authorization: `PVEAPIToken=${token}`,
            ...(!isRead && { 'content-type': 'application/x-www-form-urlencoded' }),
          },
        },
        (incoming) => {
          gather(incoming).then(resolve, fail);
        },
      );
      outgoing.once('socket', (socket) => {
        // Handed over connected, or by our agent, which connects first: what is written from now on may arrive.
        if (!socket.connecting) phase = 'unanswered';
      });
      outgoing.once('error', fail);
      outgoing.end(isRead ? undefined : form);
    });
  }
}

/** A path with its names filled in, and the other parameters as a form. */
function placed(
  path: string,
  parameters: CallParameters,
): { readonly target: string; readonly form: string } {
  const rest = new Map(Object.entries(parameters));
  const target = path.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = rest.get(name);
    rest.delete(name);
    return encodeURIComponent(String(value));
  });
  const form = new URLSearchParams();
  for (const [name, value] of rest)
    form.set(name, typeof value === 'boolean' ? (value ? '1' : '0') : String(value));
  return { target, form: form.toString() };
}

async function gather(incoming: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of incoming) {
    bytes += (chunk as Buffer).length;
    if (bytes > BODY_BYTES_MAX) {
      incoming.destroy();
      throw new Error(`the answer is longer than ${BODY_BYTES_MAX} bytes`);
    }
    chunks.push(chunk as Buffer);
  }
  return {
    status: incoming.statusCode ?? 0,
    reason: incoming.statusMessage ?? '',
    body: Buffer.concat(chunks),
  };
}

function failed(call: string, phase: CallPhase, cause: unknown, deadline: AbortSignal): ProxmoxError {
  const reason = (deadline.reason as Error | undefined)?.name;
  const text = reason === 'TimeoutError' ? 'no answer in time' : (cause as Error).message;
  return new ProxmoxError(call, phase, 0, clipped(text), { cause });
}

function isPassing(cause: unknown): boolean {
  if (!(cause instanceof ProxmoxError)) return false;
  return cause.phase === 'answered' ? PASSING.has(cause.status) : cause.phase !== 'unreadable';
}

function dataOf(call: string, { status, reason, body }: Answer): unknown {
  const isDone = status >= 200 && status < 300;
  let answer: unknown;
  try {
    answer = JSON.parse(body.toString('utf8'));
  } catch (cause) {
    if (isDone) throw new ProxmoxError(call, 'unreadable', status, 'the answer is not JSON', { cause });
  }
  const parts = typeof answer === 'object' && answer !== null ? (answer as Record<string, unknown>) : {};
  if (!isDone) throw new ProxmoxError(call, 'answered', status, complaint(parts, reason, status));
  if (!('data' in parts)) throw new ProxmoxError(call, 'unreadable', status, 'the answer has no data');
  return parts.data;
}

/** What Proxmox VE complains of: the message, or the status line where older versions have it, and the fields. */
function complaint(parts: Readonly<Record<string, unknown>>, reason: string, status: number): string {
  const { message, errors } = parts;
  const fields =
    typeof errors === 'object' && errors !== null
      ? Object.entries(errors).map(([field, rule]) => `${field}: ${String(rule).trim()}`)
      : [];
  const sentence = typeof message === 'string' && message.trim() !== '' ? message.trim() : reason;
  return clipped([sentence || `HTTP ${status}`, ...fields].join('; '));
}

function clipped(text: string): string {
  return text.length > MESSAGE_CHARS_MAX ? `${text.slice(0, MESSAGE_CHARS_MAX)}…` : text;
}
