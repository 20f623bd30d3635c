import type { GuestId } from '../orchestrator/core/guest.ts';
import type { TimerClock } from './clock.ts';
import { type DomainRef, LIBVIRT_ERROR, type Libvirt, LibvirtError } from './libvirt.ts';

/** Seconds an agent may take for one command. An answer takes milliseconds; a loaded emulated guest some tenths. */
const AGENT_TIMEOUT_S = 1;
/** How long an agent that did not answer is left alone, so that a hung one costs each caller nothing. */
const QUARANTINE_MS = 10_000;
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
 * answers; after that it is not asked again for 10 s.
 */
export class GuestAgent {
  readonly #libvirt: Libvirt;
  readonly #clock: TimerClock;
  readonly #silentUntilMs = new Map<GuestId, number>();

  constructor(libvirt: Libvirt, clock: TimerClock) {
    this.#libvirt = libvirt;
    this.#clock = clock;
    libvirt.on('agent-lifecycle', ({ domain }) => this.#silentUntilMs.delete(domain.uuid));
    libvirt.on('lifecycle', ({ domain }) => this.#silentUntilMs.delete(domain.uuid));
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

  async #command(
    domain: DomainRef,
    execute: string,
    args: Readonly<Record<string, unknown>>,
    signal?: AbortSignal,
  ): Promise<unknown> {
    if (signal?.aborted) return undefined;
    const command = JSON.stringify({ execute, arguments: args });
    const answer = await this.#ask(domain, () =>
      this.#libvirt.qemuAgentCommand(domain, command, AGENT_TIMEOUT_S, signal ? { signal } : {}),
    );
    return answer === undefined ? undefined : returned(answer);
  }

  /** @throws {LibvirtError} when the connection, not the agent, is at fault */
  async #ask<T>(domain: DomainRef, question: () => Promise<T>): Promise<T | undefined> {
    const nowMs = this.#clock.monotonicMs();
    if ((this.#silentUntilMs.get(domain.uuid) ?? 0) > nowMs) return undefined;
    try {
      return await question();
    } catch (cause) {
      if (!(cause instanceof LibvirtError) || CONNECTION_CODES.has(cause.code)) throw cause;
      if (cause.code !== LIBVIRT_ERROR.cancelled && isSilence(cause)) {
        this.#silentUntilMs.set(domain.uuid, this.#clock.monotonicMs() + QUARANTINE_MS);
      }
      return undefined;
    }
  }
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
