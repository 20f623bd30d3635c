import type { HypervisorPorts } from '../orchestrator/core/ports.ts';
import type { TimerClock } from '../orchestrator/core/timer-clock.ts';
import { systemClock } from './clock.ts';
import { CpuActuator } from './cpu-actuator.ts';
import { createDiskActuator } from './disk-actuator.ts';
import { DomainCatalog } from './domain-catalog.ts';
import { GuestAgent } from './guest-agent.ts';
import { GuestChanges } from './guest-changes.ts';
import { AgentWindow } from './guest-window.ts';
import type { HostReadings, OpenInstructionCounter } from './host-readings.ts';
import { LibvirtHypervisor } from './hypervisor.ts';
import type { Libvirt } from './libvirt.ts';
import { MEMORY_EVENTS, MemoryActuator } from './memory-actuator.ts';
import { createNetActuator } from './net-actuator.ts';
import { PerfEvents } from './perf-events.ts';
import type { SamplingPolicy } from './sampling-plan.ts';
import type { TapShaper } from './tap-shaper.ts';
import { LibvirtTelemetry } from './telemetry.ts';

/** What the adapter is made with, beside libvirt and the host's readings. */
export interface AdapterOptions {
  readonly clock?: TimerClock;
  readonly sampling?: SamplingPolicy;
  readonly openCounter?: OpenInstructionCounter;
  /** Switch perf events of watched guests on; absent or false: only those are read that are on already. */
  readonly switchPerfEvents?: boolean;
  /** Told once why the host does not count some perf events. */
  readonly onPerfUnsupported?: (reason: string) => void;
  /** The operator's word that KVM guests here survive a vCPU unplug. */
  readonly kvmUnplugIsSafe?: boolean;
  /** Whether the kernel can shape taps (canShapeTaps). */
  readonly tapShaping?: boolean;
  /** Limits taps in libvirt's place. */
  readonly tapShaper?: TapShaper;
  /** CPU shares of a guest that nobody gave any, by the host's cgroup hierarchy (CPU_SHARES_DEFAULT). */
  readonly sharesDefault?: number;
  /** Told of what failed without a caller to tell: a sampling call, a guest that cannot be read. */
  readonly onFailure?: (cause: unknown) => void;
}

/** Build the core's ports over `libvirt`, which may be the fake one; its connection stays with its owner. */
export function createLibvirtAdapter(
  libvirt: Libvirt,
  readings: HostReadings,
  options: AdapterOptions = {},
): HypervisorPorts {
  const clock = options.clock ?? systemClock;
  const onFailure = options.onFailure ?? (() => {});
  const { kvmUnplugIsSafe = false, tapShaping = false, tapShaper, sharesDefault } = options;
  const cpu = { kvmUnplugIsSafe, ...(sharesDefault !== undefined && { sharesDefault }) };
  const catalog = new DomainCatalog(libvirt);
  const agent = new GuestAgent(libvirt, clock);
  const memoryChanges = new GuestChanges(libvirt, MEMORY_EVENTS, clock);
  const perfEvents = new PerfEvents(libvirt, {
    switchesOn: options.switchPerfEvents ?? false,
    ...(options.onPerfUnsupported && { onUnsupported: options.onPerfUnsupported }),
  });
  const telemetry = new LibvirtTelemetry(libvirt, catalog, readings, {
    clock,
    perfEvents,
    onFailure,
    ...(options.sampling && { sampling: options.sampling }),
    ...(options.openCounter && { openCounter: options.openCounter }),
  });
  return {
    hypervisor: new LibvirtHypervisor(libvirt, catalog, agent, {
      ...cpu,
      tapShaping,
      ...(tapShaper && { tapShaper }),
      onUnreadable: (_guest, cause) => onFailure(cause),
    }),
    actuators: {
      cpu: new CpuActuator(libvirt, catalog, agent, clock, cpu),
      memory: new MemoryActuator(libvirt, catalog, memoryChanges, clock),
      disk: createDiskActuator(libvirt, catalog),
      net: createNetActuator(libvirt, catalog, tapShaper),
    },
    window: new AgentWindow(catalog, agent),
    telemetry,
    async close() {
      await telemetry.close();
      await perfEvents.close();
      memoryChanges.close();
      agent.close();
      catalog.close();
    },
  };
}
