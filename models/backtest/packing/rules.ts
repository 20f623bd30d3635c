import { DemandHistory } from '../../../orchestrator/core/demand-history.ts';
import { type DemandProfile, JointTail } from '../../../orchestrator/core/joint-tail.ts';
import { DAY_BINS } from '../guests/guest-series.ts';
import { type FleetGuest, type HostSize, PACKED_RESOURCES, type PackedResource } from './fleet.ts';

/** One host as a rule fills it. */
export interface HostPlan<Item> {
  /** How full it is: shares of CPU and memory, added. */
  readonly fullness: number;
  fits(item: Item): boolean;
  add(item: Item): void;
}

/** Decides which guests share a host. */
export interface PackingRule {
  readonly rule: string;
  readonly setting: string;
  /** It plans on the half that is judged. */
  readonly isClairvoyant?: boolean;
  /** What a guest comes to, by its past. @param from bin of the month at which the past begins */
  weigh(past: FleetGuest, from: number): unknown;
  open(host: HostSize): HostPlan<unknown>;
}

const BIN_MS = 300_000;
/** Margins over what was seen: 0 to 200 %. */
const MARGINS = [0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2] as const;
const CPU_OVERCOMMIT = 4;
const P99 = 0.99;
/** Source: Azure Coach (ASPLOS 2025), as recalled in the field's comparisons: p95 of windows of four hours. */
const COACH = { level: 0.95, windows: 6 } as const;
/** Share of its steps in which a host may be overloaded. */
export const OVERLOAD_MAX = 0.001;

/** By resource: what a guest takes in each of some windows. */
type Windows = Readonly<Record<PackedResource, readonly number[]>>;

/** A host on which the sizes of each window add up. */
class AddedSizes implements HostPlan<Windows> {
  readonly #host: HostSize;
  readonly #sums: Record<PackedResource, number[]> = { cpu: [], memory: [] };

  constructor(host: HostSize) {
    this.#host = host;
  }

  get fullness(): number {
    return PACKED_RESOURCES.reduce(
      (sum, resource) => sum + Math.max(0, ...this.#sums[resource]) / this.#host[resource],
      0,
    );
  }

  fits(item: Windows): boolean {
    return PACKED_RESOURCES.every((resource) =>
      item[resource].every((size, w) => (this.#sums[resource][w] ?? 0) + size <= this.#host[resource]),
    );
  }

  add(item: Windows): void {
    for (const resource of PACKED_RESOURCES)
      this.#sums[resource] = item[resource].map((size, w) => (this.#sums[resource][w] ?? 0) + size);
  }
}

/** A host on which demand adds up bin by bin. */
class AlignedSum implements HostPlan<FleetGuest> {
  readonly #host: HostSize;
  #sums: Record<PackedResource, Float64Array> | undefined;
  fullness = 0;

  constructor(host: HostSize) {
    this.#host = host;
  }

  fits(item: FleetGuest): boolean {
    const { cpu, memory } = this.#with(item);
    const most = OVERLOAD_MAX * cpu.length;
    let overloaded = 0;
    for (let bin = 0; bin < cpu.length; bin += 1) {
      if ((cpu[bin] as number) <= this.#host.cpu && (memory[bin] as number) <= this.#host.memory) continue;
      overloaded += 1;
      if (overloaded > most) return false;
    }
    return true;
  }

  add(item: FleetGuest): void {
    const sums = this.#with(item);
    this.#sums = sums;
    this.fullness = PACKED_RESOURCES.reduce(
      (sum, resource) => sum + quantile(sums[resource], P99) / this.#host[resource],
      0,
    );
  }

  #with(item: FleetGuest): Record<PackedResource, Float64Array> {
    const of = (resource: PackedResource): Float64Array => {
      const before = this.#sums?.[resource];
      return item[resource].seen.map((value, bin) => value + (before?.[bin] ?? 0));
    };
    return { cpu: of('cpu'), memory: of('memory') };
  }
}

type Profiles = Readonly<Record<PackedResource, DemandProfile>>;

/** A host whose joint tail is kept. */
class TailedHost implements HostPlan<Profiles> {
  readonly #host: HostSize;
  readonly #tails: Record<PackedResource, JointTail> = { cpu: new JointTail(), memory: new JointTail() };
  #guests = 0;
  fullness = 0;

  constructor(host: HostSize) {
    this.#host = host;
  }

  fits(item: Profiles): boolean {
    return PACKED_RESOURCES.every(
      (resource) =>
        this.#tails[resource].levelWith(String(this.#guests), item[resource]) <= this.#host[resource],
    );
  }

  add(item: Profiles): void {
    for (const resource of PACKED_RESOURCES) this.#tails[resource].put(String(this.#guests), item[resource]);
    this.#guests += 1;
    this.fullness = PACKED_RESOURCES.reduce(
      (sum, resource) => sum + this.#tails[resource].levelWith() / this.#host[resource],
      0,
    );
  }
}

function addedRule(
  rule: string,
  setting: string,
  weigh: (past: Float64Array, ceiling: number, from: number, resource: PackedResource) => readonly number[],
): PackingRule {
  return {
    rule,
    setting,
    weigh: (past, from): Windows => ({
      cpu: weigh(past.cpu.seen, past.cpu.ceiling, from, 'cpu'),
      memory: weigh(past.memory.seen, past.memory.ceiling, from, 'memory'),
    }),
    open: (host) => new AddedSizes(host),
  };
}

function percent(margin: number): string {
  return `+${Math.round(margin * 100)} %`;
}

/** Values of each window of the day. */
function byWindow(past: Float64Array, from: number, windows: number): Float64Array[] {
  const parts = Array.from({ length: windows }, (): number[] => []);
  for (const [bin, value] of past.entries())
    parts[Math.floor((((from + bin) % DAY_BINS) * windows) / DAY_BINS)]?.push(value);
  return parts.map((values) => Float64Array.from(values));
}

/** @returns zero for no values */
function quantile(values: Float64Array, level: number): number {
  const sorted = values.slice().sort();
  return sorted[Math.max(0, Math.ceil(level * sorted.length) - 1)] ?? 0;
}

function profileOf({ seen, ceiling }: FleetGuest[PackedResource], from: number): DemandProfile {
  const history = new DemandHistory();
  for (const [bin, demand] of seen.entries()) history.add((from + bin) * BIN_MS, BIN_MS, demand);
  return history.profile(ceiling);
}

/** Ours, with what the engine of the service admits by. */
const JOINT_TAIL: PackingRule = {
  rule: 'joint-tail',
  setting: 'as shipped',
  weigh: (past, from): Profiles => ({
    cpu: profileOf(past.cpu, from),
    memory: profileOf(past.memory, from),
  }),
  open: (host) => new TailedHost(host),
};

/** All that are compared; a rule with margins has a setting each. */
export const PACKING_RULES: readonly PackingRule[] = [
  JOINT_TAIL,
  addedRule('static', 'capacity', (_, ceiling) => [ceiling]),
  ...MARGINS.map((margin) =>
    addedRule('sum-of-p99', percent(margin), (past) => [quantile(past, P99) * (1 + margin)]),
  ),
  ...MARGINS.map((margin) =>
    addedRule('coach', percent(margin), (past, _, from) =>
      byWindow(past, from, COACH.windows).map((part) => quantile(part, COACH.level) * (1 + margin)),
    ),
  ),
  addedRule('cpu-overcommit', `${CPU_OVERCOMMIT}:1`, (_, ceiling, __, resource) => [
    resource === 'cpu' ? ceiling / CPU_OVERCOMMIT : ceiling,
  ]),
  {
    rule: 'clairvoyant',
    setting: `${OVERLOAD_MAX * 100} % of the steps`,
    isClairvoyant: true,
    weigh: (future): FleetGuest => future,
    open: (host) => new AlignedSum(host),
  },
];
