import { createHash } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { ManualClock } from '../../../libvirt-adapter/fake/manual-clock.ts';
import { AllocatorError } from '../../../orchestrator/core/errors.ts';
import { hasEnded, type Lease, type LeaseState } from '../../../orchestrator/core/lease.ts';
import type { Actuated, LedgerWrite } from '../../../orchestrator/core/ports.ts';
import type { Engine } from '../../../orchestrator/engine/engine.ts';
import type { Log } from '../../../orchestrator/engine/log.ts';
import { type GuestRecord, ManagedGuest } from '../../../orchestrator/engine/managed-guest.ts';
import type { EnginePolicy } from '../../../orchestrator/engine/policy.ts';
import { MemoryLedger } from '../../../orchestrator/ledger/memory-ledger.ts';
import { pick } from '../generator.ts';
import { POLICY } from '../world.ts';
import { type Case, course, type Fault } from './case.ts';
import { STRIKES, TICKS_BETWEEN, type Victim } from './faults.ts';
import {
  AT_EACH_ANSWER,
  AT_EACH_TICK,
  AT_EACH_WRITE,
  AT_THE_END,
  isUnderWay,
  type Sight,
} from './invariants.ts';
import { type Answer, Load } from './load.ts';
import { type Cut, ServiceProcess, type Wrap } from './service-process.ts';
import { type HostWrite, type SimulatedGuest, SimulatedHost } from './simulated-host.ts';

/** How one life ended. */
export interface Verdict {
  /** Of every decision, write and answer, in order: SHA-256, hexadecimal. */
  readonly hash: string;
  readonly lines: number;
  readonly leases: number;
  readonly writes: number;
  /** The first invariant that did not hold; absent when all held to the end. */
  readonly broken?: { readonly invariant: string; readonly tick: number; readonly said: string };
}

export interface SimulationOptions {
  /** A bug to plant between the engine and its world. */
  readonly wrap?: Wrap;
  /** Each line of the log, as it is hashed. */
  readonly onLine?: (line: string) => void;
}

const TICK_MS = 1000;
/** The host has room for a little more than its guests have at boot, or for much more. */
const ROOM_RATIO = { least: 1.1, most: 3 } as const;
/** A guest nobody asked anything of for so long is where it belongs: a balloon's way, and its read-back. */
const QUIET_TICKS = 12;
/** After a disturbance a move may wait for the longest pause between tries, 60 s, and take 10 s. */
const DISTURBED_TICKS = 75;
/** Settled guests are looked at this often. */
const LOOK_EVERY_TICKS = 10;
const RECOUNT_EVERY_TICKS = 20;
/** Clients move on one guest once in so many ticks; the hosts of thousands are asked as often as one of some dozens. */
const TICKS_BETWEEN_MOVES = 40;
const MOVES_PER_TICK_MAX = 4;
/** After the last fault, and again after the last release. */
const SETTLE_TICKS = 2 * DISTURBED_TICKS;
const OPEN = ['QUEUED', 'SCHEDULED', 'PREPARING', 'ACTIVE', 'DEGRADED', 'RELEASING'] as const;
const CONTEXT = { signal: new AbortController().signal };
// Every call in flight listens on it.
setMaxListeners(0, CONTEXT.signal);

/** Live a case to its end, or to the first invariant that does not hold. */
export async function simulate(one: Case, options: SimulationOptions = {}): Promise<Verdict> {
  const simulation = new Simulation(one, options);
  const onStray = (cause: unknown) =>
    simulation.fail('noBrokenAssumption', String((cause as Error)?.stack ?? cause));
  process.on('unhandledRejection', onStray);
  try {
    return await simulation.live();
  } finally {
    process.off('unhandledRejection', onStray);
  }
}

class Broken extends Error {}

class Simulation implements Victim {
  readonly #case: Case;
  readonly #options: SimulationOptions;
  readonly #clock = new ManualClock();
  readonly #host: SimulatedHost;
  readonly #load: Load;
  readonly #policy: EnginePolicy;
  readonly #hash = createHash('sha256');
  readonly #faults: readonly { readonly fault: Fault; readonly random: () => number }[];
  readonly #moves: () => number;
  #ledger = new MemoryLedger();
  #process: ServiceProcess;
  #power: 'kill' | 'power' = 'kill';
  #downUntilMs = 0;
  #isRestarting = false;
  #tick = 0;
  #ids = 0;
  #lines = 0;
  #leases = 0;
  #writes = 0;
  #latestMs = 0;
  #broken: Verdict['broken'];
  /** Leases under way, each with the tick at which it was first seen so. */
  readonly #underWay = new Map<string, { readonly state: LeaseState; readonly tick: number }>();
  readonly #movedTick: Int32Array;
  readonly #writtenTick: Int32Array;
  readonly #disturbedTick: Int32Array;
  #allDisturbedTick = 0;
  #allMovedTick = 0;
  readonly #foreign = new Map<SimulatedGuest, Map<Actuated, number>>();
  readonly #everForeign = new Set<SimulatedGuest>();
  readonly #strained = { isSo: false, isFresh: false, tick: 0 };
  readonly #operated = new Set<SimulatedGuest>();

  constructor(one: Case, options: SimulationOptions) {
    const room = course(one.seed, 'room')();
    this.#case = one;
    this.#options = options;
    this.#host = new SimulatedHost(
      one.seed,
      one.guests,
      this.#clock,
      ROOM_RATIO.least + room * (ROOM_RATIO.most - ROOM_RATIO.least),
    );
    this.#policy = {
      ...POLICY,
      capacity: { overcommit: { cpu: 1, memory: 1 }, reserved: { cpuMillicores: 0, memoryBytes: 0 } },
      // Time-outs count real time, of which a simulated move takes none.
      actuationTimeoutMs: 2 ** 30,
      queueMax: 4,
    };
    this.#movedTick = new Int32Array(one.guests);
    this.#writtenTick = new Int32Array(one.guests);
    this.#disturbedTick = new Int32Array(one.guests);
    this.#moves = course(one.seed, 'moves');
    this.#faults = one.faults.map((fault) => ({ fault, random: course(one.seed, fault) }));
    this.#load = new Load(
      one.seed,
      (answer) => this.#onAnswer(answer),
      (cause) => this.fail('noBrokenAssumption', String((cause as Error)?.stack ?? cause)),
    );
    this.#host.onWrite = (write) => this.#onWrite(write);
    this.#process = this.#newProcess();
  }

  async live(): Promise<Verdict> {
    try {
      await this.#begin();
      for (let i = 0; i < this.#case.ticks; i += 1) await this.#passTick(true);
      await this.#end();
    } catch (cause) {
      if (!(cause instanceof Broken)) throw cause;
    }
    this.#process.kill();
    return {
      hash: this.#hash.digest('hex'),
      lines: this.#lines,
      leases: this.#leases,
      writes: this.#writes,
      ...(this.#broken !== undefined && { broken: this.#broken }),
    };
  }

  /** Remember the first invariant that did not hold. */
  fail(invariant: string, said: string): void {
    this.#broken ??= { invariant, tick: this.#tick, said };
  }

  // --- one tick -----------------------------------------------------------------------------------------------------

  async #begin(): Promise<void> {
    await this.#process.engine.start();
    for (const { name } of this.#host.guests) await this.#process.engine.adopt(name, 'enforce');
  }

  async #passTick(isDisturbed: boolean): Promise<void> {
    this.#tick += 1;
    if (isDisturbed) {
      this.#strike();
      this.#haveClientsMove();
    }
    await this.#clock.advance(TICK_MS);
    await this.#restartIfDead();
    const { engine } = this.#process;
    if (this.#process.isAlive) engine.tick();
    this.#emitSamples();
    await this.#clock.advance(0);
    this.#latestMs = Math.max(this.#latestMs, this.#clock.nowMs());
    if (this.#process.isAlive && !this.#isRestarting) await this.#check(AT_EACH_TICK);
    if (this.#broken !== undefined) throw new Broken();
  }

  #strike(): void {
    for (const { fault, random } of this.#faults) {
      if (random() >= Math.min(1, this.#host.guests.length / 8) / TICKS_BETWEEN[fault]) continue;
      const guest = pick(random, this.#host.guests);
      this.#write({ fault, guest: guest.name });
      STRIKES[fault](this, guest, random);
    }
  }

  #haveClientsMove(): void {
    const mean = Math.min(MOVES_PER_TICK_MAX, this.#host.guests.length / TICKS_BETWEEN_MOVES);
    for (let left = mean; this.#moves() < left; left -= 1) {
      const guest = pick(this.#moves, this.#host.guests);
      this.#clock.after(Math.floor(this.#moves() * TICK_MS), () => {
        if (!this.#process.isAlive) return;
        this.#movedTick[guest.index] = this.#tick;
        this.#load.act(this.#process.engine, guest, this.#clock.nowMs());
      });
    }
  }

  #emitSamples(): void {
    if (!this.#host.available) return;
    const [atMs, monotonicMs] = [this.#clock.nowMs(), this.#clock.monotonicMs()];
    for (const guest of this.#host.guests) {
      if (guest.cadence === 'none' || guest.state !== 'running' || monotonicMs < guest.silentUntilMs)
        continue;
      this.#process.emit(guest.sample(this.#tick, atMs, monotonicMs));
    }
  }

  async #restartIfDead(): Promise<void> {
    if (this.#process.isAlive || this.#clock.monotonicMs() < this.#downUntilMs) return;
    this.#ledger = this.#power === 'power' ? this.#ledger.afterPowerLoss() : this.#ledger.afterKill();
    for (const guest of this.#host.guests) guest.cadence = 'none';
    this.#process = this.#newProcess();
    this.#allMovedTick = this.#tick;
    this.disturb(undefined, 0);
    this.#isRestarting = true;
    const restarted = this.#process.engine.start().then(() => {
      this.#isRestarting = false;
    });
    restarted.catch((cause) => {
      this.#isRestarting = false;
      if (!(cause instanceof AllocatorError)) this.fail('noBrokenAssumption', String(cause));
    });
  }

  #newProcess(): ServiceProcess {
    const write =
      (level: string): Log['info'] =>
      (record, message) => {
        this.#write({ level, message, ...record });
        const guest = this.#host.guests.find(({ name }) => name === record.guest);
        if (guest !== undefined) this.#movedTick[guest.index] = this.#tick;
      };
    return new ServiceProcess(
      {
        host: this.#host,
        time: this.#clock,
        ledger: this.#ledger,
        log: { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') },
        newId: () => {
          this.#ids += 1;
          return `lease-${String(this.#ids).padStart(8, '0')}`;
        },
        onCommit: (writes) => this.#noteMoves(writes),
      },
      this.#policy,
      this.#options.wrap,
    );
  }

  // --- judging ------------------------------------------------------------------------------------------------------

  async #check(
    invariants: Readonly<Record<string, (sight: Sight) => string | undefined | Promise<string | undefined>>>,
  ): Promise<void> {
    const open = this.#openLeases();
    this.#followUnderWay(open);
    const sight = this.#sight(open);
    for (const [name, holds] of Object.entries(invariants)) {
      const said = await holds(sight);
      if (said !== undefined) this.fail(name, said);
    }
  }

  #onWrite(write: HostWrite): void {
    this.#writes += 1;
    const { guest, resource, target } = write;
    this.#write({ guest: guest.name, resource, ...target });
    const theirs = this.#foreign.get(guest);
    // Ours again, or never noticed to be theirs: the invariants say which.
    if (theirs?.has(resource))
      this.#judge(
        'foreignChangesStand',
        `${resource} of ${guest.name} was somebody else's and is moved`,
        theirs,
        resource,
      );
    const sight = this.#sight(NOTHING_OPEN);
    for (const [name, holds] of Object.entries(AT_EACH_WRITE)) {
      const said = holds(sight, write);
      if (said !== undefined) this.fail(name, said);
    }
  }

  /** A guest that is announced to move is under way from then on. */
  #noteMoves(writes: readonly LedgerWrite[]): void {
    for (const { key, value } of writes) {
      if (!key.startsWith(ManagedGuest.prefix) || value === undefined) continue;
      const guest = this.#host.find(key.slice(ManagedGuest.prefix.length));
      this.#writtenTick[guest.index] = this.#tick;
    }
  }

  #judge(name: string, said: string, theirs: Map<Actuated, number>, resource: Actuated): void {
    this.fail(name, said);
    theirs.delete(resource);
  }

  #onAnswer(answer: Answer): void {
    const { lease } = answer;
    this.#leases += answer.asked.leaseId === undefined ? 1 : 0;
    this.#write({ told: lease.requestId, lease: lease.id, state: lease.state, reason: lease.reason });
    const sight = this.#sight(NOTHING_OPEN);
    for (const [name, holds] of Object.entries(AT_EACH_ANSWER)) {
      const said = holds(sight, answer);
      if (said !== undefined) this.fail(name, said);
    }
  }

  #openLeases(): Map<string, Lease[]> {
    const open = new Map<string, Lease[]>();
    for (const lease of this.#process.engine.listLeases({ states: OPEN })) {
      const ofGuest = open.get(lease.guest);
      if (ofGuest === undefined) open.set(lease.guest, [lease]);
      else ofGuest.push(lease);
    }
    return open;
  }

  #followUnderWay(open: ReadonlyMap<string, readonly Lease[]>): void {
    const leases = [...open.values()].flat().filter(({ state }) => isUnderWay(state));
    const before = new Map(this.#underWay);
    this.#underWay.clear();
    for (const { id, state } of leases) {
      const known = before.get(id);
      this.#underWay.set(id, known?.state === state ? known : { state, tick: this.#tick });
    }
  }

  #strain(): void {
    this.#strained.isSo = true;
    this.#strained.tick = this.#tick;
  }

  #sight(open: ReadonlyMap<string, readonly Lease[]>): Sight {
    this.#strained.isFresh = this.#tick - this.#strained.tick <= QUIET_TICKS;
    return {
      engine: this.#process.engine,
      ledger: this.#ledger,
      host: this.#host,
      load: this.#load,
      policy: this.#policy,
      nowMs: this.#clock.nowMs(),
      latestMs: Math.max(this.#latestMs, this.#clock.nowMs()),
      writtenLately: ({ index }) => this.#tick - (this.#writtenTick[index] ?? 0) <= QUIET_TICKS,
      strained: this.#strained,
      open,
      settled: open === NOTHING_OPEN ? [] : this.#host.guests.filter((guest) => this.#isDue(guest)),
      hanging: new Set(
        [...this.#underWay].filter(([, { tick }]) => this.#tick - tick > QUIET_TICKS).map(([id]) => id),
      ),
      isRecountDue: this.#tick % RECOUNT_EVERY_TICKS === 0,
      foreign: this.#foreign,
      everForeign: this.#everForeign,
      operated: this.#operated,
    };
  }

  #isDue({ index }: SimulatedGuest): boolean {
    if ((this.#tick + index) % LOOK_EVERY_TICKS !== 0) return false;
    return this.#isSettled(index);
  }

  #isSettled(index: number): boolean {
    const moved = Math.max(this.#movedTick[index] ?? 0, this.#allMovedTick);
    const disturbed = Math.max(this.#disturbedTick[index] ?? 0, this.#allDisturbedTick);
    return this.#tick - moved > QUIET_TICKS && this.#tick > disturbed;
  }

  #write(record: object): void {
    const line = JSON.stringify({ at: this.#clock.nowMs(), ...record }, plain);
    this.#lines += 1;
    this.#hash.update(line).update('\n');
    this.#options.onLine?.(line);
  }

  // --- the end ------------------------------------------------------------------------------------------------------

  async #end(): Promise<void> {
    if (!this.#host.available) this.#host.comeBack();
    this.#ledger.failure = undefined;
    this.#ledger.flushDelay = async () => {};
    for (const guest of this.#host.guests) {
      guest.silentUntilMs = 0;
      guest.refusesUntilMs = 0;
      guest.lagsUntilMs = 0;
    }
    for (let i = 0; i < SETTLE_TICKS; i += 1) await this.#passTick(false);
    const { engine } = this.#process;
    this.#load.alive.clear();
    this.#allMovedTick = this.#tick;
    for (const { id } of engine.listLeases({ states: OPEN })) void this.#releaseLast(engine, id);
    for (let i = 0; i < SETTLE_TICKS; i += 1) await this.#passTick(false);
    await this.#check(AT_THE_END);
    if (this.#broken !== undefined) throw new Broken();
  }

  async #releaseLast(engine: Engine, id: string): Promise<void> {
    await engine.release(id, { succeeded: false }, CONTEXT).then((lease) => {
      if (!hasEnded(lease.state)) this.fail('nothingLeftOpen', `${id} was given back and is ${lease.state}`);
    });
  }

  // --- what faults do -----------------------------------------------------------------------------------------------

  get nowMs(): number {
    return this.#clock.monotonicMs();
  }

  disturb(guest: SimulatedGuest | undefined, forMs: number): void {
    const until = this.#tick + Math.ceil(forMs / TICK_MS) + DISTURBED_TICKS;
    if (guest === undefined) this.#allDisturbedTick = Math.max(this.#allDisturbedTick, until);
    else this.#disturbedTick[guest.index] = Math.max(this.#disturbedTick[guest.index] ?? 0, until);
  }

  changeForeign(guest: SimulatedGuest, resource: 'cpu' | 'memory', value: number): void {
    if (guest.state !== 'running') return;
    const record = this.#ledger.get(`guest/${guest.id}`)?.value as GuestRecord | undefined;
    const isNoticed =
      this.#isSettled(guest.index) &&
      this.#host.available &&
      this.#process.isAlive &&
      !this.#isRestarting &&
      record?.moving === false &&
      !this.#operated.has(guest);
    this.#everForeign.add(guest);
    if (isNoticed) this.#foreign.set(guest, new Map(this.#foreign.get(guest)).set(resource, value));
    else if (this.#foreign.get(guest)?.has(resource)) this.#foreign.get(guest)?.set(resource, value);
    else this.disturb(guest, 0);
    this.#movedTick[guest.index] = this.#tick;
    this.#host.tune(guest, resource, value);
  }

  sizeOf(guest: SimulatedGuest, resource: 'cpu' | 'memory'): number {
    const { cpuMillicores, memoryBytes } = this.#host.entitlement(guest);
    return resource === 'cpu' ? cpuMillicores : memoryBytes;
  }

  killDaemon(forMs: number): void {
    if (!this.#host.available) return;
    this.#host.die();
    this.#clock.after(forMs, () => {
      if (!this.#host.available) this.#host.comeBack();
    });
  }

  crash(how: 'kill' | 'power', cut: Cut, commits: number, downMs: number): void {
    this.#power = how;
    this.#downUntilMs = this.#clock.monotonicMs() + downMs;
    this.#process.killAt(commits, cut);
  }

  stepClock(byMs: number): void {
    this.#clock.stepWall(byMs);
    this.#allMovedTick = this.#tick;
  }

  slowDisk(forMs: number, flushMs: number): void {
    const ledger = this.#ledger;
    ledger.flushDelay = () => new Promise((resolve) => this.#clock.after(flushMs, resolve));
    this.#clock.after(forMs, () => {
      ledger.flushDelay = async () => {};
    });
  }

  fillDisk(forMs: number): void {
    const ledger = this.#ledger;
    ledger.failure = new Error('no space left');
    this.#clock.after(forMs, () => {
      ledger.failure = undefined;
    });
  }

  reboot(guest: SimulatedGuest, downMs: number): void {
    if (guest.state !== 'running') return;
    this.#load.excuse(guest);
    this.#foreign.delete(guest);
    this.#everForeign.delete(guest);
    this.disturb(guest, downMs);
    this.#host.stop(guest);
    this.#clock.after(downMs, () => {
      this.#load.excuse(guest);
      this.#strain();
      this.#host.start(guest);
    });
  }

  operate(guest: SimulatedGuest, what: 'shadow' | 'advise' | 'enforce' | 'restore' | 'readopt'): void {
    if (!this.#process.isAlive || this.#operated.has(guest)) return;
    const { engine } = this.#process;
    if (what === 'restore' || what === 'readopt') this.#load.excuse(guest);
    this.#operated.add(guest);
    this.#strain();
    this.disturb(guest, 0);
    this.#operation(engine, guest, what)
      .catch((cause) => {
        if (!(cause instanceof AllocatorError))
          this.fail('noBrokenAssumption', String(cause?.stack ?? cause));
      })
      .finally(() => this.#operated.delete(guest));
  }

  async #operation(
    engine: Engine,
    guest: SimulatedGuest,
    what: 'shadow' | 'advise' | 'enforce' | 'restore' | 'readopt',
  ): Promise<void> {
    if (what === 'restore') await engine.restore(guest.name, CONTEXT);
    else if (what !== 'readopt') await engine.setMode(guest.name, what);
    else {
      await engine.disown(guest.name, CONTEXT);
      this.#load.excuse(guest);
      this.#foreign.delete(guest);
      this.#everForeign.delete(guest);
      guest.define(this.#clock.monotonicMs());
      await engine.adopt(guest.name, 'enforce');
    }
  }
}

const NOTHING_OPEN: ReadonlyMap<string, readonly Lease[]> = new Map();

function plain(_: string, value: unknown): unknown {
  return value instanceof Error ? value.message : value;
}
