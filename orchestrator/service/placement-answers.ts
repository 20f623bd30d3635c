import type {
  GuestDemand as WireDemand,
  KnownHost as WireKnownHost,
  PlacementOutlook as WireOutlook,
  RankedHost as WireRankedHost,
  HostReport as WireReport,
  DemandSums as WireSums,
} from '../../proto/gen/foreshade/v1/placement.ts';
import type { HostReport, KnownHost } from '../core/host-report.ts';
import type { DemandSums } from '../core/joint-tail.ts';
import type { GuestDemand, PlacementOutlook, RankedHost } from '../core/rank-hosts.ts';
import { wireProfile } from './answers.ts';
import { WIRE_VERDICT } from './enums.ts';

/** @param nowMs of the clock of the reports, for their age */
export function wireRankedHost(
  { host, verdict, score, reasons, outlook }: RankedHost,
  nowMs: number,
): WireRankedHost {
  return {
    host,
    verdict: WIRE_VERDICT[verdict],
    score,
    reasons: [...reasons],
    outlook: outlook && wireOutlook(outlook, nowMs),
  };
}

function wireOutlook(
  { tail, physical, slack, stranding, complement, tenantSpread, reportedAtMs, placedSince }: PlacementOutlook,
  nowMs: number,
): WireOutlook {
  return {
    tail: wireProfile(tail),
    physical: wireProfile(physical),
    slack,
    stranding,
    complement,
    tenantSpread,
    placedSince,
    reportAgeMs: Math.max(0, Math.round(nowMs - reportedAtMs)),
  };
}

export function wireDemand({ mean, peak, reason, runs, cpuByHour = [] }: GuestDemand): WireDemand {
  return { mean: wireProfile(mean), peak: wireProfile(peak), reason, runs, cpuByHour: [...cpuByHour] };
}

export function wireKnownHost({ report, reportedAtMs, silent }: KnownHost): WireKnownHost {
  return { report: wireReport(report), reportedAtMs: Math.round(reportedAtMs), silent };
}

export function wireReport(report: HostReport): WireReport {
  return {
    host: report.host,
    physical: wireProfile(report.physical),
    capacity: wireProfile(report.capacity),
    committed: wireProfile(report.committed),
    cpu: wireSums(report.demand.cpuMillicores),
    memory: wireSums(report.demand.memoryBytes),
    cpuByHour: [...(report.cpuByHour ?? [])],
    tenantGuests: Object.fromEntries(report.tenantGuests),
    guests: report.guests,
    draining: report.draining,
  };
}

function wireSums({ mean, rise, riseSquares, size, widest }: DemandSums): WireSums {
  return { mean, rise, riseSquares, size, widest };
}
