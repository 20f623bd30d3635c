// What the production engine takes over a simulated host, beside a calibration loop of the same run: CPU of one tick over 10,000
// managed guests with 1,000 leases, and the longest it keeps the event loop, with and without the census of every 15 s; p50 of
// the decision of Allocate (validateOnly: forecast and admission, without journal, moves and transport) by guests, a tenth of
// them with a lease, with room on the host and without; and the heap of a guest whose recent samples are full, beside the
// forecaster's. Best of five interleaved rounds. Prints one JSON document. A slice is a turn of the
// event loop: the lesser of its wall time, in which other processes count, and of the process's CPU, in which its other threads do.

import { setImmediate as nextTurn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { ManualClock } from '../../libvirt-adapter/fake/manual-clock.ts';
import type { GuestFacts } from '../../orchestrator/core/guest.ts';
import type { Forecaster } from '../../orchestrator/core/ports.ts';
import { MIB } from '../../orchestrator/core/profile.ts';
import type { AllocationRequest } from '../../orchestrator/core/request.ts';
import { NO_ROOM } from '../../orchestrator/core/room.ts';
import type { GuestSample } from '../../orchestrator/core/sample.ts';
import type { EngineParts } from '../../orchestrator/engine/engine.ts';
import type { EnginePolicy } from '../../orchestrator/engine/policy.ts';
import { ParametricForecaster } from '../../orchestrator/forecast/parametric-forecaster.ts';
import { MemoryLedger } from '../../orchestrator/ledger/memory-ledger.ts';
import { recordFigure } from '../figures.ts';
import { randomFrom } from '../random.ts';
import { ServiceProcess } from '../simulation/simulator/service-process.ts';
import { type SimulatedGuest, SimulatedHost } from '../simulation/simulator/simulated-host.ts';
import { LiteralForecaster, POLICY } from '../simulation/world.ts';
import { hiddenWorkload, outcomeOf } from '../unit/hidden-workload.ts';

const ROUNDS = 5;
const GUESTS = 10_000;
const SIZES = [100, 1_000, GUESTS] as const;
const GUESTS_PER_LEASE = 10;
const LEASE_TTL_MS = 86_400_000;
/** Samples of each guest: its recent ones are full. */
const SAMPLES = 64;
const CENSUS_MS = 15_000;
/** Turns of the event loop after which everything that a tick set going is done. */
const TURNS = 200;
/** A decision without room looks at what all leases could give up, and costs more. */
const DECISIONS = { 'with-room': 2_000, full: 50 };
const ROOMS = ['with-room', 'full'] as const;
type Room = (typeof ROOMS)[number];
/** The host's size, by what its guests have at boot. */
const ROOM_RATIO = 4;
const TICK_CPU_MS_MAX = 50;
const SLICE_MS_MAX = 5;
const DECISION_US_MAX = 60;
const GUEST_BYTES_MAX = 8192;
const CALIBRATION_STEPS = 1_000_000;

const random = randomFrom(1);
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const signal = new AbortController().signal;
setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** @param reserved kept for the host itself */
function policyWith(reserved: EnginePolicy['capacity']['reserved']): EnginePolicy {
  return { ...POLICY, capacity: { ...POLICY.capacity, reserved } };
}

/** A fixed piece of arithmetic, so that figures from other machines and other moments can be compared. */
function calibrate(): number {
  const from = performance.now();
  let x = 0;
  for (let i = 1; i <= CALIBRATION_STEPS; i += 1) x += Math.sqrt(i) / (x + 1);
  return x > 0 ? performance.now() - from : Number.NaN;
}

function median(times: number[]): number {
  return times.sort((a, b) => a - b)[times.length >> 1] as number;
}

/** The engine over so many guests, all adopted. */
class Bench {
  readonly clock = new ManualClock();
  readonly host: SimulatedHost;
  readonly process: ServiceProcess;
  /** Guests that may be given more than they have. */
  readonly #growing: readonly SimulatedGuest[];
  #facts: GuestFacts[] = [];
  #ids = 0;

  constructor(guests: number, more: Partial<EngineParts> = {}) {
    this.host = new SimulatedHost(1, guests, this.clock, ROOM_RATIO);
    this.#growing = this.host.guests.filter(
      ({ vcpusMax, memoryMaxBytes, boot }) => vcpusMax > boot.vcpuCount && memoryMaxBytes > boot.memoryBytes,
    );
    this.process = new ServiceProcess(
      {
        host: this.host,
        time: this.clock,
        ledger: new MemoryLedger(),
        log: quiet,
        newId: () => this.#newId(),
        onCommit: () => {},
      },
      policyWith(NO_ROOM),
      (parts) => ({
        ...parts,
        // What the host takes to read its guests is not the engine's.
        hypervisor: { ...parts.hypervisor, guests: async () => this.#facts },
        ...more,
      }),
    );
  }

  async adopt(): Promise<void> {
    this.#look();
    await this.process.engine.start();
    for (const { name } of this.host.guests) await this.process.engine.adopt(name, 'enforce');
  }

  #look(): void {
    this.#facts = this.host.guests.map((guest) => this.host.factsOf(guest));
  }

  /** A complete sample of every guest, as its track reads them. */
  async sample(): Promise<void> {
    for (const guest of this.host.guests) {
      const atMs = this.clock.nowMs();
      const rate = Math.floor(1e6 * random());
      const used = guest.memoryBytes(this.clock.monotonicMs()) * random();
      const sample: GuestSample = {
        guest: guest.id,
        atMs,
        periodMs: 1000,
        cadence: 'full',
        usage: {
          cpuMillicores: guest.cpuMillicores * random() * 0.5,
          memoryBytes: used,
          diskReadBytesPerS: rate,
          diskWriteBytesPerS: rate + 1,
          netRxBytesPerS: rate + 2,
          netTxBytesPerS: rate + 3,
          instructionsPerS: rate * 1000,
        },
        vcpus: Array.from({ length: guest.vcpuCount }, () => ({
          runFraction: random(),
          delayFraction: random() / 20,
        })),
        memory: {
          balloonBytes: guest.boot.memoryBytes,
          usableBytes: used,
          rssBytes: used,
          majorFaultsPerS: 0,
        },
        pressure: { cpuSome: 0, memorySome: 0, ioSome: 0 },
        flags: [],
      };
      this.process.emit(sample);
    }
    await this.clock.advance(1000);
    this.#look();
  }

  /** Leave the host no room, or all of it. */
  async fill(room: Room): Promise<void> {
    const { engine } = this.process;
    const { committed } = await engine.status();
    const { cpuMillicores, memoryBytes } = this.host.facts;
    engine.adoptPolicy(
      policyWith(
        room === 'with-room'
          ? NO_ROOM
          : {
              cpuMillicores: cpuMillicores - committed.cpuMillicores,
              memoryBytes: memoryBytes - committed.memoryBytes,
            },
      ),
    );
  }

  #request(guest: SimulatedGuest, more: Partial<AllocationRequest> = {}): AllocationRequest {
    this.#ids += 1;
    const { name, cpuMillicores, boot } = guest;
    return {
      requestId: `request-${this.#ids}`,
      tenant: 'lab',
      workload: 'work',
      guest: name,
      params: {
        ...hiddenWorkload.draw(random),
        cpu: { kind: 'number', value: cpuMillicores },
        mem: { kind: 'number', value: boot.memoryBytes / MIB },
        s: { kind: 'number', value: 20 },
      },
      priority: 'normal',
      ttlMs: LEASE_TTL_MS,
      noQueue: false,
      validateOnly: false,
      ...more,
    };
  }

  /** A lease for one guest in ten, in place. */
  async lease(): Promise<void> {
    const { engine } = this.process;
    for (const guest of this.#growing.slice(0, this.host.guests.length / GUESTS_PER_LEASE)) {
      const lease = engine.allocate(this.#request(guest), { signal });
      await this.clock.advance(10_000);
      await lease;
    }
  }

  /** CPU of one tick and of all that it sets going, idle turns of the loop included, and of its longest turn. */
  async tick(): Promise<{ cpuMs: number; sliceMs: number }> {
    collectGarbage();
    const cpuMs = (): number => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1000;
    };
    const began = cpuMs();
    let sliceMs = 0;
    let from = { wallMs: performance.now(), cpuMs: began };
    this.process.engine.tick();
    for (let turn = 0; turn < TURNS; turn += 1) {
      await nextTurn();
      const now = { wallMs: performance.now(), cpuMs: cpuMs() };
      sliceMs = Math.max(sliceMs, Math.min(now.wallMs - from.wallMs, now.cpuMs - from.cpuMs));
      from = now;
    }
    return { cpuMs: from.cpuMs - began, sliceMs };
  }

  /** p50 of a decision, us. */
  async decide(count: number): Promise<number> {
    const { engine } = this.process;
    const times: number[] = [];
    for (let i = 0; i < count; i += 1) {
      const guest = this.#growing[Math.floor(random() * this.#growing.length)] as SimulatedGuest;
      const request = this.#request(guest, { validateOnly: true });
      const from = performance.now();
      const lease = engine.allocate(request, { signal });
      times.push(performance.now() - from);
      await lease;
    }
    return median(times) * 1000;
  }

  #newId(): string {
    this.#ids += 1;
    return `lease-${String(this.#ids).padStart(9, '0')}`;
  }
}

/** A forecaster that has seen a workload's runs. */
async function taughtForecaster(): Promise<Forecaster> {
  const forecaster = await ParametricForecaster.create();
  for (let i = 0; i < 128; i += 1)
    forecaster.learn(outcomeOf('taught', 'work', hiddenWorkload.draw(random), random));
  return forecaster;
}

/** Bytes of the heap, buffers included, that a guest with full recent samples takes. */
async function guestBytes(): Promise<number> {
  const nowhere = { get: () => undefined, range: () => [], commit: async () => {}, close: async () => {} };
  const bench = new Bench(GUESTS, { forecaster: new LiteralForecaster(), ledger: nowhere });
  const bytes = (): number => {
    collectGarbage();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const before = bytes();
  await bench.adopt();
  for (let i = 0; i < SAMPLES; i += 1) await bench.sample();
  return (bytes() - before) / bench.host.guests.length;
}

/** An engine at work: guests that were sampled, one in ten with a lease. */
async function workingBench(guests: number, forecaster: Forecaster): Promise<Bench> {
  const bench = new Bench(guests, { forecaster });
  await bench.adopt();
  for (let i = 0; i < 8; i += 1) await bench.sample();
  await bench.lease();
  await bench.sample();
  return bench;
}

function told(bar: string, value: number, limit: string, met: boolean): void {
  recordFigure({ bar, value: Number(value.toPrecision(3)), limit, met });
}

const bytesPerGuest = await guestBytes();

const ticking = await workingBench(GUESTS, new LiteralForecaster());
const best = { cpuMs: Number.POSITIVE_INFINITY, sliceMs: Number.POSITIVE_INFINITY };
const tick = { plain: { ...best }, census: { ...best } };
let calibrationMs = Number.POSITIVE_INFINITY;
// The first ones warm up.
for (let round = -2; round < ROUNDS; round += 1) {
  for (const kind of ['census', 'plain'] as const) {
    if (kind === 'census') await ticking.clock.advance(CENSUS_MS);
    await ticking.sample();
    const { cpuMs, sliceMs } = await ticking.tick();
    if (round < 0) continue;
    tick[kind].cpuMs = Math.min(tick[kind].cpuMs, cpuMs);
    tick[kind].sliceMs = Math.min(tick[kind].sliceMs, sliceMs);
  }
  calibrationMs = Math.min(calibrationMs, calibrate());
}

const decisions = ROOMS.flatMap((room) =>
  SIZES.map((guests) => ({ room, guests, p50Us: Number.POSITIVE_INFINITY })),
);
const benches = new Map<number, Bench>();
for (const guests of SIZES) benches.set(guests, await workingBench(guests, await taughtForecaster()));
for (let round = -1; round < ROUNDS; round += 1) {
  for (const decision of decisions) {
    const bench = benches.get(decision.guests) as Bench;
    await bench.fill(decision.room);
    const p50Us = await bench.decide(DECISIONS[decision.room]);
    if (round >= 0) decision.p50Us = Math.min(decision.p50Us, p50Us);
  }
  calibrationMs = Math.min(calibrationMs, calibrate());
}

const cpuMs = Math.max(tick.plain.cpuMs, tick.census.cpuMs);
const sliceMs = Math.max(tick.plain.sliceMs, tick.census.sliceMs);
const of = `10,000 guests, 1,000 leases, best of ${ROUNDS}`;
told('engine-tick-cpu-ms', cpuMs, `<= ${TICK_CPU_MS_MAX} ms of a core, ${of}`, cpuMs <= TICK_CPU_MS_MAX);
told('engine-tick-slice-ms', sliceMs, `<= ${SLICE_MS_MAX} ms, ${of}`, sliceMs <= SLICE_MS_MAX);
for (const room of ROOMS) {
  const [, thousand, most] = decisions.filter((one) => one.room === room).map(({ p50Us }) => p50Us) as [
    number,
    number,
    number,
  ];
  told(
    `engine-decision-us-${room}`,
    thousand,
    `<= ${DECISION_US_MAX} us p50 at 1,000 guests, best of ${ROUNDS}`,
    thousand <= DECISION_US_MAX,
  );
  const growth = most / thousand;
  told(`engine-decision-growth-${room}`, growth, '< 10 from 1,000 to 10,000 guests', growth < GUESTS / 1000);
}
told('engine-guest-bytes', bytesPerGuest, `<= ${GUEST_BYTES_MAX} B`, bytesPerGuest <= GUEST_BYTES_MAX);
process.stdout.write(
  `${JSON.stringify({ bench: 'engine', rounds: ROUNDS, tick, decisions, bytesPerGuest, calibrationMs }, null, 2)}\n`,
);
