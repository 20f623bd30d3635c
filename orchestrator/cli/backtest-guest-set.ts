import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Fleet,
  GUEST_RESOURCES,
  type GuestResource,
  guestSeries,
  WARM_UP_BINS,
} from '../../models/backtest/guests/guest-series.ts';
import { gridBySeconds } from '../../models/data/grid.ts';
import { SeriesSet } from '../../models/data/series-set.ts';
import { AllocatorError } from '../core/errors.ts';
import { ShadowError } from '../core/shadow.ts';

/** Every rule of the backtest counts in bins of five minutes. */
const STEP_S = 300;
/** Columns that a resource is the sum of. */
const COLUMNS: Readonly<Record<GuestResource, readonly string[]>> = {
  cpu: ['cpu_mhz'],
  memory: ['mem_kb'],
  disk: ['disk_r_kbs', 'disk_w_kbs'],
  net: ['net_rx_kbs', 'net_tx_kbs'],
};
/** Column of static.csv that has the capacity. */
const CAPACITY: Partial<Record<GuestResource, string>> = { cpu: 'cpu_cap_mhz', memory: 'mem_cap_kb' };

/** A recorded month of guests. */
export interface GuestSet {
  readonly name: string;
  readonly bins: number;
  readonly guests: readonly string[];
  /** The same guests in the same order for every resource. */
  readonly fleets: Readonly<Record<GuestResource, Fleet>>;
}

/**
 * Read a set of guests: dataset.json, series.csv.gz and static.csv. A guest without a capacity is left out.
 * @param wanted only these guests; absent: all
 * @throws {ShadowError} SET_REFUSED
 * @throws {AllocatorError} INVALID_REQUEST when a guest is asked for that the set does not have
 */
export async function readGuestSet(folder: string, wanted?: readonly string[]): Promise<GuestSet> {
  const capacities = readCapacities(join(folder, 'static.csv'));
  const set = await SeriesSet.open(folder);
  try {
    const { name, grid, stepS } = set.facts;
    if (grid === undefined || stepS !== STEP_S)
      throw refused(`${folder}: dataset.json must give start, steps and step_seconds = ${STEP_S}`);
    if (grid.steps <= WARM_UP_BINS)
      throw refused(`${folder} has ${grid.steps} bins; the first ${WARM_UP_BINS} warm up`);
    const columns = GUEST_RESOURCES.flatMap((resource) => COLUMNS[resource]);
    const lacking = columns.filter((column) => !set.metrics.includes(column));
    if (lacking.length > 0) throw refused(`${folder} has no column ${lacking.join(', ')}`);
    const fleets: Record<GuestResource, Fleet[number][]> = { cpu: [], memory: [], disk: [], net: [] };
    const guests: string[] = [];
    const { series } = await set.read(columns);
    for await (const rows of series) {
      const own = capacities.get(rows.series);
      if (own === undefined || (wanted !== undefined && !wanted.includes(rows.series))) continue;
      const { values } = gridBySeconds(rows, STEP_S, grid);
      guests.push(rows.series);
      for (const resource of GUEST_RESOURCES) {
        const parts = COLUMNS[resource].map((column) => values[columns.indexOf(column)] as Float64Array);
        const total = Float64Array.from({ length: grid.steps }, (_, bin) =>
          parts.reduce((sum, part) => sum + (part[bin] as number), 0),
        );
        fleets[resource].push(guestSeries(rows.series, total, own[resource] ?? Number.NaN));
      }
    }
    const unknown = (wanted ?? []).filter((guest) => !guests.includes(guest));
    if (unknown.length > 0)
      throw new AllocatorError('INVALID_REQUEST', `${folder} has no guest ${unknown.join(', ')}`);
    if (guests.length === 0) throw refused(`${folder} has no guest with a capacity in static.csv`);
    return { name, bins: grid.steps, guests, fleets };
  } finally {
    set.close();
  }
}

type Capacities = ReadonlyMap<string, Partial<Record<GuestResource, number>>>;

function readCapacities(path: string): Capacities {
  const capacities = new Map<string, Partial<Record<GuestResource, number>>>();
  try {
    const [head = '', ...lines] = readFileSync(path, 'utf8').trim().split(/\r?\n/);
    const names = head.split(',');
    const places = [['series', 'series'] as const, ...Object.entries(CAPACITY)].map(([key, column]) => {
      const place = names.indexOf(column);
      if (place < 0) throw new Error(`it has no column ${column}`);
      return [key, place] as const;
    });
    for (const line of lines) {
      const cells = line.split(',');
      const [[, series] = ['series', 0], ...resources] = places;
      const own = resources.map(([resource, place]) => [resource, Number(cells[place])] as const);
      if (own.every(([, capacity]) => capacity > 0))
        capacities.set(cells[series] ?? '', Object.fromEntries(own));
    }
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n')[0] : String(error);
    throw refused(`${path} cannot be used: ${reason}`, error);
  }
  return capacities;
}

function refused(message: string, cause?: unknown): ShadowError {
  return new ShadowError('SET_REFUSED', message, { cause });
}
