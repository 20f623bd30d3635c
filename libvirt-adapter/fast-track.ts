import type { GuestId } from '../orchestrator/core/guest.ts';
import { SlidingReadings } from '../orchestrator/core/rates.ts';
import type { GuestSample, InstructionReading, SampleFlag } from '../orchestrator/core/sample.ts';
import { executedIn, GAP_PERIODS, isClockStep } from './full-track.ts';
import type { HostReading } from './host-readings.ts';
import { vcpuShares } from './vcpu-shares.ts';

/** Rates of fast samples are over this window, that of a full sample, so that peaks of both compare. */
export const FAST_WINDOW_MS = 1_000;
/** Shortest window that a sample is made of: a rate over less is mostly the clock tick of /proc/PID/stat, 10 ms. */
export const FAST_WINDOW_MS_MIN = 500;

/** All that one fast sample is made of. */
export interface FastReading {
  readonly wallMs: number;
  readonly monotonicMs: number;
  /** The time it was due after the one before. */
  readonly nominalMs: number;
  readonly host: HostReading;
  readonly instructions?: InstructionReading;
}

/** One guest's fast samples: each is over the second before it. */
export class FastTrack {
  readonly #guest: GuestId;
  readonly #window = new SlidingReadings(FAST_WINDOW_MS);
  /** Readings of the window, for what is not a plain counter. */
  #history: FastReading[] = [];
  #pausedUntilMs = Number.NEGATIVE_INFINITY;
  #pauseNoted = false;

  constructor(guest: GuestId) {
    this.#guest = guest;
  }

  /** The guest was paused or resumed since the last reading: so were the samples of the coming window. */
  notePause(): void {
    this.#pauseNoted = true;
  }

  /** Begin anew: the guest has another process, or was not read for a while. */
  clear(): void {
    this.#window.clear();
    this.#history = [];
  }

  /** The sample of the window that ends at `reading`; undefined while the window is too short. */
  take(reading: FastReading): GuestSample | undefined {
    const { monotonicMs, host, instructions } = reading;
    if (this.#pauseNoted) this.#pausedUntilMs = monotonicMs + FAST_WINDOW_MS;
    this.#pauseNoted = false;
    const last = this.#history.at(-1);
    const counters = {
      cpuNs: host.cpuNs,
      ...(instructions !== undefined && { instructions: instructions.total }),
    };
    const step = this.#window.push({ monotonicMs, counters });
    if (step?.hasReset) this.#history = [];
    this.#history.push(reading);
    if (last === undefined || step === undefined) return undefined;
    const startMs = monotonicMs - step.periodMs;
    while ((this.#history[0]?.monotonicMs ?? startMs) < startMs) this.#history.shift();
    if (step.periodMs < FAST_WINDOW_MS_MIN && !step.hasReset) return undefined;
    const [first] = this.#history;
    const vcpus = vcpuShares(first?.host, host, step.periodMs);
    const { cpuNs, instructions: instructionsPerS } = step.perS;
    return {
      guest: this.#guest,
      atMs: reading.wallMs,
      periodMs: step.periodMs,
      cadence: 'fast',
      usage: {
        ...(cpuNs !== undefined && { cpuMillicores: cpuNs / 1e6 }),
        ...(instructionsPerS !== undefined && { instructionsPerS }),
      },
      ...(vcpus !== undefined && { vcpus }),
      ...executedIn(first?.instructions, instructions),
      flags: this.#flags(last, reading, step.hasReset),
    };
  }

  #flags(last: FastReading, reading: FastReading, hasReset: boolean): SampleFlag[] {
    const flags: SampleFlag[] = [];
    if (hasReset) flags.push('counter-reset');
    const nominalMs = Math.max(last.nominalMs, reading.nominalMs);
    if (reading.monotonicMs - last.monotonicMs > GAP_PERIODS * nominalMs) flags.push('gap');
    if (reading.monotonicMs < this.#pausedUntilMs) flags.push('paused');
    if (isClockStep(last, reading)) flags.push('clock-step');
    return flags;
  }
}
