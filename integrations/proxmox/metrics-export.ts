import { fieldsOf, listOf, numberIn, textIn } from './answers.ts';
import type { ProxmoxApi } from './api.ts';
import { ProxmoxError } from './errors.ts';
import { millicores, type ReadingTime } from './readings.ts';
import type { GuestReading } from './sample-track.ts';

const EXPORT_CALL = '/cluster/metrics/export';
const GUEST_ID = /^qemu\/(\d{3,9})$/;
/** pvestatd makes a new generation of metrics this often. */
export const EXPORT_PERIOD_MS = 10_000;
/** How far back a first question reaches: two generations, so that there is something to compare. */
const FIRST_REACH_S = 25;
/** Moments of one start, told by two whole numbers of seconds, are no further apart. */
const SAME_START_S = 3;
/** Points of one guest that one answer may bring: what pvestatd keeps. */
const POINTS_MAX = 181;

/** One generation of a guest's metrics, by Proxmox VE's names. */
type Point = Map<string, number>;

/**
 * Metrics of all guests of a node in one call, as its statistics daemon collected them: every generation once, also those
 * between two questions.
 */
export class MetricsExport {
  readonly #api: ProxmoxApi;
  readonly #node: string;
  /** The newest generation that was read, seconds since epoch. */
  #untilS: number | undefined;
  /** When each guest was started, as first told of its run, seconds since epoch. */
  readonly #startsS = new Map<number, number>();

  constructor(api: ProxmoxApi, node: string) {
    this.#api = api;
    this.#node = node;
  }

  /**
   * Readings that came since the last question, by VMID, oldest first.
   * @throws {ProxmoxError}
   */
  async newReadings(now: ReadingTime): Promise<Map<number, GuestReading[]>> {
    const since = this.#untilS ?? Math.floor(now.wallMs / 1000) - FIRST_REACH_S;
    const answer = await this.#api.get(EXPORT_CALL, {
      history: true,
      'start-time': since,
      'node-list': this.#node,
    });
    const points = listOf(fieldsOf(answer, EXPORT_CALL).data, EXPORT_CALL);
    const guests = new Map<number, Map<number, Point>>();
    for (const point of points) {
      const vmid = Number(GUEST_ID.exec(textIn(point, 'id') ?? '')?.[1] ?? Number.NaN);
      const atS = numberIn(point, 'timestamp');
      const metric = textIn(point, 'metric');
      const value = numberIn(point, 'value');
      if (Number.isNaN(vmid) || atS === undefined || metric === undefined || value === undefined) continue;
      if (atS <= since) continue;
      const generations = guests.get(vmid) ?? new Map<number, Point>();
      guests.set(vmid, generations);
      generations.set(atS, (generations.get(atS) ?? new Map()).set(metric, value));
      this.#untilS = Math.max(this.#untilS ?? 0, atS);
    }
    // A generation has every guest that is there.
    if (guests.size > 0)
      for (const vmid of this.#startsS.keys()) if (!guests.has(vmid)) this.#startsS.delete(vmid);
    return new Map(
      [...guests].map(([vmid, generations]) => [
        vmid,
        readingsOf(generations, now, (startedAtS) => this.#runOf(vmid, startedAtS)),
      ]),
    );
  }

  #runOf(vmid: number, startedAtS: number): string {
    const known = this.#startsS.get(vmid);
    const isSame = known !== undefined && Math.abs(startedAtS - known) <= SAME_START_S;
    if (!isSame) this.#startsS.set(vmid, startedAtS);
    return `since ${isSame ? known : startedAtS}`;
  }
}

/** Whether the export cannot be had at all: no privilege on the whole cluster, or a version without it. */
export function isNotOffered(cause: unknown): boolean {
  return (
    cause instanceof ProxmoxError && cause.phase === 'answered' && [400, 403, 404, 501].includes(cause.status)
  );
}

function readingsOf(
  generations: ReadonlyMap<number, Point>,
  now: ReadingTime,
  runOf: (startedAtS: number) => string,
): GuestReading[] {
  return [...generations]
    .sort(([a], [b]) => a - b)
    .slice(-POINTS_MAX)
    .flatMap(([atS, point]) => {
      const uptimeS = point.get('uptime') ?? 0;
      if (uptimeS === 0) return []; // off
      const usedBytes = point.get('mem_used');
      const wallMs = atS * 1000;
      return {
        wallMs,
        // The node's own time is all there is: as far before now as it was by the wall clock.
        monotonicMs: now.monotonicMs - (now.wallMs - wallMs),
        nominalMs: EXPORT_PERIOD_MS,
        run: runOf(atS - uptimeS),
        isPaused: false,
        cpuMillicores: millicores(point.get('cpu_current'), point.get('cpu_max')),
        counters: countersOf(point),
        ...(usedBytes !== undefined && { usedBytes }),
      };
    });
}

function countersOf(point: Point): Record<string, number> {
  const names = { diskRead: 'disk_read', diskWrite: 'disk_write', netRx: 'net_in', netTx: 'net_out' };
  return Object.fromEntries(
    Object.entries(names).flatMap(([name, metric]) => {
      const value = point.get(metric);
      return value === undefined ? [] : [[name, value]];
    }),
  );
}
