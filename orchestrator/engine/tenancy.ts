import { capacityOf } from '../core/admit.ts';
import type { TenantStatus } from '../core/engine.ts';
import { AllocatorError } from '../core/errors.ts';
import { dominantShare } from '../core/fair-share.ts';
import { beyond, fitsIn, NO_ROOM, plus, type Room, roomText } from '../core/room.ts';
import { policyOf, type TenantPolicy } from '../core/tenant.ts';
import type { HostRoom } from './host-room.ts';
import type { LeaseBook } from './lease-book.ts';
import type { EnginePolicy } from './policy.ts';

/** What each tenant holds of the host, may still be given, and is kept for it. Changes nothing. */
export class Tenancy {
  readonly #room: HostRoom;
  readonly #policy: Pick<EnginePolicy, 'tenants' | 'capacity'>;

  constructor(room: HostRoom, policy: Pick<EnginePolicy, 'tenants' | 'capacity'>) {
    this.#room = room;
    this.#policy = policy;
  }

  policy(tenant: string): TenantPolicy {
    return policyOf(this.#policy.tenants, tenant);
  }

  /** Its dominant share over its weight: who has the least is next. */
  share(tenant: string): number {
    return dominantShare(this.#room.heldBy(tenant), this.#room.capacity(), this.policy(tenant).weight);
  }

  /** What its quota leaves to it. */
  quotaLeft(tenant: string): Room {
    return beyond(this.policy(tenant).quota, this.#room.heldBy(tenant));
  }

  /** What of its guaranteed part it does not hold. */
  guaranteeLeft(tenant: string): Room {
    return beyond(this.policy(tenant).guaranteed, this.#room.heldBy(tenant));
  }

  /** What is kept free of these tenants' leases for the guaranteed parts of the others. */
  keptFrom(tenants: ReadonlySet<string>): Room {
    let kept = NO_ROOM;
    for (const name of this.#policy.tenants.named.keys())
      if (!tenants.has(name)) kept = plus(kept, this.guaranteeLeft(name));
    return kept;
  }

  /** What is guaranteed to all but this one. */
  guaranteedToOthers(tenant: string): Room {
    const others = [...this.#policy.tenants.named].filter(([name]) => name !== tenant);
    return others.reduce((all, [, { guaranteed }]) => plus(all, guaranteed), NO_ROOM);
  }

  /** What it holds above its guaranteed part. */
  spareOf(tenant: string): Room {
    return beyond(this.#room.heldBy(tenant), this.policy(tenant).guaranteed);
  }

  /**
   * Guaranteed parts are promises: together they must fit what the host may promise, once it has been read.
   * @throws {AllocatorError} CAPACITY_EXHAUSTED
   */
  assertKeepable({ tenants, capacity: bounds } = this.#policy): void {
    const { host } = this.#room;
    if (host === undefined) return;
    const sum = [...tenants.named.values()].reduce((all, one) => plus(all, one.guaranteed), NO_ROOM);
    const capacity = capacityOf(host, bounds);
    if (fitsIn(sum, capacity)) return;
    throw new AllocatorError(
      'CAPACITY_EXHAUSTED',
      `The guaranteed parts of all tenants must fit the host's capacity: ${roomText(sum)} are guaranteed, ${roomText(capacity)} may be promised`,
      {
        guaranteedMillicores: sum.cpuMillicores,
        guaranteedMemoryBytes: sum.memoryBytes,
        capacityMillicores: capacity.cpuMillicores,
        capacityMemoryBytes: capacity.memoryBytes,
      },
    );
  }

  /** Tenants of the configuration, and whoever else has open leases, by name. */
  statuses(leases: LeaseBook): TenantStatus[] {
    const open = leases.open();
    const names = new Set([...this.#policy.tenants.named.keys(), ...open.map(({ lease }) => lease.tenant)]);
    return [...names].sort().map((name) => {
      const own = open.filter(({ lease }) => lease.tenant === name);
      const queued = own.filter(({ lease }) => lease.state === 'QUEUED').length;
      const { weight, quota, guaranteed, shadow } = this.policy(name);
      return {
        name,
        listed: this.#policy.tenants.named.has(name),
        weight,
        shadow,
        quota,
        guaranteed,
        held: this.#room.heldBy(name),
        share: this.share(name),
        leases: own.length - queued,
        queued,
      };
    });
  }
}
