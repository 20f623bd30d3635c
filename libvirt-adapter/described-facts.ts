import type { GuestCapabilities, GuestFacts, GuestState } from '../orchestrator/core/guest.ts';
import { MILLICORES_PER_VCPU } from '../orchestrator/core/profile.ts';
import type { DomainDescription } from './domain-xml.ts';
import { commonDiskLimits, commonNetLimits, quotaMillicores } from './limits.ts';

/** A guest as its XML alone has it: what it uses and what is in it may differ once it runs. */
export function describedFacts(
  domain: DomainDescription,
  state: GuestState,
  capabilities: GuestCapabilities,
): GuestFacts {
  const { vcpusPlugged, vcpusMax } = domain;
  const quota = quotaMillicores(domain.cpuTune, vcpusPlugged);
  return {
    id: domain.uuid,
    name: domain.name,
    state,
    entitlement: {
      cpuMillicores: quota ?? vcpusPlugged * MILLICORES_PER_VCPU,
      vcpuCount: vcpusPlugged,
      memoryBytes: domain.currentMemoryKib * 1024,
      ...commonDiskLimits(domain).limits,
      ...commonNetLimits(domain).limits,
    },
    ceiling: {
      cpuMillicores: vcpusMax * MILLICORES_PER_VCPU,
      vcpuCount: vcpusMax,
      memoryBytes: domain.memoryKib * 1024,
    },
    capabilities,
    vcpusPlugged,
    cpuLimited: quota !== undefined,
  };
}
