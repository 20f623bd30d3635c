import { type DomainRef, type DomainStats, STATS_TYPE } from './libvirt.ts';

/** One domain's statistics by libvirt's keys. Valid only inside the callback of `eachDomain`. */
export interface DomainStatValues {
  /** The value as float64, exact to 2^53; undefined when it was not reported or is a string. */
  number(key: string): number | undefined;
  text(key: string): string | undefined;
}

/** Visit each domain of a packed answer. */
export function eachDomain(
  stats: DomainStats,
  visit: (domain: DomainRef, values: DomainStatValues) => void,
): void {
  const keyIdOf = keyIds(stats.keys);
  /** Where each key's record lies, + 1, for the domain at hand; a value of an earlier domain lies before `from`. */
  const places = new Uint32Array(stats.keys.length);
  let from = 0;
  const placeOf = (key: string): number => {
    const id = keyIdOf.get(key);
    const place = id === undefined ? 0 : (places[id] ?? 0);
    return place > from ? place - 1 : -1;
  };
  const values: DomainStatValues = {
    number(key) {
      const i = placeOf(key);
      return i < 0 ? undefined : numberAt(stats, i);
    },
    text(key) {
      const i = placeOf(key);
      if (i < 0 || stats.types[i] !== STATS_TYPE.string) return undefined;
      return stats.strings[Number(stats.values[i])];
    },
  };
  for (const [d, domain] of stats.domains.entries()) {
    from = stats.offsets[d] ?? 0;
    const to = stats.offsets[d + 1] ?? from;
    for (let i = from; i < to; i += 1) places[stats.keyIds[i] ?? 0] = i + 1;
    visit(domain, values);
  }
}

/** Numbers of keys already seen, one table per connection's key list, which only grows. */
const tables = new WeakMap<readonly string[], Map<string, number>>();

function keyIds(keys: readonly string[]): ReadonlyMap<string, number> {
  let table = tables.get(keys);
  if (table === undefined) {
    table = new Map();
    tables.set(keys, table);
  }
  for (let id = table.size; id < keys.length; id += 1) table.set(keys[id] ?? '', id);
  return table;
}

const scratch = new DataView(new ArrayBuffer(8));

function numberAt(stats: DomainStats, index: number): number | undefined {
  const value = stats.values[index] ?? 0n;
  switch (stats.types[index]) {
    case STATS_TYPE.string:
      return undefined;
    case STATS_TYPE.ullong:
      return Number(BigInt.asUintN(64, value));
    case STATS_TYPE.double:
      scratch.setBigInt64(0, value);
      return scratch.getFloat64(0);
    default:
      return Number(value);
  }
}
