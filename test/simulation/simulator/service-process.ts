import type { GuestId } from '../../../orchestrator/core/guest.ts';
import type {
  Actuated,
  Actuator,
  GuestWindow,
  Hypervisor,
  LeaseLedger,
  LedgerWrite,
  Telemetry,
} from '../../../orchestrator/core/ports.ts';
import type { GuestSample } from '../../../orchestrator/core/sample.ts';
import { Engine, type EngineParts } from '../../../orchestrator/engine/engine.ts';
import type { Log } from '../../../orchestrator/engine/log.ts';
import type { EnginePolicy } from '../../../orchestrator/engine/policy.ts';
import type { MemoryLedger } from '../../../orchestrator/ledger/memory-ledger.ts';
import { LiteralForecaster } from '../world.ts';
import type { SimulatedHost, SimulatedTime } from './simulated-host.ts';

/** Where in a commit the process is cut. */
export type Cut = 'before' | 'visible' | 'durable';

export interface ProcessParts {
  readonly host: SimulatedHost;
  readonly time: SimulatedTime;
  readonly ledger: MemoryLedger;
  readonly log: Log;
  readonly newId: () => string;
  readonly onCommit: (writes: readonly LedgerWrite[]) => void;
}

/** A bug to plant: what lies between the engine and its world. */
export type Wrap = (parts: EngineParts) => EngineParts;

/** One life of the service: the production engine, tied to its host and its ledger until it is cut off. */
export class ServiceProcess {
  readonly engine: Engine;
  readonly #parts: ProcessParts;
  readonly #samples = new Set<(sample: GuestSample) => void>();
  readonly #unsubscribe: (() => void)[] = [];
  #isAlive = true;
  #cut: { readonly how: Cut; commits: number } | undefined;

  constructor(parts: ProcessParts, policy: EnginePolicy, wrap: Wrap = (same) => same) {
    this.#parts = parts;
    const { time, log, newId } = parts;
    this.engine = new Engine(
      wrap({
        clock: time,
        forecaster: new LiteralForecaster(),
        ledger: this.#ledger(),
        hypervisor: this.#hypervisor(),
        actuators: {
          cpu: this.#actuator('cpu'),
          memory: this.#actuator('memory'),
          disk: this.#actuator('disk'),
          net: this.#actuator('net'),
        },
        window: this.#window(),
        telemetry: this.#telemetry(),
        log,
        newId,
        pause: (ms) => this.#tied(new Promise((resolve) => time.after(ms, resolve))),
      }),
      policy,
    );
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  /** As kill -9: no call returns any more, no event comes. */
  kill(): void {
    this.#isAlive = false;
    for (const unsubscribe of this.#unsubscribe.splice(0)) unsubscribe();
    this.#samples.clear();
  }

  /** Die at the so-manieth commit from now. */
  killAt(commits: number, how: Cut): void {
    this.#cut = { how, commits };
  }

  emit(sample: GuestSample): void {
    for (const listener of this.#samples) listener(sample);
  }

  /** What a dead process waits for never comes. */
  #tied<T>(work: Promise<T>): Promise<T> {
    return work.then(
      (value) => (this.#isAlive ? value : never()),
      (cause) => (this.#isAlive ? Promise.reject(cause) : never()),
    );
  }

  #call<T>(work: () => T | Promise<T>): Promise<T> {
    return this.#isAlive ? this.#tied(new Promise((resolve) => resolve(work()))) : never();
  }

  #ledger(): LeaseLedger {
    const { ledger } = this.#parts;
    return {
      get: (key) => ledger.get(key),
      range: (prefix) => ledger.range(prefix),
      commit: (writes) => this.#call(() => this.#commit(ledger, writes)),
      close: () => ledger.close(),
    };
  }

  async #commit(ledger: MemoryLedger, writes: readonly LedgerWrite[]): Promise<void> {
    if (this.#cut !== undefined) this.#cut.commits -= 1;
    const how = this.#cut !== undefined && this.#cut.commits <= 0 ? this.#cut.how : undefined;
    if (how === 'before') this.kill();
    if (!this.#isAlive) return never();
    const durable = ledger.commit(writes);
    this.#parts.onCommit(writes);
    if (how === 'visible') this.kill();
    await durable;
    if (how === 'durable') this.kill();
  }

  #hypervisor(): Hypervisor {
    const { host } = this.#parts;
    return {
      get available() {
        return host.available;
      },
      onAvailability: (listener) => this.#listen(host.availabilityListeners, listener),
      onGuestEvent: (listener) => this.#listen(host.eventListeners, listener),
      host: () =>
        this.#call(() => {
          host.assertAvailable();
          return host.facts;
        }),
      guests: () =>
        this.#call(() => {
          host.assertAvailable();
          return host.guests.map((guest) => host.factsOf(guest));
        }),
      inspect: (id) =>
        this.#call(() => {
          host.assertAvailable();
          return host.factsOf(host.find(id));
        }),
      start: (id) => this.#call(() => host.power(id, 'start')),
      shutDown: (id) => this.#call(() => host.power(id, 'stop')),
    };
  }

  #actuator(resource: Actuated): Actuator {
    const { host } = this.#parts;
    return {
      resource,
      apply: (guest, target) => this.#call(() => host.write(resource, guest, target)),
      restore: (guest, baseline) =>
        this.#call(() => host.write(resource, guest, baseline.entitlement, baseline)),
      read: (guest) => this.#call(() => host.read(resource, guest)),
    };
  }

  #window(): GuestWindow {
    const { host, time } = this.#parts;
    return {
      see: (guest: GuestId) =>
        this.#call(() => {
          if (!host.available) return undefined;
          const { vcpuCount, memoryBytes } = host.find(guest).entitlement(time.monotonicMs());
          return { vcpusOnline: vcpuCount, memTotalBytes: memoryBytes };
        }),
    };
  }

  #telemetry(): Telemetry {
    const { host } = this.#parts;
    return {
      onSample: (listener) => this.#listen(this.#samples, listener),
      watch: (guest, cadence) => {
        if (this.#isAlive) host.find(guest).cadence = cadence;
      },
      instructions: () => undefined,
      close: async () => {},
    };
  }

  #listen<T>(listeners: Set<T>, listener: T): () => void {
    listeners.add(listener);
    const unsubscribe = () => listeners.delete(listener);
    this.#unsubscribe.push(unsubscribe);
    return unsubscribe;
  }
}

function never(): Promise<never> {
  return new Promise(() => {});
}
