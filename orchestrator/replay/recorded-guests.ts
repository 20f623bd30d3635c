import { AllocatorError } from '../core/errors.ts';
import type { GuestCapabilities, GuestFacts, HostFacts } from '../core/guest.ts';
import type { Hypervisor } from '../core/ports.ts';
import { type Entitlement, MIB, MILLICORES_PER_VCPU, vcpusFor } from '../core/profile.ts';
import type { Stretch, SurveyedGuest } from './stretch.ts';

/** A size that was not recorded is so much above the largest usage: at less, usage would look cut off by it. */
const SIZE_OVER_USAGE = 1.25;
/** The shadow does not keep how far a guest could grow: taken as so many times its size. */
const CEILING_OVER_SIZE = 2;

const CAPABILITIES: GuestCapabilities = {
  cpuQuota: true,
  vcpuPlug: true,
  vcpuUnplug: true,
  agent: false,
  balloon: true,
  virtioMem: false,
  diskLimits: true,
  netLimits: true,
};

/** The guests of a stretch, as they were recorded: they run, nothing about them changes, and nothing can be changed. */
export class RecordedHypervisor implements Hypervisor {
  readonly available = true;
  readonly #host: HostFacts;
  readonly #facts: ReadonlyMap<string, GuestFacts>;

  constructor({ host, guests }: Stretch) {
    const facts = guests.map(factsOf);
    this.#facts = new Map(facts.map((one) => [one.id, one]));
    this.#host = {
      name: host,
      cpuMillicores: facts.reduce((sum, { ceiling }) => sum + ceiling.cpuMillicores, 0),
      memoryBytes: facts.reduce((sum, { ceiling }) => sum + ceiling.memoryBytes, 0),
    };
  }

  onAvailability(): () => void {
    return () => {};
  }

  onGuestEvent(): () => void {
    return () => {};
  }

  async host(): Promise<HostFacts> {
    return this.#host;
  }

  async guests(): Promise<GuestFacts[]> {
    return [...this.#facts.values()];
  }

  async inspect(guest: string): Promise<GuestFacts> {
    return this.factsOf(guest);
  }

  start(guest: string): Promise<void> {
    return refused(guest);
  }

  shutDown(guest: string): Promise<void> {
    return refused(guest);
  }

  /** @throws {AllocatorError} GUEST_NOT_FOUND */
  factsOf(guest: string): GuestFacts {
    const facts = this.#facts.get(guest);
    if (facts !== undefined) return facts;
    throw new AllocatorError('GUEST_NOT_FOUND', `No guest of the stretch is ${guest}`, { guest });
  }
}

async function refused(guest: string): Promise<never> {
  throw new AllocatorError('NOT_SUPPORTED', 'What is replayed can be neither started nor stopped', { guest });
}

/**
 * A guest as far as the shadow knows it: it holds the least it was ever granted, or, where that was not recorded, its
 * largest usage and some, in whole vCPUs and MiB.
 */
function factsOf({ id, used, granted, grantedMost }: SurveyedGuest): GuestFacts {
  const { cpuMillicores: grantedCpu, memoryBytes: grantedMemory, vcpuCount, ...rates } = granted;
  const cpuMillicores = grantedCpu ?? wholeAbove(used.cpuMillicores, MILLICORES_PER_VCPU);
  const entitlement: Entitlement = {
    ...rates,
    cpuMillicores,
    vcpuCount: vcpuCount ?? vcpusFor(cpuMillicores),
    memoryBytes: grantedMemory ?? wholeAbove(used.memoryBytes, MIB),
  };
  const most = (field: 'cpuMillicores' | 'memoryBytes'): number =>
    CEILING_OVER_SIZE * Math.max(entitlement[field], grantedMost[field] ?? 0);
  const ceiling: Entitlement = {
    cpuMillicores: most('cpuMillicores'),
    vcpuCount: Math.max(vcpusFor(most('cpuMillicores')), entitlement.vcpuCount),
    memoryBytes: most('memoryBytes'),
  };
  return {
    id,
    name: id,
    state: 'running',
    entitlement,
    ceiling,
    capabilities: CAPABILITIES,
    vcpusPlugged: entitlement.vcpuCount,
    cpuLimited: granted.cpuMillicores !== undefined,
  };
}

/** Whole units that hold a usage and some; one where none was read. */
function wholeAbove(usage: number | undefined, unit: number): number {
  return Math.max(1, Math.ceil(((usage ?? 0) * SIZE_OVER_USAGE) / unit)) * unit;
}
