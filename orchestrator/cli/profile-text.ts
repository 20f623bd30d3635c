import type { ResourceProfile } from '../../proto/gen/foreshade/v1/resources.ts';
import { cores, NONE, size } from './quantities.ts';

/** A profile's fields with their names for people, in the order of every table. */
export const FIELD_TEXT: Readonly<
  Record<string, { readonly label: string; readonly show: (value: number) => string }>
> = {
  cpu_millicores: { label: 'cpu', show: cores },
  memory_bytes: { label: 'memory', show: size },
  disk_read_bytes_per_s: { label: 'disk read', show: (value) => size(value, '/s') },
  disk_write_bytes_per_s: { label: 'disk write', show: (value) => size(value, '/s') },
  net_rx_bytes_per_s: { label: 'net in', show: (value) => size(value, '/s') },
  net_tx_bytes_per_s: { label: 'net out', show: (value) => size(value, '/s') },
  instructions_per_s: { label: 'instructions', show: (value) => `${(value / 1e6).toFixed(0)} M/s` },
};

/** CPU, vCPUs and memory in a few words. */
export function sizesText(profile: ResourceProfile | undefined): string {
  if (!profile) return NONE;
  const vcpus = profile.vcpuCount === undefined ? '' : ` on ${profile.vcpuCount} vCPU`;
  return `${cores(profile.cpuMillicores)}${vcpus}, ${size(profile.memoryBytes)}`;
}
