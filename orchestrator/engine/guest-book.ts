import { AllocatorError } from '../core/errors.ts';
import type { GuestFacts, GuestId } from '../core/guest.ts';
import type { Hypervisor, LeaseLedger } from '../core/ports.ts';
import { beyond, NO_ROOM, type Room } from '../core/room.ts';
import { type GuestRecord, ManagedGuest } from './managed-guest.ts';

/** Guests taken in before others get their turn: under a millisecond of work. */
const NOTED_AT_ONCE = 500;

/** All guests of the host: those we manage, and what the others may use. */
export class GuestBook {
  readonly managed = new Map<GuestId, ManagedGuest>();
  readonly #hypervisor: Hypervisor;
  readonly #facts = new Map<GuestId, GuestFacts>();
  readonly #idsByName = new Map<string, GuestId>();
  #unmanaged: Room | undefined;
  #isLoaded = false;

  constructor(hypervisor: Hypervisor) {
    this.#hypervisor = hypervisor;
  }

  /** True once the guests the ledger knows were taken up. */
  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  get known(): number {
    return this.#facts.size;
  }

  find(id: GuestId): ManagedGuest | undefined {
    return this.managed.get(id);
  }

  /** A managed guest by UUID or name. */
  managedAs(name: string): ManagedGuest | undefined {
    const id = this.#resolve(name);
    return id === undefined ? undefined : this.managed.get(id);
  }

  /** A managed guest by UUID or name. @throws {AllocatorError} GUEST_NOT_FOUND, GUEST_NOT_ADOPTED, GUEST_BUSY */
  adopted(name: string): ManagedGuest {
    const id = this.#resolve(name);
    const guest = id === undefined ? undefined : this.managed.get(id);
    if (guest?.leaving) {
      throw new AllocatorError('GUEST_BUSY', `Guest ${guest.record.name} is being disowned`, {
        guest: guest.record.name,
      });
    }
    if (guest !== undefined) return guest;
    if (id === undefined) throw notFound(name);
    throw new AllocatorError('GUEST_NOT_ADOPTED', `Guest ${name} is not managed: adopt it first`, {
      guest: name,
    });
  }

  /** As `adopted`, and running. @throws {AllocatorError} also GUEST_NOT_RUNNING, HYPERVISOR_UNAVAILABLE */
  running(name: string): ManagedGuest {
    if (!this.#hypervisor.available || !this.#isLoaded) {
      throw new AllocatorError(
        'HYPERVISOR_UNAVAILABLE',
        'The hypervisor does not answer; guests keep what they have',
      );
    }
    const guest = this.adopted(name);
    if (guest.facts.state !== 'running') {
      throw new AllocatorError('GUEST_NOT_RUNNING', `Guest ${guest.record.name} is ${guest.facts.state}`, {
        guest: guest.record.name,
      });
    }
    return guest;
  }

  manage(record: GuestRecord, facts: GuestFacts): ManagedGuest {
    const guest = new ManagedGuest(record, facts);
    this.managed.set(record.id, guest);
    this.#note(facts);
    this.#unmanaged = undefined;
    return guest;
  }

  drop(id: GuestId): void {
    this.managed.delete(id);
    this.#unmanaged = undefined;
  }

  /**
   * Read every guest anew, giving others their turn in between.
   * @param onChanged told of each managed guest that is not as it was
   */
  async census(onChanged: (guest: ManagedGuest) => void = () => {}): Promise<GuestFacts[]> {
    const all = await this.#hypervisor.guests();
    let noted = 0;
    for (const facts of all) {
      if (all.length > NOTED_AT_ONCE && noted % NOTED_AT_ONCE === 0)
        await new Promise((resolve) => setImmediate(resolve));
      noted += 1;
      const guest = this.managed.get(facts.id);
      const before = guest?.facts;
      this.#note(facts);
      if (guest !== undefined && before !== undefined && !isSameSize(before, facts)) onChanged(guest);
    }
    if (this.#facts.size > all.length) this.#forgetAllBut(new Set(all.map(({ id }) => id)));
    return all;
  }

  /** One guest by UUID or name, read now. @throws {AllocatorError} GUEST_NOT_FOUND, HYPERVISOR_UNAVAILABLE */
  async lookUp(name: string): Promise<GuestFacts> {
    if (this.#resolve(name) === undefined) await this.census();
    const id = this.#resolve(name);
    if (id === undefined) throw notFound(name);
    const facts = await this.#hypervisor.inspect(id);
    this.#note(facts);
    return facts;
  }

  /** Take up the guests the ledger knows, unless they are managed already. */
  async load(ledger: LeaseLedger, all: readonly GuestFacts[]): Promise<void> {
    for (const { value } of ledger.range(ManagedGuest.prefix)) {
      const record = value as GuestRecord;
      if (this.managed.has(record.id)) continue;
      this.manage(record, all.find(({ id }) => id === record.id) ?? absent(record));
    }
    this.#isLoaded = true;
  }

  /** What of an entitlement lies above its guest's baseline; all of it for a guest that is not managed. */
  aboveBaseline(guest: GuestId, entitlement: Room): Room {
    return beyond(entitlement, this.find(guest)?.record.baseline.entitlement ?? NO_ROOM);
  }

  /** What the guests we do not manage may use. */
  unmanagedCommitted(): Room {
    this.#unmanaged ??= this.#sumUnmanaged();
    return this.#unmanaged;
  }

  #forgetAllBut(listed: ReadonlySet<GuestId>): void {
    for (const [id, { name }] of this.#facts) {
      if (listed.has(id)) continue;
      this.#facts.delete(id);
      if (this.#idsByName.get(name) === id) this.#idsByName.delete(name);
    }
    this.#unmanaged = undefined;
  }

  #sumUnmanaged(): Room {
    let cpuMillicores = 0;
    let memoryBytes = 0;
    for (const { id, state, entitlement } of this.#facts.values()) {
      if (state !== 'running' || this.managed.has(id)) continue;
      cpuMillicores += entitlement.cpuMillicores;
      memoryBytes += entitlement.memoryBytes;
    }
    return { cpuMillicores, memoryBytes };
  }

  #note(facts: GuestFacts): void {
    const before = this.#facts.get(facts.id);
    this.#facts.set(facts.id, facts);
    if (!this.managed.has(facts.id) && !isSameUse(before, facts)) this.#unmanaged = undefined;
    if (before?.name !== facts.name) {
      if (before !== undefined && this.#idsByName.get(before.name) === facts.id)
        this.#idsByName.delete(before.name);
      this.#idsByName.set(facts.name, facts.id);
    }
    const guest = this.managed.get(facts.id);
    if (guest !== undefined) guest.facts = facts;
  }

  #resolve(name: string): GuestId | undefined {
    const id = name.toLowerCase();
    if (this.#facts.has(id) || this.managed.has(id)) return id;
    const byName = this.#idsByName.get(name);
    if (byName !== undefined) return byName;
    for (const guest of this.managed.values()) if (guest.record.name === name) return guest.record.id;
    return undefined;
  }
}

/** True when nothing differs on which the host's sums or a guest's cadence rest. */
function isSameSize(a: GuestFacts, b: GuestFacts): boolean {
  return (
    a.state === b.state &&
    a.ceiling.cpuMillicores === b.ceiling.cpuMillicores &&
    a.ceiling.memoryBytes === b.ceiling.memoryBytes &&
    a.ceiling.vcpuCount === b.ceiling.vcpuCount
  );
}

function notFound(name: string): AllocatorError {
  return new AllocatorError('GUEST_NOT_FOUND', `No guest on this host has the name or UUID ${name}`, {
    guest: name,
  });
}

/** True when a guest that is not managed takes no other room than before. */
function isSameUse(before: GuestFacts | undefined, { state, entitlement }: GuestFacts): boolean {
  return (
    before?.state === state &&
    before.entitlement.cpuMillicores === entitlement.cpuMillicores &&
    before.entitlement.memoryBytes === entitlement.memoryBytes
  );
}

/** A guest the ledger knows and the hypervisor does not: nothing can be moved on it. */
function absent(record: GuestRecord): GuestFacts {
  const { entitlement, cpuLimited } = record.baseline;
  return {
    id: record.id,
    name: record.name,
    state: 'shut-off',
    entitlement,
    ceiling: entitlement,
    vcpusPlugged: entitlement.vcpuCount,
    cpuLimited,
    capabilities: {
      cpuQuota: false,
      vcpuPlug: false,
      vcpuUnplug: false,
      agent: false,
      balloon: false,
      virtioMem: false,
      diskLimits: false,
      netLimits: false,
    },
  };
}
