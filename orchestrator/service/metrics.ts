import { status } from '@grpc/grpc-js';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { ANOMALY_KINDS } from '../core/anomaly.ts';
import type { AllocationEngine, HostStatus } from '../core/engine.ts';
import { LEASE_STATES } from '../core/lease.ts';
import { MILLICORES_PER_VCPU } from '../core/profile.ts';
import type { ShadowStore } from '../core/shadow.ts';

/** Upper bounds of the call duration's buckets, s: from one event-loop turn to the longest deadline in use. */
const DURATION_BUCKETS_S = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
];

const CODE_NAMES = Object.entries(status)
  .filter((entry): entry is [string, status] => typeof entry[1] === 'number')
  .sort(([, a], [, b]) => a - b)
  .map(([name]) => name);

/** Counts of `ScaleStatus`, which are the label's values. */
const SCALING_OUTCOMES = ['started', 'startsFailed', 'stopped', 'asked', 'declined'] as const;

/** Counts of one method. `start` and `finish` allocate nothing but the histogram's own work. */
export interface MethodMetrics {
  /** `foreshade.v1.AllocationService/Allocate` */
  readonly name: string;
  /** @returns a time to hand to `finish` */
  start(): number;
  finish(startedAt: number, code: status): void;
}

/** Counts of calls, read when scraped. */
export interface RpcMetrics {
  method(name: string): MethodMetrics;
}

/** Everything that /metrics shows. One per service; nothing is registered globally. */
export class Metrics implements RpcMetrics {
  readonly #registry = new Registry();
  readonly #duration: Histogram<'method'>;
  readonly #methods = new Map<string, { started: number; handled: Float64Array }>();
  readonly #engine: AllocationEngine;
  readonly #gauges: HostGauges;

  constructor(engine: AllocationEngine, version: string, shadow: ShadowStore | undefined) {
    this.#engine = engine;
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
    this.#duration = new Histogram({
      name: 'foreshade_rpc_duration_seconds',
      help: 'Time from the arrival of a call to its answer; of a stream, to its end.',
      labelNames: ['method'],
      buckets: DURATION_BUCKETS_S,
      registers,
    });
    this.#registerCounts(registers);
    this.#gauges = new HostGauges(registers);
    if (shadow !== undefined) registerShadow(shadow, registers);
    new Gauge({
      name: 'foreshade_build_info',
      help: 'Always 1; the version is the label.',
      labelNames: ['version'],
      registers,
    }).set({ version }, 1);
  }

  method(name: string): MethodMetrics {
    const counts = { started: 0, handled: new Float64Array(CODE_NAMES.length) };
    this.#methods.set(name, counts);
    const duration = this.#duration.labels(name);
    return {
      name,
      start() {
        counts.started += 1;
        return performance.now();
      },
      finish(startedAt, code) {
        counts.handled[code] = (counts.handled[code] ?? 0) + 1;
        duration.observe((performance.now() - startedAt) / 1000);
      },
    };
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** The page, with the engine's state as of now. */
  async page(): Promise<string> {
    this.#gauges.set(await this.#engine.status().catch(() => undefined));
    return this.#registry.metrics();
  }

  #registerCounts(registers: Registry[]): void {
    const methods = this.#methods;
    new Counter({
      name: 'foreshade_rpc_started_total',
      help: 'Calls that arrived.',
      labelNames: ['method'],
      registers,
      collect() {
        this.reset();
        for (const [method, { started }] of methods) this.inc({ method }, started);
      },
    });
    new Counter({
      name: 'foreshade_rpc_handled_total',
      help: 'Calls that were answered, by gRPC status code.',
      labelNames: ['method', 'code'],
      registers,
      collect() {
        this.reset();
        for (const [method, { handled }] of methods) {
          for (const [code, count] of handled.entries()) {
            if (count > 0) this.inc({ method, code: CODE_NAMES[code] ?? 'UNKNOWN' }, count);
          }
        }
      },
    });
  }
}

/** The engine's state as gauges. Absent, not zero, while the engine cannot tell. */
class HostGauges {
  readonly #gauge: Readonly<Record<string, Gauge>>;
  readonly #leases: Gauge<'state'>;
  readonly #anomalies: Counter<'kind'>;
  readonly #scaling: Counter<'outcome'>;

  constructor(registers: Registry[]) {
    const gauge = (name: string, help: string): Gauge =>
      new Gauge({ name: `foreshade_${name}`, help, registers });
    this.#gauge = {
      hypervisorAvailable: gauge('hypervisor_available', '1 while the hypervisor answers.'),
      draining: gauge('draining', '1 while no new work is taken.'),
      guests: gauge('guests', 'Guests on the host.'),
      adopted: gauge('guests_adopted', 'Guests that Foreshade manages.'),
      hostCpu: gauge('host_cpu_cores', 'CPUs of the host.'),
      hostMemory: gauge('host_memory_bytes', 'Memory of the host.'),
      capacityCpu: gauge(
        'capacity_cpu_cores',
        'CPU that may be promised: (total - reserved) x overcommit ratio.',
      ),
      capacityMemory: gauge('capacity_memory_bytes', 'Memory that may be promised.'),
      committedCpu: gauge('committed_cpu_cores', 'CPU that guests are entitled to.'),
      committedMemory: gauge('committed_memory_bytes', 'Memory that guests are entitled to.'),
    };
    this.#anomalies = new Counter({
      name: 'foreshade_anomalies_total',
      help: 'Anomalies raised, by kind.',
      labelNames: ['kind'],
      registers,
    });
    this.#scaling = new Counter({
      name: 'foreshade_scaling_total',
      help: 'Guests started and stopped for their group, starts that failed, calls for room outside and those declined, by outcome.',
      labelNames: ['outcome'],
      registers,
    });
    this.#leases = new Gauge({
      name: 'foreshade_leases',
      help: 'Leases by state.',
      labelNames: ['state'],
      registers,
    });
  }

  set(host: HostStatus | undefined): void {
    const values = host && {
      hypervisorAvailable: Number(host.hypervisorAvailable),
      draining: Number(host.draining),
      guests: host.guests,
      adopted: host.adopted,
      hostCpu: host.host.cpuMillicores / MILLICORES_PER_VCPU,
      hostMemory: host.host.memoryBytes,
      capacityCpu: host.capacity.cpuMillicores / MILLICORES_PER_VCPU,
      capacityMemory: host.capacity.memoryBytes,
      committedCpu: host.committed.cpuMillicores / MILLICORES_PER_VCPU,
      committedMemory: host.committed.memoryBytes,
    };
    for (const [name, gauge] of Object.entries(this.#gauge)) {
      const value = values?.[name as keyof typeof values];
      if (value === undefined) gauge.remove();
      else gauge.set(value);
    }
    this.#anomalies.reset();
    for (const kind of ANOMALY_KINDS)
      if (host) this.#anomalies.inc({ kind }, host.anomaliesRaised[kind] ?? 0);
    this.#scaling.reset();
    for (const outcome of SCALING_OUTCOMES) if (host) this.#scaling.inc({ outcome }, host.scale[outcome]);
    for (const state of LEASE_STATES) {
      if (host) this.#leases.set({ state }, host.leases[state] ?? 0);
      else this.#leases.remove({ state });
    }
  }
}

/** How the writing of the record goes. */
function registerShadow(shadow: ShadowStore, registers: Registry[]): void {
  const counter = (name: string, help: string, read: () => number): void => {
    new Counter({
      name: `foreshade_shadow_${name}_total`,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  };
  counter('rows_accepted', 'Rows taken to be written.', () => shadow.status.accepted);
  counter('rows_written', 'Rows that would survive a power loss.', () => shadow.status.acknowledged);
  counter('rows_dropped', 'Rows dropped because the queue was full.', () => shadow.status.dropped);
  const gauge = (name: string, help: string, read: () => number): void => {
    new Gauge({
      name: `foreshade_shadow_${name}`,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  };
  gauge('queue_bytes', 'Memory of rows that wait for the disk.', () => shadow.status.queuedBytes);
  gauge('stalled', '1 while the disk takes nothing.', () => Number(shadow.status.state === 'stalled'));
}
