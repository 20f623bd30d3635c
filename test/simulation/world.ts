import { createLibvirtAdapter } from '../../libvirt-adapter/adapter.ts';
import { FakeLibvirt } from '../../libvirt-adapter/fake/fake-libvirt.ts';
import { FakeReadings } from '../../libvirt-adapter/fake/fake-readings.ts';
import type { FakeGuestScript } from '../../libvirt-adapter/fake/guest-script.ts';
import { ManualClock } from '../../libvirt-adapter/fake/manual-clock.ts';
import type { Libvirt } from '../../libvirt-adapter/libvirt.ts';
import {
  FIELDS,
  type Forecast,
  type ForecastQuery,
  LEVELS,
  type Outcome,
  QUANTILE_LEVELS,
} from '../../orchestrator/core/forecast.ts';
import type { Mode } from '../../orchestrator/core/guest.ts';
import type { NeedsPolicy } from '../../orchestrator/core/needs.ts';
import type { Forecaster, ScaleOut } from '../../orchestrator/core/ports.ts';
import { MIB, PROFILE_FIELDS } from '../../orchestrator/core/profile.ts';
import type { AllocationRequest } from '../../orchestrator/core/request.ts';
import { NO_ROOM } from '../../orchestrator/core/room.ts';
import type { TenantPolicy } from '../../orchestrator/core/tenant.ts';
import { Engine } from '../../orchestrator/engine/engine.ts';
import type { Log } from '../../orchestrator/engine/log.ts';
import type { EnginePolicy } from '../../orchestrator/engine/policy.ts';
import type { Shadow } from '../../orchestrator/engine/recorder.ts';
import { MemoryLedger } from '../../orchestrator/ledger/memory-ledger.ts';

/** Capacity of the world's host: 8 cores less 2, and 8 GiB less 2. */
export const CAPACITY = { cpuMillicores: 6000, memoryMib: 6144 };

const NEEDS: NeedsPolicy = {
  levels: { low: 0.8, normal: 0.9, high: 0.95, critical: 0.99 },
  headroomFraction: { cpu: 0, memory: 0, disk: 0, net: 0 },
  rateLimitRunsMin: 3,
  cpuWeight: 1,
};

/** A tenant without a quota, a guarantee or wishes of its own. */
export const TENANT: TenantPolicy = {
  weight: 1,
  quota: { cpuMillicores: Number.POSITIVE_INFINITY, memoryBytes: Number.POSITIVE_INFINITY },
  guaranteed: NO_ROOM,
  needs: NEEDS,
  cooldownMs: 3000,
  shadow: false,
};

export const POLICY: EnginePolicy = {
  mode: 'enforce',
  capacity: { overcommit: { cpu: 1, memory: 1 }, reserved: { cpuMillicores: 2000, memoryBytes: 2048 * MIB } },
  needs: NEEDS,
  adjust: Object.fromEntries(
    (['cpu', 'memory', 'disk', 'net'] as const).map((resource) => [
      resource,
      {
        headroomFraction: 0.1,
        limitFraction: 0.95,
        emergencyFraction: 0.5,
        shrinkStepFraction: 0.2,
        deadbandFraction: 0.05,
        cooldownMs: 3000,
      },
    ]),
  ) as unknown as EnginePolicy['adjust'],
  tenants: { named: new Map(), fallback: TENANT },
  anomaly: {
    leak: 'alert',
    runaway: 'alert',
    stuck: 'alert',
    miner: 'alert',
    'profile-change': 'alert',
    drift: 'alert',
  },
  delayLimitFraction: 0.1,
  queueAgeingMs: 300_000,
  tickMs: 1000,
  queueMax: 4,
  actuationTimeoutMs: 15_000,
};

/**
 * Forecasts what the request's own parameters say: `cpu` in millicores, `mem` in MiB, `s` in seconds; the same at every level,
 * but for CPU up to the median, which is less by the fraction `spread`.
 */
export class LiteralForecaster implements Forecaster {
  readonly outcomes: Outcome[] = [];

  observe(): void {}

  forecast(query: ForecastQuery): Forecast {
    const param = (name: string): number => {
      const value = query.workload?.params[name];
      return value?.kind === 'number' ? value.value : Number.NaN;
    };
    const peak = new Float64Array(FIELDS * LEVELS).fill(Number.NaN);
    const fill = (field: (typeof PROFILE_FIELDS)[number], value: number): void => {
      const row = PROFILE_FIELDS.indexOf(field) * LEVELS;
      peak.fill(value, row, row + LEVELS);
    };
    fill('cpuMillicores', param('cpu'));
    const row = PROFILE_FIELDS.indexOf('cpuMillicores') * LEVELS;
    const below = QUANTILE_LEVELS.filter((level) => level <= 0.5).length;
    if (param('spread') > 0) peak.fill(param('cpu') * (1 - param('spread')), row, row + below);
    fill('memoryBytes', param('mem') * MIB);
    return {
      guest: query.guest,
      axis: 'seconds',
      track: 'short',
      originMs: query.originMs,
      knots: [1],
      values: new Float64Array(FIELDS * LEVELS).fill(Number.NaN),
      peak,
      duration: new Float64Array(LEVELS).fill(param('s')),
      reason: 'read from the parameters',
      runs: this.outcomes.length,
    };
  }

  learn(outcome: Outcome): void {
    this.outcomes.push(outcome);
  }

  forget(): void {}
}

export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly record: Readonly<Record<string, unknown>>;
  readonly message: string;
}

/** Cuts a process off from the world: after `kill`, calls never return and events never come. */
class Tether {
  #alive = true;
  readonly libvirt: Libvirt;

  constructor(fake: FakeLibvirt) {
    const guarded =
      (member: (...args: unknown[]) => unknown) =>
      (...args: unknown[]): unknown => {
        if (!this.#alive) return new Promise(() => {});
        const listenerAt = args.findIndex((arg) => typeof arg === 'function');
        if (listenerAt >= 0) {
          const listener = args[listenerAt] as (event: unknown) => void;
          args[listenerAt] = (event: unknown) => {
            if (this.#alive) listener(event);
          };
          return member.apply(fake, args);
        }
        const result = member.apply(fake, args);
        if (!(result instanceof Promise)) return result;
        return result.then(
          (value) => (this.#alive ? value : new Promise(() => {})),
          (error) => (this.#alive ? Promise.reject(error) : new Promise(() => {})),
        );
      };
    this.libvirt = new Proxy(fake, {
      get(target, name) {
        const member = Reflect.get(target, name, target) as unknown;
        return typeof member === 'function' ? guarded(member as (...args: unknown[]) => unknown) : member;
      },
    }) as Libvirt;
  }

  kill(): void {
    this.#alive = false;
  }
}

/** One service process in the world. */
export class Process {
  readonly engine: Engine;
  readonly forecaster = new LiteralForecaster();
  readonly log: LogLine[] = [];
  readonly #tether: Tether;
  readonly #close: () => Promise<void>;

  constructor(world: World, policy: EnginePolicy) {
    this.#tether = new Tether(world.libvirt);
    const adapter = createLibvirtAdapter(this.#tether.libvirt, new FakeReadings(world.libvirt), {
      clock: world.clock,
    });
    const write =
      (level: LogLine['level']): Log['info'] =>
      (record, message) =>
        this.log.push({ level, record, message });
    this.engine = new Engine(
      {
        clock: world.clock,
        forecaster: this.forecaster,
        ledger: world.ledger,
        hypervisor: adapter.hypervisor,
        actuators: adapter.actuators,
        window: adapter.window,
        telemetry: adapter.telemetry,
        ...(world.shadow && { shadow: world.shadow }),
        ...(world.scaleOut && { scaleOut: world.scaleOut }),
        log: { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') },
        newId: () => world.newId(),
        pause: (ms) => new Promise((resolve) => world.clock.after(ms, resolve)),
      },
      policy,
    );
    this.#close = () => adapter.close();
  }

  /** As kill -9: nothing it was doing goes on. */
  async kill(): Promise<void> {
    this.#tether.kill();
    await this.#close();
  }
}

/** What else a world's processes reach. */
interface Beside {
  readonly shadow?: Shadow;
  readonly scaleOut?: ScaleOut;
}

/** A host with guests, a ledger and a clock, on which service processes come and go. */
export class World {
  readonly clock = new ManualClock();
  readonly libvirt: FakeLibvirt;
  ledger = new MemoryLedger();
  process: Process;
  readonly shadow: Shadow | undefined;
  readonly scaleOut: ScaleOut | undefined;
  #ids = 0;
  readonly #policy: EnginePolicy;

  private constructor(
    guests: readonly FakeGuestScript[],
    policy: EnginePolicy,
    { shadow, scaleOut }: Beside,
  ) {
    this.shadow = shadow;
    this.scaleOut = scaleOut;
    this.libvirt = new FakeLibvirt({ clock: this.clock, host: { cpus: 8, memoryKib: 8 * 1024 * 1024 } });
    for (const guest of guests) this.libvirt.addGuest(guest);
    this.#policy = policy;
    this.process = new Process(this, policy);
    this.#tick();
  }

  /** A world whose guests are all adopted and sampled. */
  static async create(
    guests: readonly FakeGuestScript[],
    policy: Partial<EnginePolicy> = {},
    mode: Mode = 'enforce',
    beside: Beside = {},
  ): Promise<World> {
    const world = new World(guests, { ...POLICY, ...policy }, beside);
    await world.during(world.engine.start());
    for (const { name } of guests) await world.during(world.engine.adopt(name, mode));
    await world.pass(2000);
    return world;
  }

  get engine(): Engine {
    return this.process.engine;
  }

  newId(): string {
    this.#ids += 1;
    return `lease-${String(this.#ids).padStart(6, '0')}`;
  }

  pass(ms: number): Promise<void> {
    return this.clock.advance(ms);
  }

  /** A guest's memory, MiB. */
  memoryMib(name: string): number {
    return (this.libvirt.find(name)?.balloonKib ?? Number.NaN) / 1024;
  }

  #tick(): void {
    this.clock.after(this.#policy.tickMs, () => {
      this.engine.tick();
      this.#tick();
    });
  }

  /** Let time pass until the work is done. @throws what the work throws, or when a minute was not enough */
  async during<T>(work: Promise<T>): Promise<T> {
    let done = false;
    const settle = (): void => {
      done = true;
    };
    work.then(settle, settle);
    for (let waited = 0; waited < 60_000; waited += 50) {
      await this.clock.advance(0);
      if (done) return work;
      await this.clock.advance(50);
    }
    throw new Error('a minute of the world passed and the work was not done');
  }

  /** End the process and start another on what it left. `power`: what was not flushed is gone too. */
  async restart(how: 'kill' | 'power'): Promise<void> {
    await this.process.kill();
    this.ledger = how === 'power' ? this.ledger.afterPowerLoss() : this.ledger.afterKill();
    this.process = new Process(this, this.#policy);
    await this.during(this.engine.start());
  }

  allocate(
    request: Partial<AllocationRequest> & { cpu?: number; mem?: number; s?: number; spread?: number },
  ): ReturnType<Engine['allocate']> {
    return this.engine.allocate(requestOf(request), { signal: new AbortController().signal });
  }

  release(leaseId: string): ReturnType<Engine['release']> {
    return this.engine.release(leaseId, { succeeded: true }, { signal: new AbortController().signal });
  }
}

let requests = 0;

/** A request for so many millicores, MiB and seconds. */
export function requestOf({
  cpu = 1500,
  mem = 512,
  s = 20,
  spread,
  ...rest
}: Partial<AllocationRequest> & {
  cpu?: number;
  mem?: number;
  s?: number;
  spread?: number;
}): AllocationRequest {
  requests += 1;
  return {
    requestId: `request-${requests}`,
    tenant: 'tenant',
    workload: 'work',
    guest: 'a',
    params: {
      cpu: { kind: 'number', value: cpu },
      mem: { kind: 'number', value: mem },
      s: { kind: 'number', value: s },
      ...(spread === undefined ? undefined : { spread: { kind: 'number', value: spread } }),
    },
    priority: 'normal',
    ttlMs: 60_000,
    noQueue: false,
    validateOnly: false,
    ...rest,
  };
}

/** A guest of 1 of 4 vCPUs and 256 MiB of 2 GiB that idles. */
export function guest(name: string, more: Partial<FakeGuestScript> = {}): FakeGuestScript {
  return {
    name,
    type: 'qemu',
    vcpusMax: 4,
    vcpusPlugged: 1,
    bootMemoryKib: 2048 * 1024,
    balloonKib: 256 * 1024,
    agent: 'answers',
    demand: () => ({ cpuMillicores: 10, memoryKib: 100 * 1024 }),
    ...more,
  };
}
