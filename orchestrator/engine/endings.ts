import type { CallContext, WorkReport } from '../core/engine.ts';
import type { Outcome } from '../core/forecast.ts';
import { hasEnded, type Lease } from '../core/lease.ts';
import type { Clock, Forecaster, Telemetry } from '../core/ports.ts';
import type { ResourceProfile } from '../core/profile.ts';
import type { Room } from '../core/room.ts';
import { executedBetween } from '../core/sample.ts';
import type { Anomalies } from './anomalies.ts';
import type { Background } from './background.ts';
import type { GuestBook } from './guest-book.ts';
import type { GuestMoves } from './guest-moves.ts';
import type { HostRoom } from './host-room.ts';
import { decided, decisionOf, type LeaseBook, type LeaseRecord } from './lease-book.ts';
import type { LeaseJournal } from './lease-journal.ts';
import type { Log } from './log.ts';
import type { ManagedGuest } from './managed-guest.ts';
import type { MoveResult } from './mover.ts';
import type { OutcomeJournal } from './outcomes.ts';
import type { Settling } from './settling.ts';
import { unlessAborted } from './unless-aborted.ts';
import type { WorkloadPasts } from './workload-pasts.ts';

/** How a lease may end once it was granted. */
export type EndState = 'RELEASED' | 'EXPIRED';

/** How an end under way is to be recorded. */
interface Beginning {
  readonly state: EndState;
  readonly reason: string;
}

export interface EndingsParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly forecaster: Forecaster;
  readonly telemetry: Telemetry;
  readonly outcomes: OutcomeJournal;
  readonly pasts: WorkloadPasts;
  readonly anomalies: Anomalies;
  readonly guests: GuestBook;
  readonly leases: LeaseBook;
  readonly journal: LeaseJournal;
  readonly moves: GuestMoves;
  readonly room: HostRoom;
  readonly settling: Settling;
  readonly background: Background;
  /** A lease has ended: there may be room for those that wait. */
  readonly onEnded: () => void;
}

/** Takes leases back: learns from their work, returns the guest to what its other leases explain, and records the end. */
export class Endings {
  readonly #parts: EndingsParts;
  readonly #begun = new Map<string, Beginning>();
  readonly #expiring = new Set<string>();

  constructor(parts: EndingsParts) {
    this.#parts = parts;
  }

  /** End a lease for its client; resolves early, with the lease as it then stands, when the client gives up. */
  async release(leaseId: string, report: WorkReport, { signal }: CallContext): Promise<Lease> {
    const { leases, settling, journal } = this.#parts;
    const { lease } = leases.get(leaseId);
    if (hasEnded(lease.state)) {
      await settling.of(leaseId);
      await journal.commit();
      return lease;
    }
    const underWay = lease.state === 'RELEASING' ? settling.of(leaseId) : undefined;
    const ended = underWay ?? this.end(leaseId, 'RELEASED', 'released by the client', report);
    await unlessAborted(ended, signal);
    return leases.get(leaseId).lease;
  }

  /** Resolves when the end is durable and the guest is where its other leases put it, as far as it could be moved. */
  end(id: string, state: EndState, reason: string, report?: WorkReport): Promise<void> {
    const { guests, leases } = this.#parts;
    const { lease } = leases.get(id);
    const guest = guests.find(lease.guest);
    if (lease.state === 'QUEUED' || lease.state === 'SCHEDULED' || guest === undefined) {
      return this.#under(id, this.close(id, state, reason));
    }
    return this.#under(
      id,
      guest.serialize(() => this.#giveBack(guest, id, state, reason, report)),
    );
  }

  /** End a lease whose time has passed, unless it is renewed before its guest's queue comes to it. */
  expire(id: string, reason: string): void {
    if (this.#expiring.has(id)) return;
    this.#expiring.add(id);
    const done = () => this.#expiring.delete(id);
    this.end(id, 'EXPIRED', reason).then(done, done);
  }

  /** Take up an ending that was cut short. */
  finish(id: string): void {
    const { lease, ending = 'RELEASED' } = this.#parts.leases.get(id);
    this.end(id, ending, lease.reason).catch(() => {});
  }

  /** Let others wait for an ending; its failure is told to who asked for it. */
  #under(id: string, ending: Promise<void>): Promise<void> {
    this.#parts.settling.hold(
      id,
      ending.catch(() => {}),
    );
    this.#parts.background.keep(ending);
    return ending;
  }

  async endAll(guest: ManagedGuest, reason: string): Promise<void> {
    const open = this.#parts.leases.ofGuest(guest.record.id);
    await Promise.all(open.map(({ lease }) => this.end(lease.id, 'RELEASED', reason)));
  }

  /** End a lease that still waits and cannot be served any more. */
  reject(id: string, reason: string): void {
    this.#under(id, this.close(id, 'REJECTED', reason)).catch(() => {});
  }

  /**
   * Record the end of a lease; nothing is moved.
   * @param moved the guest as it was read back after what was moved for the end
   */
  async close(
    id: string,
    state: EndState | 'REJECTED',
    reason: string,
    moved?: { readonly guest: ManagedGuest; readonly result: MoveResult },
  ): Promise<void> {
    const { leases, journal, settling, clock, log, onEnded } = this.#parts;
    const record = leases.get(id);
    if (hasEnded(record.lease.state)) return;
    const { queue: _, ...rest } = record.lease;
    const atMs = clock.nowMs();
    const lease: Lease = { ...rest, state, reason, releasedAtMs: atMs };
    const decision = decisionOf(lease, {
      atMs,
      action: 'release',
      rule: state,
      inputs: moved === undefined ? {} : heldInputs(moved.guest),
      outcome: [reason, ...(moved === undefined ? [] : leftBy(moved.result))].join('; '),
    });
    journal.owe(decided({ ...record, lease }, decision), leases.prune());
    const entering = journal.commit(moved === undefined ? [] : [moved.guest.write()]);
    settling.hold(
      id,
      entering.catch(() => {}),
    );
    await entering;
    log.info({ guest: lease.guestName, leaseId: id, decision: 'release', reason }, 'lease ended');
    onEnded();
  }

  /** End a lease whose guest is gone. Nothing is moved; where the run was its work, what the run used is learned. */
  async endGone(id: string, reason: string): Promise<void> {
    const { lease, start, ending } = this.#parts.leases.get(id);
    if (lease.state === 'RELEASING' && ending !== undefined) return this.close(id, ending, lease.reason);
    const hasRun = start?.lastsAsRun === true && (lease.state === 'ACTIVE' || lease.state === 'DEGRADED');
    // Why a guest stopped is not known, so its run's length teaches nothing.
    if (hasRun) this.#begin(id, 'RELEASED', reason, { succeeded: false });
    await this.close(id, 'RELEASED', reason);
  }

  async #giveBack(
    guest: ManagedGuest,
    id: string,
    state: EndState,
    reason: string,
    report: WorkReport | undefined,
  ): Promise<void> {
    const { leases, moves, clock, room } = this.#parts;
    const { lease } = leases.get(id);
    if (hasEnded(lease.state)) {
      this.#begun.delete(id);
      return;
    }
    // What has begun to end does, also when the clock has gone back since.
    const isRenewed = lease.state !== 'RELEASING' && clock.nowMs() < lease.expiresAtMs;
    if (state === 'EXPIRED' && isRenewed) return;
    // Asked while the lease still counts: adjustments are over the sum of all.
    const most = guest.adjusted.size > 0 ? room.roomFor(guest) : undefined;
    const begun = this.#begun.get(id) ?? this.#begin(id, state, reason, report);
    this.#begun.set(id, begun);
    this.#readjust(guest, most);
    const result = await moves.reach(guest);
    this.#begun.delete(id);
    guest.quietSinceMs = clock.nowMs();
    await this.close(id, begun.state, begun.reason, { guest, result });
  }

  /**
   * With a lease its adjustments end, and the others are back at what they were admitted, as far as the host has not
   * promised to somebody else what the adjustments had freed.
   * @param most how far it may grow; absent: it was not adjusted
   */
  #readjust(guest: ManagedGuest, most: Room | undefined): void {
    const { leases, room } = this.#parts;
    const admitted = leases.admitted(guest.record.id);
    guest.adjusted.clear();
    if (most !== undefined && admitted.length > 0) {
      for (const field of ['cpuMillicores', 'memoryBytes'] as const)
        if (guest.target(admitted)[field] > most[field]) guest.adjust(field, most[field], admitted);
    }
    room.touch(guest.record.id);
  }

  /** The lease is RELEASING from now on: others may be promised its room. */
  #begin(id: string, state: EndState, reason: string, report: WorkReport | undefined): Beginning {
    const { leases, journal, clock, forecaster, outcomes, pasts, anomalies, telemetry } = this.#parts;
    const record = leases.get(id);
    const nowMs = clock.nowMs();
    const executedTo = telemetry.instructions(record.lease.guest);
    const executed = record.executedFrom && executedTo && executedBetween(record.executedFrom, executedTo);
    const next: LeaseRecord = {
      ...record,
      ending: state,
      lease: {
        ...record.lease,
        state: 'RELEASING',
        reason: state === 'EXPIRED' ? 'its time to live has passed' : reason,
        ...(executed === undefined ? {} : { executed }),
        ...(report === undefined ? {} : workTimes(record.lease, report, nowMs)),
      },
    };
    if (report === undefined || record.lease.inPlaceAtMs === undefined) journal.owe(next);
    else {
      const outcome = outcomeOf(next, report);
      forecaster.learn(outcome);
      pasts.note(outcome);
      anomalies.noteOutcome(next.lease, outcome);
      journal.owe(next, outcomes.record(outcome, nowMs));
    }
    return { state, reason };
  }
}

/** What a move to less did not do. */
function leftBy({ reached, shortfalls }: MoveResult): readonly string[] {
  return reached || shortfalls.length > 0 ? shortfalls : ['the guest keeps more than it should: tried again'];
}

function heldInputs({ held }: ManagedGuest): Record<string, number> {
  return { heldMillicores: held.cpuMillicores, heldMemoryBytes: held.memoryBytes };
}

function workTimes(
  lease: Lease,
  report: WorkReport,
  nowMs: number,
): Pick<Lease, 'workStartedAtMs' | 'workFinishedAtMs'> {
  return {
    workStartedAtMs: report.startedAtMs ?? lease.inPlaceAtMs ?? lease.requestedAtMs,
    workFinishedAtMs: report.finishedAtMs ?? nowMs,
  };
}

function outcomeOf({ lease, censored }: LeaseRecord, report: WorkReport): Outcome {
  const startedAtMs = lease.workStartedAtMs ?? lease.requestedAtMs;
  return {
    leaseId: lease.id,
    guest: lease.guest,
    tenant: lease.tenant,
    workload: lease.workload,
    params: lease.params,
    startedAtMs,
    finishedAtMs: Math.max(lease.workFinishedAtMs ?? startedAtMs, startedAtMs),
    before: lease.before as ResourceProfile,
    peak: lease.used,
    censored,
    completed: report.succeeded,
  };
}
