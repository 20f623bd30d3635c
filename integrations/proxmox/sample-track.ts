import type { GuestId } from '../../orchestrator/core/guest.ts';
import type { ResourceProfile } from '../../orchestrator/core/profile.ts';
import { type RateStep, rateStep } from '../../orchestrator/core/rates.ts';
import type { GuestSample, SampleFlag } from '../../orchestrator/core/sample.ts';
import type { BalloonReading } from './guest-status.ts';

/** Wall and monotonic clock may part by this much in one period before it is called a step. */
const CLOCK_STEP_MS = 1_000;
/** A period longer than this many nominal ones is a gap. */
const GAP_PERIODS = 2;
/** Proxmox VE has balloon drivers tell each 2 s; a guest that has not for five times that does not. */
const STALE_MS = 10_000;

type Kind = Exclude<GuestSample['cadence'], 'cut'>;

/** One reading of one running guest. What is absent was not read. */
export interface GuestReading {
  readonly wallMs: number;
  readonly monotonicMs: number;
  /** The time it was due after the one before. */
  readonly nominalMs: number;
  /** Which start of the guest it is of. */
  readonly run: string;
  readonly isPaused: boolean;
  readonly cpuMillicores: number | undefined;
  /** Cumulative, by name: diskRead, diskWrite, netRx, netTx, in bytes. */
  readonly counters: Readonly<Record<string, number>>;
  /** Memory that the guest uses, by its own account, of what it sees. */
  readonly usedBytes?: number;
  readonly rssBytes?: number;
  readonly balloon?: BalloonReading;
  /** Memory of the guest that it does not see, where its balloon is not read with it. */
  readonly unseenBytes?: number;
  readonly pressure?: NonNullable<GuestSample['pressure']>;
}

/** One guest's samples of one cadence: turns readings into rates and says which of them not to trust. */
export class SampleTrack {
  readonly #guest: GuestId;
  readonly #cadence: Kind;
  #last: GuestReading | undefined;
  #wasPaused = false;
  /** Memory of the guest that it does not see: its kernel's own. */
  #unseenBytes = 0;

  constructor(guest: GuestId, cadence: Kind) {
    this.#guest = guest;
    this.#cadence = cadence;
  }

  /** The guest was paused or resumed since the last reading. */
  notePause(): void {
    this.#wasPaused = true;
  }

  /** Begin anew: the guest is off. */
  clear(): void {
    this.#last = undefined;
    this.#wasPaused = false;
  }

  /** The sample that ends at `reading`; undefined for the first, and where no time has passed. */
  take(reading: GuestReading): GuestSample | undefined {
    const last = this.#last;
    const sawPause = this.#wasPaused || reading.isPaused;
    this.#unseenBytes = unseenBytes(reading.balloon) ?? reading.unseenBytes ?? this.#unseenBytes;
    if (last !== undefined && reading.monotonicMs <= last.monotonicMs) return undefined;
    this.#wasPaused = reading.isPaused;
    this.#last = reading;
    const step = last && rateStep(timed(last), timed(reading));
    if (last === undefined || step === undefined) return undefined;
    const isNewRun = last.run !== reading.run;
    const flags = flagsOf(last, reading, { hasReset: step.hasReset || isNewRun, sawPause });
    const rates = isNewRun ? { ...step, perS: {} } : step;
    const memory = memoryOf(rates, reading, flags.includes('memory-stale'));
    return {
      guest: this.#guest,
      atMs: reading.wallMs,
      periodMs: step.periodMs,
      cadence: this.#cadence,
      usage: this.#usage(rates, reading, flags.includes('memory-stale')),
      ...(memory !== undefined && { memory }),
      ...(reading.pressure !== undefined && { pressure: reading.pressure }),
      flags,
    };
  }

  #usage({ perS }: RateStep, { cpuMillicores, usedBytes }: GuestReading, isStale: boolean): ResourceProfile {
    return present({
      cpuMillicores,
      memoryBytes: usedBytes === undefined || isStale ? undefined : usedBytes + this.#unseenBytes,
      diskReadBytesPerS: perS.diskRead,
      diskWriteBytesPerS: perS.diskWrite,
      netRxBytesPerS: perS.netRx,
      netTxBytesPerS: perS.netTx,
    });
  }
}

/** Memory of a guest that is its kernel's own; undefined where its balloon does not tell. */
export function unseenBytes(balloon: BalloonReading | undefined): number | undefined {
  if (balloon?.totalBytes === undefined) return undefined;
  return Math.max(0, balloon.actualBytes - balloon.totalBytes);
}

function timed({ monotonicMs, counters, balloon }: GuestReading) {
  return {
    monotonicMs,
    counters: {
      ...counters,
      ...present({
        swapIn: balloon?.swapInBytes,
        swapOut: balloon?.swapOutBytes,
        majorFaults: balloon?.majorFaults,
      }),
    },
  };
}

function flagsOf(
  last: GuestReading,
  reading: GuestReading,
  seen: { readonly hasReset: boolean; readonly sawPause: boolean },
): SampleFlag[] {
  const flags: SampleFlag[] = [];
  const periodMs = reading.monotonicMs - last.monotonicMs;
  if (seen.hasReset) flags.push('counter-reset');
  if (periodMs > GAP_PERIODS * Math.max(last.nominalMs, reading.nominalMs)) flags.push('gap');
  if (seen.sawPause) flags.push('paused');
  if (Math.abs(reading.wallMs - last.wallMs - periodMs) > CLOCK_STEP_MS) flags.push('clock-step');
  const toldAtS = reading.balloon?.toldAtS;
  if (toldAtS !== undefined && reading.wallMs - toldAtS * 1000 > STALE_MS) flags.push('memory-stale');
  return flags;
}

/** The guest's own figures are left out once stale; the balloon's size and rss are the host's and stay. */
function memoryOf(
  { perS }: RateStep,
  { balloon, rssBytes }: GuestReading,
  isStale: boolean,
): GuestSample['memory'] {
  if (balloon === undefined) return undefined;
  const claims = isStale
    ? {}
    : {
        unusedBytes: balloon.freeBytes,
        availableBytes: balloon.totalBytes,
        swapInBytesPerS: perS.swapIn,
        swapOutBytesPerS: perS.swapOut,
        majorFaultsPerS: perS.majorFaults,
      };
  return { balloonBytes: balloon.actualBytes, ...present({ ...claims, rssBytes }) };
}

/** The fields that have a value: a missing one is absent, never undefined. */
function present<K extends string>(
  fields: { readonly [F in K]?: number | undefined },
): {
  readonly [F in K]?: number;
} {
  const kept: { [F in K]?: number } = {};
  for (const name of Object.keys(fields) as K[]) {
    const value = fields[name];
    if (value !== undefined) kept[name] = value;
  }
  return kept;
}
