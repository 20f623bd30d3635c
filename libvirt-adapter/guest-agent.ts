import type { GuestId } from '../orchestrator/core/guest.ts';
import type { TimerClock } from '../orchestrator/core/timer-clock.ts';
import { type DomainRef, LIBVIRT_ERROR, type Libvirt, LibvirtError } from './libvirt.ts';

/** Seconds an agent may take for one command. An answer takes milliseconds; an emulated guest on a loaded host over 1 s. */
const AGENT_TIMEOUT_S = 2;
/** Silences in a row after which an agent counts as hung: one alone is a slow guest. */
const SILENCES_MAX = 2;
/** How long a hung agent is left alone, so that it costs each caller nothing. */
const QUARANTINE_MS = 5_000;
/** Longest file read from a guest. /proc/meminfo has 1.5 KiB. */
const FILE_BYTES_MAX = 16 * 1024;

/** The connection is at fault, not the agent. */
const CONNECTION_CODES: ReadonlySet<number> = new Set([
  LIBVIRT_ERROR.library,
  LIBVIRT_ERROR.disconnected,
  LIBVIRT_ERROR.laneFull,
  LIBVIRT_ERROR.noConnect,
  LIBVIRT_ERROR.rpc,
  LIBVIRT_ERROR.noDomain,
]);

/** A file's text as far as it was read. */
export interface GuestFile {
  readonly text: string;
}

/**
 * The guest agent's few commands. What it says is the guest's claim. Every method gives undefined when no agent
 * answers, or none has when `signal` aborts; an agent that was silent twice is not asked again for 5 s.
 */
export class GuestAgent {
  readonly #libvirt: Libvirt;
  readonly #clock: TimerClock;
  readonly #silence = new Map<GuestId, { readonly count: number; readonly untilMs: number }>();
  readonly #unsubscribe: (() => void)[];

  constructor(libvirt: Libvirt, clock: TimerClock) {
    this.#libvirt = libvirt;
    this.#clock = clock;
    this.#unsubscribe = [
      libvirt.on('agent-lifecycle', ({ domain }) => this.#silence.delete(domain.uuid)),
      libvirt.on('lifecycle', ({ domain }) => this.#silence.delete(domain.uuid)),
    ];
  }

  /** vCPUs online in the guest. */
  async onlineVcpus(domain: DomainRef, signal?: AbortSignal): Promise<number | undefined> {
    const answer = await this.#command(domain, 'guest-get-vcpus', {}, signal);
    if (!Array.isArray(answer)) return undefined;
    const online = answer.filter((vcpu) => isRecord(vcpu) && vcpu.online === true).length;
    return online > 0 ? online : undefined;
  }

  /** Switch vCPUs on or off so that `count` are online. True when the agent did it. */
  async setOnlineVcpus(domain: DomainRef, count: number): Promise<boolean> {
    const done = await this.#ask(domain, async () => {
      await this.#libvirt.setVcpus(domain, count, { guest: true });
      return true;
    });
    return done ?? false;
  }

  /** The beginning of a file in the guest, at most 16 KiB. */
  async readFile(domain: DomainRef, path: string, signal?: AbortSignal): Promise<GuestFile | undefined> {
    const handle = await this.#command(domain, 'guest-file-open', { path, mode: 'r' }, signal);
    if (!Number.isSafeInteger(handle)) return undefined;
    const read = await this.#command(domain, 'guest-file-read', { handle, count: FILE_BYTES_MAX }, signal);
    // Closed whatever came of the read, or the guest would run out of handles; its answer decides nothing.
    await this.#command(domain, 'guest-file-close', { handle });
    if (!isRecord(read) || typeof read['buf-b64'] !== 'string') return undefined;
    return { text: Buffer.from(read['buf-b64'], 'base64').subarray(0, FILE_BYTES_MAX).toString('latin1') };
  }

  close(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
  }

  async #command(
    domain: DomainRef,
    execute: string,
    args: Readonly<Record<string, unknown>>,
    signal?: AbortSignal,
  ): Promise<unknown> {
    if (signal?.aborted) return undefined;
    const command = JSON.stringify({ execute, arguments: args });
    const asked = this.#ask(domain, () =>
      this.#libvirt.qemuAgentCommand(domain, command, AGENT_TIMEOUT_S, signal ? { signal } : {}),
    );
    const answer = await unlessAborted(asked, signal);
    return answer === undefined ? undefined : returned(answer);
  }

  /** @throws {LibvirtError} when the connection, not the agent, is at fault */
  async #ask<T>(domain: DomainRef, question: () => Promise<T>): Promise<T | undefined> {
    const nowMs = this.#clock.monotonicMs();
    if ((this.#silence.get(domain.uuid)?.untilMs ?? 0) > nowMs) return undefined;
    try {
      const answer = await question();
      this.#silence.delete(domain.uuid);
      return answer;
    } catch (cause) {
      if (!(cause instanceof LibvirtError) || CONNECTION_CODES.has(cause.code)) throw cause;
      if (isSilence(cause)) this.#noteSilence(domain.uuid);
      return undefined;
    }
  }

  #noteSilence(guest: GuestId): void {
    const count = (this.#silence.get(guest)?.count ?? 0) + 1;
    const untilMs = count < SILENCES_MAX ? 0 : this.#clock.monotonicMs() + QUARANTINE_MS;
    this.#silence.set(guest, { count, untilMs });
  }
}

/** `work`, or undefined once `signal` aborts. The work goes on: a command that reached the guest cannot be called back. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T | undefined> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const onAbort = () => resolve(undefined);
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

function isSilence(error: LibvirtError): boolean {
  return error.code === LIBVIRT_ERROR.agentUnresponsive || error.code === LIBVIRT_ERROR.timeout;
}

function returned(answer: string): unknown {
  try {
    const parsed: unknown = JSON.parse(answer);
    return isRecord(parsed) ? parsed.return : undefined;
  } catch {
    return undefined; // the guest wrote garbage: as good as no answer
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
