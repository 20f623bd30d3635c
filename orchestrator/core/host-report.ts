import type { DemandSums } from './joint-tail.ts';
import type { Room, RoomField } from './room.ts';

/** What an agent knows of its host: a claim, and as old as it is. */
export interface HostReport {
  /** The host's name as its scheduler has it. */
  readonly host: string;
  /** Total - reserved. */
  readonly physical: Room;
  /** Physical x overcommit ratio. */
  readonly capacity: Room;
  /** What guests were promised. */
  readonly committed: Room;
  /** What the tail of all guests' demand rests on; millicores and bytes. */
  readonly demand: Readonly<Record<RoomField, DemandSums>>;
  /** Mean CPU of all guests by hour of the UTC day, millicores: f64[24]. Absent: not known. */
  readonly cpuByHour?: readonly number[];
  /** Guests by tenant; who has none is not in it. */
  readonly tenantGuests: ReadonlyMap<string, number>;
  readonly guests: number;
  /** Takes no new guests. */
  readonly draining: boolean;
}

/** A host that has reported of late. */
export interface KnownHost {
  readonly report: HostReport;
  /** ms since epoch, by the directory's clock. */
  readonly reportedAtMs: number;
  /** Its report has expired: what it says is no longer true of it. */
  readonly silent: boolean;
}

/** How often an agent reports. */
export const REPORT_EVERY_MS = 5_000;
/** A report is believed for so long: two may be lost, and a host that is gone is not ranked for longer. */
export const REPORT_LIFE_MS = 3 * REPORT_EVERY_MS;
/** Hosts of one directory: beyond any known cell of a cloud, at 2 KiB each without tenants. */
export const HOSTS_MAX = 10_000;
/** Tenants that one report counts: beyond any number of guests on one host. */
export const REPORT_TENANTS_MAX = 1_000;
