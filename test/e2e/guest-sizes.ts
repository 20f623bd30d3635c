import { balloonActualKib, virsh } from '../../libvirt-adapter/lab/virsh.ts';
import type { Lease } from '../../proto/gen/foreshade/v1/allocation.ts';
import { LeaseState } from '../../proto/gen/foreshade/v1/allocation.ts';
import type { ResourceProfile } from '../../proto/gen/foreshade/v1/resources.ts';

/** What a guest is entitled to, as libvirt tells it: asked of libvirt directly, never of the service. */
export interface Sizes {
  readonly cpuMillicores: number;
  readonly memoryBytes: number;
}

export type SizeField = keyof Sizes;

/** Actuators' own coarseness: the balloon moves by pages and stops within a MiB, the quota is in microseconds. */
const TOLERANCE: Sizes = { cpuMillicores: 1, memoryBytes: 2 * 1024 * 1024 };

/** @returns the domain's quota, or its plugged vCPUs where it has none; and what the balloon leaves it */
export async function readSizes(uri: string, guest: string): Promise<Sizes> {
  const [tuning, plugged, balloonKib] = await Promise.all([
    virsh(uri, ['schedinfo', guest, '--live']),
    virsh(uri, ['vcpucount', guest, '--current', '--live']),
    balloonActualKib(uri, guest),
  ]);
  const value = (name: string): number =>
    Number(new RegExp(`^${name}\\s*: (-?\\d+)$`, 'm').exec(tuning)?.[1]);
  const byVcpus = Number(plugged) * 1000;
  // libvirt shows "no quota" as the largest unsigned number, or as a negative one.
  const quota = value('global_quota') / value('global_period');
  const byQuota = quota > 0 ? quota * 1000 : Number.POSITIVE_INFINITY;
  return { cpuMillicores: Math.min(byQuota, byVcpus), memoryBytes: balloonKib * 1024 };
}

export function sameSize(field: SizeField, a: number, b: number): boolean {
  return Math.abs(a - b) <= TOLERANCE[field];
}

/** Why a guest's size is not what its leases, or without any its baseline, account for; undefined when it is. */
export function unexplained(
  field: SizeField,
  held: number,
  guest: { readonly baseline: ResourceProfile; readonly ceiling: ResourceProfile },
  leases: readonly Lease[],
): string | undefined {
  const baseline = guest.baseline[field] ?? Number.NaN;
  const inForce = leases.filter(
    ({ state }) => state === LeaseState.LEASE_STATE_ACTIVE || state === LeaseState.LEASE_STATE_DEGRADED,
  );
  const above = inForce.map(({ requested }) => Math.max(0, (requested?.[field] ?? Number.NaN) - baseline));
  const sum = baseline + above.reduce((total, more) => total + more, 0);
  const whole = Math.min(sum, Math.max(guest.ceiling[field] ?? Number.NaN, baseline));
  if (sameSize(field, held, whole)) return undefined;
  const resource = field === 'cpuMillicores' ? 'cpu' : 'memory';
  const moved = inForce
    .flatMap(({ adjustments }) => adjustments.filter((adjustment) => adjustment.resource === resource))
    .some(({ to = Number.NaN }) => sameSize(field, held, to));
  if (moved) return undefined;
  const isShort = inForce.some(({ state }) => state === LeaseState.LEASE_STATE_DEGRADED);
  if (isShort && held >= baseline && held <= whole) return undefined;
  return `${field} is ${held}: the baseline is ${baseline} and ${inForce.length} leases in force make it ${whole}`;
}
