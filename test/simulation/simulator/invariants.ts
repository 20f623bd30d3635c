import { combine } from '../../../orchestrator/core/entitlement.ts';
import { hasEnded, holdsRoom, type Lease, type LeaseState } from '../../../orchestrator/core/lease.ts';
import type { Actuated } from '../../../orchestrator/core/ports.ts';
import { type Entitlement, MIB } from '../../../orchestrator/core/profile.ts';
import type { Engine } from '../../../orchestrator/engine/engine.ts';
import type { LeaseRecord } from '../../../orchestrator/engine/lease-book.ts';
import type { GuestRecord } from '../../../orchestrator/engine/managed-guest.ts';
import type { EnginePolicy } from '../../../orchestrator/engine/policy.ts';
import type { MemoryLedger } from '../../../orchestrator/ledger/memory-ledger.ts';
import type { Answer, Load } from './load.ts';
import type { HostWrite, SimulatedGuest, SimulatedHost } from './simulated-host.ts';

/** Balloon and quota come this near. */
const NEAR = { cpuMillicores: 1, memoryBytes: 2 * MIB } as const;
const SIZES = ['cpuMillicores', 'memoryBytes'] as const;
const RESOURCE_OF_SIZE = { cpuMillicores: 'cpu', memoryBytes: 'memory' } as const;

/** Everything an invariant may look at. */
export interface Sight {
  readonly engine: Engine;
  readonly ledger: MemoryLedger;
  readonly host: SimulatedHost;
  readonly load: Load;
  readonly policy: EnginePolicy;
  readonly nowMs: number;
  /** Latest the wall clock ever was: what passed then has passed. */
  readonly latestMs: number;
  /** Leases that have not ended, by guest. */
  readonly open: ReadonlyMap<string, readonly Lease[]>;
  /** Guests that nothing disturbs and nobody asks anything of, long enough for them to be where they belong, and due to be looked at. */
  readonly settled: readonly SimulatedGuest[];
  /** Leases that have been on their way for longer than any move takes. */
  readonly hanging: ReadonlySet<string>;
  /** A move of the guest may still be under way. */
  readonly writtenLately: (guest: SimulatedGuest) => boolean;
  /**
   * The host may be promised out: a guest came back that stood still, or entered enforce with leases. It stays so until the
   * promises fit again, and at least until the engine, which may wait for a slow disk, can have heard of it.
   */
  readonly strained: { isSo: boolean; readonly isFresh: boolean };
  /** True when it is time for what costs too much at each tick. */
  readonly isRecountDue: boolean;
  /** Resources of guests that somebody else changed while nothing of ours was under way: theirs since, at the value they gave. */
  readonly foreign: ReadonlyMap<SimulatedGuest, ReadonlyMap<Actuated, number>>;
  /** Somebody else changed the guest at some time, whatever came of it. */
  readonly everForeign: ReadonlySet<SimulatedGuest>;
  /** Guests an operator is moving now: to their baseline, whatever their leases say. */
  readonly operated: ReadonlySet<SimulatedGuest>;
}

/** What is broken, as a sentence; undefined while the invariant holds. */
type Finding = string | undefined;

// --- at each tick ---------------------------------------------------------------------------------------------------

/** Sum of promises, counted by the engine and counted anew from its leases, stays within (total - reserved) x overcommit. */
async function promisesWithinCapacity(sight: Sight): Promise<Finding> {
  // A process that never reached the daemon knows no host yet.
  if (!sight.host.available) return undefined;
  const { committed, capacity } = await sight.engine.status();
  if (sight.strained.isSo) {
    sight.strained.isSo = sight.strained.isFresh || SIZES.some((field) => committed[field] > capacity[field]);
    return undefined;
  }
  const counted = sight.isRecountDue ? promised(sight) : committed;
  for (const field of SIZES) {
    const most = capacity[field] + excess(sight, field);
    if (committed[field] > most + NEAR[field]) return `${committed[field]} ${field} promised of ${most}`;
    if (counted[field] > most + NEAR[field])
      return `${counted[field]} ${field} promised of ${most}, recounted`;
  }
  return undefined;
}

/** Leases a client was told of have not ended but for a reason it knows: it gave them back, or their time passed. */
function noLeaseLost({ engine, load, latestMs }: Sight): Finding {
  for (const [id, asked] of load.alive) {
    const state = stateOf(engine, id);
    if (state !== undefined && !hasEnded(state)) continue;
    load.alive.delete(id);
    const isOver = state !== undefined && latestMs >= asked.toldExpiresAtMs;
    if (!isOver && !asked.isGivenBack)
      return `${id} of ${asked.guest.name} was promised and is ${state ?? 'gone'}`;
    if (state === 'RELEASED' && !asked.isGivenBack)
      return `${id} of ${asked.guest.name} was given back by nobody and is ${state}`;
  }
  return undefined;
}

/** No more leases wait than may. */
function queueBounded({ open, policy }: Sight): Finding {
  let waiting = 0;
  for (const leases of open.values()) for (const { state } of leases) if (state === 'QUEUED') waiting += 1;
  return waiting > policy.queueMax ? `${waiting} leases wait, ${policy.queueMax} may` : undefined;
}

/** One request of a tenant has one lease. */
function oneRequestOneLease({ open }: Sight): Finding {
  const seen = new Map<string, string>();
  for (const leases of open.values()) {
    for (const { id, tenant, requestId } of leases) {
      const other = seen.get(`${tenant}/${requestId}`);
      if (other !== undefined) return `${requestId} of ${tenant} has ${other} and ${id}`;
      seen.set(`${tenant}/${requestId}`, id);
    }
  }
  return undefined;
}

/** A guest left in peace holds its baseline, or its leases' sum moved by recorded adjustments. */
function entitlementsExplained(sight: Sight): Finding {
  for (const guest of sight.settled) {
    const record = guestRecord(sight.ledger, guest);
    if (record?.mode !== 'enforce' || guest.state !== 'running') continue;
    if (record.moving && sight.writtenLately(guest)) continue;
    // Changed by somebody else while a move of ours was under way: whose size it is, nobody can tell.
    if (sight.everForeign.has(guest) && !sight.foreign.has(guest)) continue;
    const held = sight.host.entitlement(guest);
    const expected = explanation(sight, guest, record);
    if (expected === undefined) continue;
    for (const field of SIZES) {
      if (record.relinquished.includes(RESOURCE_OF_SIZE[field])) continue;
      if (Math.abs(held[field] - expected[field]) > NEAR[field])
        return `${guest.name} holds ${held[field]} ${field}, its leases explain ${expected[field]}`;
    }
  }
  return undefined;
}

/** On a guest left in peace no lease is on its way for ever, and none outlives its time to live. */
function nothingHangs({ settled, open, hanging, nowMs, policy }: Sight): Finding {
  for (const guest of settled) {
    for (const { id, state, expiresAtMs } of open.get(guest.id) ?? []) {
      if (hanging.has(id)) return `${id} of ${guest.name} stays ${state}`;
      if (isUnderWay(state)) continue;
      if (nowMs > expiresAtMs + 2 * policy.tickMs)
        return `${id} of ${guest.name} outlived its time, ${state}`;
    }
  }
  return undefined;
}

/** What somebody else changed is recorded as theirs, once it was seen, and stands as they left it. */
function foreignChangesStand({ ledger, host, foreign, settled }: Sight): Finding {
  for (const guest of settled) {
    const theirs = foreign.get(guest);
    if (theirs === undefined) continue;
    const record = guestRecord(ledger, guest);
    if (record === undefined) continue;
    const held = host.entitlement(guest);
    for (const [resource, value] of theirs) {
      if (!record.relinquished.includes(resource))
        return `${resource} of ${guest.name} was changed, and nobody says so`;
      const stands = resource === 'cpu' ? held.cpuMillicores : held.memoryBytes;
      if (stands !== value)
        return `${resource} of ${guest.name} was set to ${value} by somebody else and is ${stands}`;
    }
  }
  return undefined;
}

/** What is taken for somebody else, who waits for it, goes at once. */
const TAKEN = /reclaimed for|brought back to its promise/;

/** A step down takes no more than the policy's share. */
function shrinksBySteps({ open, policy }: Sight): Finding {
  for (const leases of open.values()) {
    for (const { id, adjustments } of leases) {
      const last = adjustments.at(-1);
      if (last === undefined || last.resource === 'instructions' || last.to >= last.from) continue;
      if (TAKEN.test(last.reason)) continue;
      const least = last.from * (1 - policy.adjust[last.resource].shrinkStepFraction);
      if (last.to < Math.floor(least))
        return `${id} went from ${last.from} to ${last.to} ${last.resource} in one step`;
    }
  }
  return undefined;
}

export const AT_EACH_TICK = {
  promisesWithinCapacity,
  noLeaseLost,
  queueBounded,
  oneRequestOneLease,
  entitlementsExplained,
  nothingHangs,
  foreignChangesStand,
  shrinksBySteps,
};

// --- at each write to a guest ---------------------------------------------------------------------------------------

/** Where a guest is sent is durable before it goes. */
function announcedBeforeTouched({ ledger }: Sight, { guest, resource, target }: HostWrite): Finding {
  const record = ledger.durable(`guest/${guest.id}`) as GuestRecord | undefined;
  if (record === undefined) return `${guest.name} is not adopted, durably, and is moved`;
  const field = resource === 'cpu' ? 'cpuMillicores' : 'memoryBytes';
  const isKnown = [record.baseline.entitlement, ...record.known].some((one) => one[field] === target[field]);
  if (isKnown && record.moving) return undefined;
  return `${guest.name} is sent to ${target[field]} ${field}, which a restart would not know of`;
}

/** Only guests in enforce are touched. */
function onlyEnforceTouches({ ledger, operated }: Sight, { guest, resource }: HostWrite): Finding {
  const mode = guestRecord(ledger, guest)?.mode;
  return mode === 'enforce' || operated.has(guest)
    ? undefined
    : `${resource} of ${guest.name} is moved in mode ${mode}`;
}

/** A guest is never sent below its baseline, nor above its ceiling. */
function floorsKept({ ledger, host }: Sight, { guest, resource, target }: HostWrite): Finding {
  const record = guestRecord(ledger, guest);
  if (record === undefined) return undefined;
  const field = resource === 'cpu' ? 'cpuMillicores' : 'memoryBytes';
  const to = target[field] ?? Number.NaN;
  const floor = record.baseline.entitlement[field];
  if (to < floor) return `${guest.name} is sent to ${to} ${field}, below its baseline of ${floor}`;
  const ceiling = Math.max(floor, host.factsOf(guest).ceiling[field]);
  return to <= ceiling
    ? undefined
    : `${guest.name} is sent to ${to} ${field}, above its ceiling of ${ceiling}`;
}

/**
 * A guest is not sent below what its leases in place were promised while their work may still need it. Where that is as good as
 * the baseline, it is put back to the baseline itself.
 */
function promisesKept(sight: Sight, { guest, resource, target }: HostWrite): Finding {
  const record = guestRecord(sight.ledger, guest);
  if (record === undefined || sight.operated.has(guest)) return undefined;
  const needed = sight.engine
    .listLeases({ guest: guest.id, states: ['ACTIVE', 'DEGRADED'] })
    .filter(({ startMs, inPlaceAtMs = sight.nowMs, predicted: { durationS } }) => {
      const beganAtMs = Math.max(startMs, inPlaceAtMs);
      return durationS === undefined || sight.latestMs < beganAtMs + durationS.q95 * 1000;
    })
    .map(({ id }) => leaseRecord(sight.ledger, id)?.admitted)
    .filter((admitted) => admitted !== undefined);
  const field = resource === 'cpu' ? 'cpuMillicores' : 'memoryBytes';
  const least = combine(record.baseline.entitlement, needed, sight.host.factsOf(guest).ceiling)[field];
  const to = target[field] ?? Number.NaN;
  return to >= least - NEAR[field]
    ? undefined
    : `${guest.name} is sent to ${to} ${field}, its leases were promised ${least}`;
}

/** A resource that is somebody else's is not touched. */
function foreignLeftAlone({ ledger }: Sight, { guest, resource }: HostWrite): Finding {
  const isTheirs = guestRecord(ledger, guest)?.relinquished.includes(resource) === true;
  return isTheirs ? `${resource} of ${guest.name} was relinquished and is moved` : undefined;
}

export const AT_EACH_WRITE = {
  announcedBeforeTouched,
  onlyEnforceTouches,
  floorsKept,
  promisesKept,
  foreignLeftAlone,
};

// --- at each answer to a client -------------------------------------------------------------------------------------

/** What a client is told survives a power loss. */
function durableBeforeVisible({ ledger }: Sight, { lease }: Answer): Finding {
  const durable = ledger.durable(`lease/${lease.id}`) as LeaseRecord | undefined;
  if (durable === undefined) return `${lease.id} was acknowledged ${lease.state}, and no disk knows of it`;
  if (hasEnded(lease.state) !== hasEnded(durable.lease.state))
    return `${lease.id} was acknowledged ${lease.state}, and the disk says ${durable.lease.state}`;
  return undefined;
}

/** The same request has the same lease, whenever it is asked. */
function sameRequestSameLease(_: Sight, { asked, lease }: Answer): Finding {
  if (asked.leaseId === undefined || asked.leaseId === lease.id) return undefined;
  return `${lease.requestId} had ${asked.leaseId} and now has ${lease.id}`;
}

/** A lease that a client was told has ended stays so. */
function endedStaysEnded(_: Sight, { asked, lease }: Answer): Finding {
  return asked.isToldEnded && !hasEnded(lease.state)
    ? `${lease.id} had ended and is ${lease.state}`
    : undefined;
}

export const AT_EACH_ANSWER = { durableBeforeVisible, sameRequestSameLease, endedStaysEnded };

// --- once all faults have stopped and all leases were given back ----------------------------------------------------

/** Memory and ledger agree once nothing is owed. */
function ledgerAgrees({ engine, ledger }: Sight): Finding {
  for (const lease of engine.listLeases({})) {
    const durable = leaseRecord(ledger, lease.id)?.lease;
    if (durable?.state !== lease.state)
      return `${lease.id} is ${lease.state}, and ${durable?.state} in the ledger`;
  }
  return undefined;
}

/** The engine's counts of leases are those of its leases. */
async function countsAgree({ engine }: Sight): Promise<Finding> {
  const counts = new Map<LeaseState, number>();
  for (const { state } of engine.listLeases({})) counts.set(state, (counts.get(state) ?? 0) + 1);
  for (const [state, count] of Object.entries((await engine.status()).leases))
    if (count !== (counts.get(state as LeaseState) ?? 0)) return `${count} leases are counted ${state}`;
  return undefined;
}

/** Nothing is left open. */
function nothingLeftOpen({ open }: Sight): Finding {
  for (const leases of open.values())
    for (const { id, state } of leases) return `${id} is ${state} after everything was given back`;
  return undefined;
}

export const AT_THE_END = { ledgerAgrees, countsAgree, nothingLeftOpen };

// --- what they share ------------------------------------------------------------------------------------------------

function stateOf(engine: Engine, id: string): LeaseState | undefined {
  try {
    return engine.getLease(id).state;
  } catch {
    return undefined;
  }
}

/** True while actuators move for the lease. */
export function isUnderWay(state: LeaseState): boolean {
  return state === 'PREPARING' || state === 'RELEASING';
}

function guestRecord(ledger: MemoryLedger, guest: SimulatedGuest): GuestRecord | undefined {
  return ledger.get(`guest/${guest.id}`)?.value as GuestRecord | undefined;
}

function leaseRecord(ledger: MemoryLedger, id: string): LeaseRecord | undefined {
  return ledger.get(`lease/${id}`)?.value as LeaseRecord | undefined;
}

/** What a settled guest should hold; undefined while its leases are under way. */
function explanation(
  { host, open, ledger }: Sight,
  guest: SimulatedGuest,
  record: GuestRecord,
): Entitlement | undefined {
  const { entitlement: baseline } = record.baseline;
  const inForce = (open.get(guest.id) ?? []).filter(
    ({ state }) => state !== 'QUEUED' && state !== 'SCHEDULED',
  );
  if (inForce.length === 0) return baseline;
  if (inForce.some(({ state }) => isUnderWay(state))) return undefined;
  const intended = record.intended ?? baseline;
  // One that a crash cut short is on the guest's record alone.
  if (record.adjusted !== undefined || inForce.some(({ adjustments }) => adjustments.length > 0))
    return intended;
  const admitted = inForce.map(({ id }) => leaseRecord(ledger, id)?.admitted ?? baseline);
  const sum = combine(baseline, admitted, host.factsOf(guest).ceiling);
  // What adjustments of an ended lease had freed may be somebody else's now.
  const isClipped = SIZES.some((field) => intended[field] < sum[field]);
  return isClipped ? intended : sum;
}

/** The least the host has promised, from the ledger alone: guests that were adjusted count with their baseline. */
function promised({ host, ledger, open }: Sight): Record<(typeof SIZES)[number], number> {
  const sum = { cpuMillicores: 0, memoryBytes: 0 };
  for (const guest of host.guests) {
    const record = guestRecord(ledger, guest);
    if (record?.mode !== 'enforce' || guest.state !== 'running') continue;
    const leases = (open.get(guest.id) ?? []).filter(
      ({ state }) => holdsRoom(state) && state !== 'RELEASING',
    );
    const isAdjusted = leases.some(({ adjustments }) => adjustments.length > 0);
    const together = (some: readonly Lease[]): Entitlement => {
      const admitted = some.map(({ id }) => leaseRecord(ledger, id)?.admitted);
      const known = admitted.filter((one) => one !== undefined);
      return combine(record.baseline.entitlement, known, host.factsOf(guest).ceiling);
    };
    const target = together(isAdjusted ? [] : leases);
    const held = host.entitlement(guest);
    // What adjustments of an ended lease had freed may be somebody else's now: once in place, the others hold that much less.
    const sentTo = record.intended ?? record.baseline.entitlement;
    const inPlace = leases.filter(({ state }) => state !== 'SCHEDULED');
    const isArrived = !isAdjusted && inPlace.every(({ state }) => !isUnderWay(state));
    const due = together(inPlace);
    const clipped = (field: (typeof SIZES)[number]): number =>
      isArrived ? Math.max(0, due[field] - sentTo[field]) : 0;
    for (const field of SIZES)
      sum[field] += record.relinquished.includes(RESOURCE_OF_SIZE[field])
        ? held[field]
        : target[field] - clipped(field);
  }
  return sum;
}

/** What guests hold beyond what the host has room for, by somebody else's doing. */
function excess({ host, ledger, everForeign }: Sight, field: (typeof SIZES)[number]): number {
  let sum = 0;
  for (const guest of everForeign) {
    const baseline = guestRecord(ledger, guest)?.baseline.entitlement[field] ?? 0;
    sum += Math.max(0, host.entitlement(guest)[field] - baseline);
  }
  return sum;
}
