import type { GuestId } from '../orchestrator/core/guest.ts';
import type { ResourceProfile } from '../orchestrator/core/profile.ts';
import { type CounterReading, type RateStep, rateStep } from '../orchestrator/core/rates.ts';
import {
  executedBetween,
  type GuestSample,
  type InstructionReading,
  type SampleFlag,
} from '../orchestrator/core/sample.ts';
import type { DomainStatValues } from './domain-stats.ts';
import type { HostReading, PressureReading } from './host-readings.ts';
import { DOMAIN_STATES } from './libvirt.ts';
import { MemoryUse } from './memory-use.ts';
import { vcpuShares } from './vcpu-shares.ts';

/** Wall and monotonic clock may part by this much in one period before it is called a step. */
export const CLOCK_STEP_MS = 250;
/** A period longer than this many nominal ones is a gap. */
export const GAP_PERIODS = 2;
/** Balloon statistics older than two of their periods of a second, and one for libvirt's whole seconds, are stale. */
export const STALE_STATS_MS = 3_000;
/** A rate whose period is known no better than this is none: a busy daemon answers late, and nobody says when it looked. */
const UNSURE_FRACTION_MAX = 0.25;
/** Block devices or interfaces read of one guest. */
const DEVICES_MAX = 64;

const KIB = 1024;

/** All that one full sample is made of. */
export interface FullReading {
  readonly wallMs: number;
  /** Middle of the call that read it. */
  readonly monotonicMs: number;
  /** How long that call took: the counters are of some moment within it. */
  readonly waitMs: number;
  /** The time it was due after the one before. */
  readonly nominalMs: number;
  /** libvirt's id of this run of the domain; -1 when it is off. */
  readonly runId: number;
  readonly values: DomainStatValues;
  readonly host: HostReading | undefined;
  readonly pressure?: PressureReading;
  readonly instructions?: InstructionReading;
  readonly hardware?: GuestSample['hardware'];
}

/** One guest's full samples: turns cumulative readings into rates and says which of them not to trust. */
export class FullTrack {
  readonly #guest: GuestId;
  #last: { readonly reading: FullReading; readonly counters: CounterReading } | undefined;
  /** Block statistics have a cadence of their own. */
  #lastBlock: CounterReading | undefined;
  readonly #memoryUse = new MemoryUse();
  #wasPaused = false;

  constructor(guest: GuestId) {
    this.#guest = guest;
  }

  /** The guest was paused or resumed since the last reading. */
  notePause(): void {
    this.#wasPaused = true;
  }

  /** The sample that ends at `reading`; undefined when there is nothing to compare it with or the guest is off. */
  take(reading: FullReading): GuestSample | undefined {
    const state = DOMAIN_STATES[reading.values.number('state.state') ?? 0] ?? 'nostate';
    if (reading.runId < 0 || state === 'shutoff' || state === 'crashed') {
      this.#forget();
      return undefined;
    }
    const counters = countersOf(reading);
    const last = this.#last;
    const isPaused = state === 'paused' || state === 'pmsuspended';
    const sawPause = this.#wasPaused || isPaused;
    this.#wasPaused = isPaused;
    const isNewRun = last !== undefined && last.reading.runId !== reading.runId;
    if (isNewRun) this.#lastBlock = undefined;
    const block = this.#takeBlock(reading);
    const step = last && rateStep(last.counters, counters);
    const isSure = last === undefined || step === undefined || isTimed(last.reading, reading, step.periodMs);
    // Of two readings that are too close for their waits, the one that was answered sooner is kept to compare with.
    if (isSure || isNewRun || reading.waitMs < last.reading.waitMs) this.#last = { reading, counters };
    if (last === undefined || step === undefined) return undefined;
    const flags = this.#flags(last.reading, reading, step, { isNewRun, sawPause });
    const rates = isSure && !isNewRun ? sameRun(last.reading, reading, step) : { ...step, perS: {} };
    return this.#sample(last.reading, reading, rates, block, flags);
  }

  #sample(
    last: FullReading,
    reading: FullReading,
    step: RateStep,
    block: RateStep | undefined,
    flags: readonly SampleFlag[],
  ): GuestSample {
    const vcpus =
      step.perS.cpuNs === undefined ? undefined : vcpuShares(last.host, reading.host, step.periodMs);
    const memory = memoryOf(reading.values, step, flags.includes('memory-stale'));
    const usedBytes = this.#memoryUse.take(memory);
    const pressure = pressureOf(last.pressure, reading.pressure, step.periodMs);
    return {
      guest: this.#guest,
      atMs: reading.wallMs,
      periodMs: step.periodMs,
      cadence: 'full',
      usage: usageOf(step, block, usedBytes),
      ...(vcpus !== undefined && { vcpus }),
      ...(memory !== undefined && { memory }),
      ...(pressure !== undefined && { pressure }),
      ...executedIn(last.instructions, reading.instructions),
      ...(reading.hardware !== undefined && { hardware: reading.hardware }),
      flags,
    };
  }

  #takeBlock(reading: FullReading): RateStep | undefined {
    const counters = blockCounters(reading.values);
    if (counters === undefined) return undefined;
    const now = { monotonicMs: reading.monotonicMs, counters };
    const step = this.#lastBlock && rateStep(this.#lastBlock, now);
    this.#lastBlock = now;
    return step;
  }

  #flags(
    last: FullReading,
    reading: FullReading,
    step: RateStep,
    seen: { readonly isNewRun: boolean; readonly sawPause: boolean },
  ): SampleFlag[] {
    const flags: SampleFlag[] = [];
    if (step.hasReset || seen.isNewRun) flags.push('counter-reset');
    const nominalMs = Math.max(last.nominalMs, reading.nominalMs);
    if (step.periodMs > GAP_PERIODS * nominalMs) flags.push('gap');
    if (seen.sawPause) flags.push('paused');
    if (isClockStep(last, reading)) flags.push('clock-step');
    const updatedS = reading.values.number('balloon.last-update');
    if (updatedS !== undefined && reading.wallMs - updatedS * 1000 > STALE_STATS_MS)
      flags.push('memory-stale');
    return flags;
  }

  #forget(): void {
    this.#last = undefined;
    this.#lastBlock = undefined;
    this.#wasPaused = false;
    this.#memoryUse.clear();
  }
}

/** Whether the time between two readings is known well enough to divide by. */
function isTimed(last: FullReading, now: FullReading, periodMs: number): boolean {
  return (last.waitMs + now.waitMs) / 2 <= periodMs * UNSURE_FRACTION_MAX;
}

/** Without the rate of instructions where the readings are of two counts, begun at different times. */
function sameRun(last: FullReading, now: FullReading, step: RateStep): RateStep {
  if (last.instructions?.run === now.instructions?.run) return step;
  const { instructions: _, ...perS } = step.perS;
  return { ...step, perS };
}

/** What a sample says of its instructions, besides their rate. */
export function executedIn(
  last: InstructionReading | undefined,
  now: InstructionReading | undefined,
): Pick<GuestSample, 'instructionsAt' | 'classes'> {
  if (now === undefined) return {};
  const classes = last && executedBetween(last, now)?.classes;
  return { instructionsAt: now.total, ...(classes !== undefined && { classes }) };
}

/** Whether the wall clock moved otherwise than the monotonic one between two readings. */
export function isClockStep(
  last: { readonly wallMs: number; readonly monotonicMs: number },
  now: { readonly wallMs: number; readonly monotonicMs: number },
): boolean {
  const drift = now.wallMs - last.wallMs - (now.monotonicMs - last.monotonicMs);
  return Math.abs(drift) > CLOCK_STEP_MS;
}

function countersOf({ monotonicMs, values, instructions }: FullReading): CounterReading {
  return {
    monotonicMs,
    counters: present({
      cpuNs: values.number('cpu.time'),
      swapInKib: values.number('balloon.swap_in'),
      swapOutKib: values.number('balloon.swap_out'),
      majorFaults: values.number('balloon.major_fault'),
      netRx: sumOver(values, 'net', 'rx.bytes'),
      netTx: sumOver(values, 'net', 'tx.bytes'),
      instructions: instructions?.total,
    }),
  };
}

function blockCounters(values: DomainStatValues): Readonly<Record<string, number>> | undefined {
  if (values.number('block.count') === undefined) return undefined;
  return present({
    read: sumOver(values, 'block', 'rd.bytes'),
    write: sumOver(values, 'block', 'wr.bytes'),
  });
}

/** Keys of a counter by device, made once: a sample of 1,000 guests would make thousands of strings. */
const deviceKeys = new Map<string, string[]>();

function keysOf(group: string, counter: string): readonly string[] {
  const name = `${group}/${counter}`;
  let keys = deviceKeys.get(name);
  if (keys === undefined) {
    keys = Array.from({ length: DEVICES_MAX }, (_, i) => `${group}.${i}.${counter}`);
    deviceKeys.set(name, keys);
  }
  return keys;
}

/** Sum over a group's devices; undefined when none reported the counter: a tapless interface has no statistics. */
function sumOver(values: DomainStatValues, group: string, counter: string): number | undefined {
  const count = Math.min(values.number(`${group}.count`) ?? 0, DEVICES_MAX);
  let sum: number | undefined;
  for (const key of keysOf(group, counter).slice(0, count)) {
    const value = values.number(key);
    if (value !== undefined) sum = (sum ?? 0) + value;
  }
  return sum;
}

function usageOf(
  step: RateStep,
  block: RateStep | undefined,
  memoryBytes: number | undefined,
): ResourceProfile {
  const { cpuNs, netRx, netTx, instructions } = step.perS;
  return present({
    cpuMillicores: cpuNs === undefined ? undefined : cpuNs / 1e6,
    memoryBytes,
    diskReadBytesPerS: block?.perS.read,
    diskWriteBytesPerS: block?.perS.write,
    netRxBytesPerS: netRx,
    netTxBytesPerS: netTx,
    instructionsPerS: instructions,
  });
}

/** Guest's own figures are left out once stale; the balloon's size and rss are the host's and stay. */
function memoryOf(values: DomainStatValues, step: RateStep, isStale: boolean): GuestSample['memory'] {
  const balloonKib = values.number('balloon.current');
  if (balloonKib === undefined) return undefined;
  const claims = isStale
    ? {}
    : {
        usableBytes: bytesOf(values.number('balloon.usable')),
        unusedBytes: bytesOf(values.number('balloon.unused')),
        availableBytes: bytesOf(values.number('balloon.available')),
        swapInBytesPerS: bytesOf(step.perS.swapInKib),
        swapOutBytesPerS: bytesOf(step.perS.swapOutKib),
        majorFaultsPerS: step.perS.majorFaults,
      };
  return {
    balloonBytes: balloonKib * KIB,
    ...present({ ...claims, rssBytes: bytesOf(values.number('balloon.rss')) }),
  };
}

function pressureOf(
  last: PressureReading | undefined,
  now: PressureReading | undefined,
  periodMs: number,
): GuestSample['pressure'] {
  if (last === undefined || now === undefined) return undefined;
  const share = (before: number | undefined, after: number | undefined) =>
    before === undefined || after === undefined || after < before
      ? undefined
      : Math.min(1, (after - before) / (periodMs * 1000));
  return present({
    cpuSome: share(last.cpuSomeUs, now.cpuSomeUs),
    memorySome: share(last.memorySomeUs, now.memorySomeUs),
    ioSome: share(last.ioSomeUs, now.ioSomeUs),
  });
}

function bytesOf(kib: number | undefined): number | undefined {
  return kib === undefined ? undefined : kib * KIB;
}

/** The fields that have a value: a missing one is absent, never undefined. */
function present<K extends string>(
  fields: { readonly [F in K]?: number | undefined },
): { readonly [F in K]?: number } {
  const kept: { [F in K]?: number } = {};
  for (const name of Object.keys(fields) as K[]) {
    const value = fields[name];
    if (value !== undefined) kept[name] = value;
  }
  return kept;
}
