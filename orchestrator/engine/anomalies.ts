import {
  type Anomaly,
  type AnomalyKind,
  GuestWatch,
  MISSES_MAX,
  type Misses,
  missesAfter,
  type SampledKind,
} from '../core/anomaly.ts';
import { type Drift, driftAfter } from '../core/drift.ts';
import type { Outcome } from '../core/forecast.ts';
import type { GuestId } from '../core/guest.ts';
import { hasEnded, type Lease } from '../core/lease.ts';
import type { Clock, LedgerEntry, LedgerWrite } from '../core/ports.ts';
import type { GuestSample } from '../core/sample.ts';
import type { GuestBook } from './guest-book.ts';
import type { LeaseBook } from './lease-book.ts';
import type { LeaseJournal } from './lease-journal.ts';
import type { Log } from './log.ts';
import type { ManagedGuest } from './managed-guest.ts';
import { sameWork, workloadKey } from './outcomes.ts';
import type { EnginePolicy } from './policy.ts';

const PREFIX = 'anomaly/';

/** Anomalies kept, in memory and in the ledger; the oldest go. */
const ANOMALIES_MAX = 1000;
/** Pieces of work of which misses are remembered; those that missed longest ago go. */
const MISSED_MAX = 1000;
/** Workloads of which drift is followed; those that ran longest ago go. */
const DRIFTS_MAX = 1000;

/** What the ledger stores: the anomaly, and which cause it is of. */
interface AnomalyRecord {
  readonly anomaly: Anomaly;
  /** One cause has one anomaly at a time. */
  readonly cause: string;
}

export interface AnomaliesParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly guests: GuestBook;
  readonly leases: LeaseBook;
  readonly journal: LeaseJournal;
  readonly policy: Pick<EnginePolicy, 'anomaly'>;
  /** Told of each anomaly that is raised, once. */
  readonly onRaised: (anomaly: Anomaly) => void;
}

/** What guests did that they should not: told from samples and from finished work, recorded and logged once each. */
export class Anomalies {
  static readonly prefix = PREFIX;

  readonly #parts: AnomaliesParts;
  readonly #watches = new WeakMap<ManagedGuest, GuestWatch>();
  readonly #misses = new Map<string, Misses>();
  readonly #drifts = new Map<string, Drift>();
  /** By key of the ledger, oldest first. */
  readonly #records = new Map<string, AnomalyRecord>();
  /** Keys of those that last, by cause. */
  readonly #lasting = new Map<string, string>();
  readonly #raised: Partial<Record<AnomalyKind, number>> = {};

  constructor(parts: AnomaliesParts) {
    this.#parts = parts;
  }

  /** Take up the anomalies the ledger knows. */
  load(entries: readonly LedgerEntry[]): void {
    for (const { key, value } of entries) {
      const record = value as AnomalyRecord;
      this.#records.set(key, record);
      if (record.anomaly.clearedAtMs === undefined) this.#lasting.set(record.cause, key);
    }
  }

  /** Raised since the start. */
  get raised(): Readonly<Partial<Record<AnomalyKind, number>>> {
    return this.#raised;
  }

  /** Newest first. @param guest UUID or name; absent: of all */
  list(guest?: string): Anomaly[] {
    return [...this.#records.values()]
      .map(({ anomaly }) => anomaly)
      .filter((one) => guest === undefined || one.guest === guest || one.guestName === guest)
      .reverse();
  }

  note(sample: GuestSample): void {
    const guest = this.#parts.guests.find(sample.guest);
    if (guest === undefined) return;
    const { id } = guest.record;
    const lease = this.#parts.leases.newestInPlace(id);
    const turns = this.#watch(guest, lease?.id).note({
      sample,
      held: guest.held,
      ceiling: guest.facts.ceiling,
      lease,
    });
    for (const { kind, startMs, finding } of turns) {
      // A miner is the guest's affair, whatever leases come and go meanwhile.
      const leaseId = kind === 'miner' ? undefined : lease?.id;
      const cause = sampledCause(kind, id, leaseId);
      if (finding === undefined) this.#clear(cause);
      else
        this.#raise(cause, {
          kind,
          guest: id,
          guestName: guest.record.name,
          ...(leaseId === undefined ? {} : { leaseId }),
          ...finding,
          startMs,
        });
    }
  }

  /** Take in how a piece of work ended. */
  noteOutcome(lease: Lease, outcome: Outcome): void {
    this.#noteMisses(lease, outcome);
    this.#noteDrift(lease, outcome);
  }

  /** After a restart a workload begins as calibrated: what lasted is over with the first run inside. */
  #noteDrift(lease: Lease, outcome: Outcome): void {
    const cause = `drift/${workloadKey(outcome)}`;
    const drift = driftAfter(this.#drifts.get(cause), lease, outcome);
    if (drift === undefined) return;
    this.#drifts.delete(cause);
    this.#drifts.set(cause, drift);
    if (this.#drifts.size > DRIFTS_MAX) this.#drifts.delete(this.#drifts.keys().next().value as string);
    if (drift.rises.size === 0) this.#clear(cause);
    if (drift.alarm === undefined) return;
    // The guest and the lease are those of the run that raised it.
    const { guest, guestName, id: leaseId } = lease;
    this.#raise(cause, { kind: 'drift', guest, guestName, leaseId, ...drift.alarm });
  }

  #noteMisses(lease: Lease, outcome: Outcome): void {
    const cause = `profile-change/${lease.guest}/${sameWork(outcome)}`;
    const misses = missesAfter(this.#misses.get(cause), lease, outcome);
    this.#misses.delete(cause);
    if (misses === undefined) {
      this.#clear(cause);
      return;
    }
    this.#misses.set(cause, misses);
    if (this.#misses.size > MISSED_MAX) this.#misses.delete(this.#misses.keys().next().value as string);
    if (misses.count < MISSES_MAX) return;
    this.#raise(cause, {
      kind: 'profile-change',
      guest: lease.guest,
      guestName: lease.guestName,
      leaseId: lease.id,
      ...misses.finding,
      startMs: outcome.finishedAtMs,
    });
  }

  /** End what lasts of leases that have ended, and of guests that are off or no longer managed. */
  tend(): void {
    for (const [cause, key] of this.#lasting) {
      const { kind, guest: id, leaseId } = (this.#records.get(key) as AnomalyRecord).anomaly;
      const guest = this.#parts.guests.find(id);
      if (kind === 'drift') continue;
      if (guest === undefined) this.#clear(cause);
      if (guest === undefined || kind === 'profile-change') continue;
      const isOff = guest.facts.state !== 'running' && guest.facts.state !== 'paused';
      if (isOff) this.#watches.delete(guest);
      if (isOff || (leaseId !== undefined && this.#hasEnded(leaseId))) this.#clear(cause);
    }
  }

  /** Guests that are to be held to their promises for what lasts, and why. */
  capped(): ReadonlyMap<GuestId, string> {
    const { policy } = this.#parts;
    const capped = new Map<GuestId, string>();
    for (const key of this.#lasting.values()) {
      const { kind, guest } = (this.#records.get(key) as AnomalyRecord).anomaly;
      if (policy.anomaly[kind] === 'cap') capped.set(guest, kind);
    }
    return capped;
  }

  #hasEnded(leaseId: string): boolean {
    const { leases } = this.#parts;
    return !leases.has(leaseId) || hasEnded(leases.get(leaseId).lease.state);
  }

  #watch(guest: ManagedGuest, newestLeaseId: string | undefined): GuestWatch {
    const known = this.#watches.get(guest);
    if (known !== undefined) return known;
    const watch = new GuestWatch();
    for (const key of this.#lasting.values()) {
      const { kind, guest: of, leaseId, startMs } = (this.#records.get(key) as AnomalyRecord).anomaly;
      if (of !== guest.record.id || kind === 'profile-change' || kind === 'drift') continue;
      if (leaseId === undefined || leaseId === newestLeaseId) watch.resume(kind, startMs, newestLeaseId);
    }
    this.#watches.set(guest, watch);
    return watch;
  }

  #raise(cause: string, anomaly: Anomaly): void {
    const { clock, log, policy } = this.#parts;
    const { kind, guestName, leaseId, severity, reason, evidence, startMs } = anomaly;
    if (policy.anomaly[kind] === 'ignore' || this.#lasting.has(cause)) return;
    const key = `${PREFIX}${String(clock.nowMs()).padStart(15, '0')}/${cause}`;
    this.#lasting.set(cause, key);
    this.#raised[kind] = (this.#raised[kind] ?? 0) + 1;
    this.#put(key, { anomaly, cause });
    log.warn({ guest: guestName, leaseId, anomaly: kind, severity, reason, startMs, ...evidence }, 'anomaly');
    this.#parts.onRaised(anomaly);
  }

  #clear(cause: string): void {
    const key = this.#lasting.get(cause);
    if (key === undefined) return;
    this.#lasting.delete(cause);
    const { anomaly } = this.#records.get(key) as AnomalyRecord;
    this.#put(key, { cause, anomaly: { ...anomaly, clearedAtMs: this.#parts.clock.nowMs() } });
    const { kind, guestName, leaseId } = anomaly;
    this.#parts.log.info({ guest: guestName, leaseId, anomaly: kind }, 'anomaly is over');
  }

  /** The oldest beyond the bound go, over or not. */
  #put(key: string, record: AnomalyRecord): void {
    const writes: LedgerWrite[] = [{ key, value: record }];
    this.#records.set(key, record);
    for (const [oldest, { cause }] of this.#records) {
      if (this.#records.size <= ANOMALIES_MAX) break;
      this.#records.delete(oldest);
      if (this.#lasting.get(cause) === oldest) this.#lasting.delete(cause);
      writes.push({ key: oldest, value: undefined });
    }
    this.#parts.journal.oweBeside(writes);
  }
}

function sampledCause(kind: SampledKind, guest: GuestId, leaseId: string | undefined): string {
  return leaseId === undefined ? `${kind}/${guest}` : `${kind}/${guest}/${leaseId}`;
}
