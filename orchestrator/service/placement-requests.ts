import type {
  RankHostsRequest,
  HostReport as WireReport,
  DemandSums as WireSums,
} from '../../proto/gen/foreshade/v1/placement.ts';
import type { ResourceProfile as WireProfile } from '../../proto/gen/foreshade/v1/resources.ts';
import { HOURS } from '../core/day-profile.ts';
import { type HostReport, REPORT_TENANTS_MAX } from '../core/host-report.ts';
import type { DemandSums } from '../core/joint-tail.ts';
import { CANDIDATES_MAX, type Newcomer, type PlacementGoal } from '../core/rank-hosts.ts';
import type { Room } from '../core/room.ts';
import { snakeCase } from '../core/shadow.ts';
import { GOAL_OF } from './enums.ts';
import {
  checkDuration,
  checkStart,
  count,
  optionalName,
  paramsOf,
  priorityOf,
  requiredName,
} from './requests.ts';
import { quoted, Violations } from './validation.ts';

/** Sums that come from elsewhere were added up in another order: they may differ from what they must be by so much of it. */
const ROUNDING = 1e-6;
/** Largest amount of anything: what an int64 of the contract holds exactly, in bytes or in millicores. */
const AMOUNT_MAX = Number.MAX_SAFE_INTEGER;
/** Most guests that one host has; a larger count is a fault of who counts. */
const GUESTS_MAX = 100_000;

/** What RankHosts is asked. */
export interface Ranking {
  readonly newcomer: Newcomer;
  /** Empty: every host that reports. */
  readonly hosts: readonly string[];
  /** Guests of the tenant by candidate, where the caller said so. */
  readonly tenantGuests: ReadonlyMap<string, number>;
  /** All guests by candidate, where the caller said so. */
  readonly guests: ReadonlyMap<string, number>;
  readonly goal: PlacementGoal;
}

/** @throws {ValidationError} with every broken rule @param nowMs host's wall clock */
export function rankingOf(wire: RankHostsRequest, nowMs: number): Ranking {
  const violations = Violations.ofMessage();
  const { startMs, durationMs } = wire;
  if (startMs !== undefined) checkStart(startMs, nowMs, violations);
  if (durationMs !== undefined) checkDuration(durationMs, violations);
  const newcomer: Newcomer = {
    tenant: optionalName(wire.tenant, 'tenant', violations),
    workload: optionalName(wire.workload, 'workload', violations),
    params: paramsOf(wire.params, violations),
    priority: priorityOf(wire.priority, violations),
    ceiling: roomIn(wire.ceiling, 'ceiling', 'above 0', violations),
    ...(startMs === undefined ? undefined : { startMs }),
    ...(durationMs === undefined ? undefined : { durationMs }),
  };
  const hosts = hostsOf(wire.hosts, violations);
  const tenantGuests = countsOf(wire.tenantGuests, 'tenant_guests', CANDIDATES_MAX, violations);
  const guests = countsOf(wire.guests, 'guests', CANDIDATES_MAX, violations);
  const goal = wire.goal ? GOAL_OF.get(wire.goal) : 'spread';
  if (goal === undefined)
    violations.add('goal', `must be PLACEMENT_GOAL_SPREAD or PLACEMENT_GOAL_PACK; got ${wire.goal}`);
  violations.settle();
  return { newcomer, hosts, tenantGuests, guests, goal: goal ?? 'spread' };
}

/** @throws {ValidationError} with every broken rule */
export function hostReportOf(wire: WireReport | undefined): HostReport {
  const message = Violations.ofMessage();
  if (wire === undefined) message.add('report', 'must be there');
  message.settle();
  const violations = message.within('report');
  const report = wire as WireReport;
  const cpuByHour = hoursOf(report.cpuByHour, violations);
  const core: HostReport = {
    host: requiredName(report.host, 'host', violations),
    physical: roomIn(report.physical, 'physical', '0 or more', violations),
    capacity: roomIn(report.capacity, 'capacity', '0 or more', violations),
    committed: roomIn(report.committed, 'committed', '0 or more', violations),
    demand: {
      cpuMillicores: sumsOf(report.cpu, 'cpu', violations),
      memoryBytes: sumsOf(report.memory, 'memory', violations),
    },
    ...(cpuByHour === undefined ? {} : { cpuByHour }),
    tenantGuests: countsOf(report.tenantGuests, 'tenant_guests', REPORT_TENANTS_MAX, violations),
    guests: countOf(report.guests, 'guests', violations),
    draining: report.draining ?? false,
  };
  violations.settle();
  return core;
}

/** CPU and memory, and nothing else. */
function roomIn(
  wire: WireProfile | undefined,
  field: string,
  bound: 'above 0' | '0 or more',
  violations: Violations,
): Room {
  const { cpuMillicores, memoryBytes, ...others } = wire ?? {};
  for (const [name, value] of Object.entries(others))
    if (value !== undefined) violations.add(`${field}.${snakeCase(name)}`, 'does not belong here');
  const read = (name: string, value: number | undefined): number => {
    const isSound =
      value !== undefined && value <= AMOUNT_MAX && (bound === 'above 0' ? value > 0 : value >= 0);
    if (!isSound)
      violations.add(
        `${field}.${name}`,
        `must be a number, ${bound} and at most 2^53; got ${value ?? 'nothing'}`,
      );
    return value ?? 0;
  };
  return {
    cpuMillicores: read('cpu_millicores', cpuMillicores),
    memoryBytes: read('memory_bytes', memoryBytes),
  };
}

function hostsOf(names: readonly string[], violations: Violations): readonly string[] {
  if (names.length > CANDIDATES_MAX) {
    violations.add('hosts', `must have at most ${count(CANDIDATES_MAX)} names; got ${count(names.length)}`);
    return [];
  }
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name)) violations.add('hosts', `must name each host once; ${quoted(name)} comes twice`);
    seen.add(requiredName(name, 'hosts', violations));
  }
  return names;
}

/** Counts by name. A name that JavaScript keeps for itself is a name like any other. */
function countsOf(
  wire: Readonly<Record<string, number>>,
  field: string,
  namesMax: number,
  violations: Violations,
): Map<string, number> {
  const entries = Object.entries(wire);
  if (entries.length > namesMax) {
    violations.add(field, `must have at most ${count(namesMax)} entries; got ${count(entries.length)}`);
    return new Map();
  }
  return new Map(
    entries.map(([name, value]) => [
      optionalName(name, field, violations),
      countOf(value, `${field}[${quoted(name)}]`, violations),
    ]),
  );
}

function countOf(value: number | undefined, field: string, violations: Violations): number {
  const number = value ?? 0;
  if (number > GUESTS_MAX)
    violations.add(field, `must be at most ${count(GUESTS_MAX)}; got ${count(number)}`);
  return number;
}

function hoursOf(values: readonly number[], violations: Violations): readonly number[] | undefined {
  if (values.length === 0) return undefined;
  if (values.length !== HOURS)
    violations.add('cpu_by_hour', `must have ${HOURS} values or none; got ${values.length}`);
  if (!values.every((value) => value >= 0 && value <= AMOUNT_MAX))
    violations.add('cpu_by_hour', 'must be numbers, 0 or more and at most 2^53');
  return values;
}

/** Sums that some set of guests has. */
function sumsOf(wire: WireSums | undefined, field: string, violations: Violations): DemandSums {
  const { mean = 0, rise = 0, riseSquares = 0, size = 0, widest = 0 } = wire ?? {};
  const sums = { mean, rise, riseSquares, size, widest };
  if (wire === undefined) violations.add(field, 'must be there');
  let isSound = true;
  for (const [name, value] of Object.entries(sums)) {
    if (value >= 0 && value <= (name === 'riseSquares' ? AMOUNT_MAX ** 2 : AMOUNT_MAX)) continue;
    violations.add(
      `${field}.${snakeCase(name)}`,
      `must be a number, 0 or more, that sums of guests may reach; got ${value}`,
    );
    isSound = false;
  }
  if (!isSound) return sums;
  const most = size * (1 + ROUNDING);
  if (mean + rise > most) violations.add(field, 'must have mean + rise of at most size');
  if (mean > most || widest > most) violations.add(field, 'must have a widest of at most size');
  if (riseSquares > rise ** 2 * (1 + ROUNDING))
    violations.add(field, 'must have rise_squares of at most the square of rise');
  return sums;
}
