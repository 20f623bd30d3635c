import { type HostReport, REPORT_EVERY_MS, REPORT_TENANTS_MAX } from '../core/host-report.ts';
import type { Clock, HostReporter, Hypervisor } from '../core/ports.ts';
import type { GuestBook } from './guest-book.ts';
import type { HostRoom } from './host-room.ts';
import type { LeaseBook } from './lease-book.ts';
import type { Log } from './log.ts';

/** What the agent reaches. */
export interface HostAgentParts {
  readonly clock: Clock;
  readonly hypervisor: Hypervisor;
  readonly reportTo: readonly HostReporter[];
  readonly guests: GuestBook;
  readonly leases: LeaseBook;
  readonly room: HostRoom;
  readonly log: Log;
  /** The host's name in reports; undefined while it is not known. */
  readonly name: () => string | undefined;
  readonly isDraining: () => boolean;
}

/** Reports this host to the directory, as long as its hypervisor answers: a host we cannot see is better unknown than wrong. */
export class HostAgent {
  readonly #parts: HostAgentParts;
  /** Those that did not take the last report: each is said once. */
  readonly #failing = new Set<HostReporter>();
  #nextMs = Number.NEGATIVE_INFINITY;

  constructor(parts: HostAgentParts) {
    this.#parts = parts;
  }

  /** Report when it is time to. Who does not take it hinders nobody. */
  async tend(): Promise<void> {
    const { clock, hypervisor, reportTo, room, guests, name } = this.#parts;
    const host = name();
    if (reportTo.length === 0 || clock.monotonicMs() < this.#nextMs) return;
    if (!hypervisor.available || room.host === undefined || !guests.isLoaded || host === undefined) return;
    this.#nextMs = clock.monotonicMs() + REPORT_EVERY_MS;
    const report = this.#report(host);
    await Promise.all(reportTo.map((reporter) => this.#hand(report, reporter)));
  }

  async #hand(report: HostReport, reporter: HostReporter): Promise<void> {
    const { log } = this.#parts;
    try {
      await reporter.report(report);
      if (this.#failing.delete(reporter)) log.info({ host: report.host }, 'the host is reported again');
    } catch (cause) {
      if (!this.#failing.has(reporter))
        log.warn({ err: cause, host: report.host }, 'the host is not reported');
      this.#failing.add(reporter);
    }
  }

  #report(host: string): HostReport {
    const { room, guests, isDraining } = this.#parts;
    return {
      host,
      physical: room.physical(),
      capacity: room.capacity(),
      committed: room.committed(),
      demand: room.demandSums(),
      cpuByHour: [...room.cpuByHour()],
      tenantGuests: this.#tenantGuests(),
      guests: guests.known,
      draining: isDraining(),
    };
  }

  /** Guests on which a tenant has a lease that has not ended. */
  #tenantGuests(): Map<string, number> {
    const guests = new Map<string, Set<string>>();
    for (const { lease } of this.#parts.leases.open()) {
      const known = guests.get(lease.tenant);
      if (known !== undefined) known.add(lease.guest);
      else if (guests.size < REPORT_TENANTS_MAX) guests.set(lease.tenant, new Set([lease.guest]));
    }
    return new Map([...guests].map(([tenant, set]) => [tenant, set.size]));
  }
}
