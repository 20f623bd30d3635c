import { AllocatorError } from '../orchestrator/core/errors.ts';
import type { GuestId } from '../orchestrator/core/guest.ts';
import type { Telemetry } from '../orchestrator/core/ports.ts';
import type { Cadence, GuestSample, InstructionReading, Sampling } from '../orchestrator/core/sample.ts';
import type { TimerClock } from '../orchestrator/core/timer-clock.ts';
import { systemClock } from './clock.ts';
import { type Beside, CutTrack } from './cut-track.ts';
import type { DomainCatalog } from './domain-catalog.ts';
import { eachDomain } from './domain-stats.ts';
import { instructionCounterFile } from './domain-xml.ts';
import { FastTrack } from './fast-track.ts';
import { FullTrack } from './full-track.ts';
import type { GuestReadings, HostReadings, OpenInstructionCounter } from './host-readings.ts';
import { type DomainRef, type Libvirt, LibvirtError, type StatsGroup } from './libvirt.ts';
import type { PerfEvents } from './perf-events.ts';
import { PerfTrack } from './perf-track.ts';
import { SamplingPlan, type SamplingPolicy } from './sampling-plan.ts';

/** How long a guest without a process or counter is left before it is looked for again. */
const LOOK_AGAIN_MS = 2_000;
/** Balloon statistics of a guest are asked for at this period while it is watched. */
const STATS_PERIOD_S = 1;
/** What a sampler does that is told nothing else. */
export const SAMPLING_POLICY: SamplingPolicy = {
  sampling: { fullMs: 1_000, fastMs: 100, instructionStep: 0 },
  idleMs: 5_000,
  cpuBudgetFraction: 0.1,
};

/** A call of a sample is given up after this; the next tick starts anew. */
const CALL_TIMEOUT_MS = 5_000;

/** Guests of one statistics call: samples of so many are made in 2 to 4 ms, and other work gets its turn between. */
const GUESTS_AT_ONCE = 100;

/** Groups of every full sample. `block` joins at its own cadence, `vcpu` where the host's readings are missing. */
const FULL_GROUPS: readonly StatsGroup[] = ['state', 'cpuTotal', 'balloon', 'interface'];

export interface TelemetryOptions {
  readonly clock?: TimerClock;
  readonly sampling?: SamplingPolicy;
  readonly openCounter?: OpenInstructionCounter;
  /** Absent: perf events are not read. */
  readonly perfEvents?: PerfEvents;
  /** Told of each failed sampling call; sampling goes on. */
  readonly onFailure?: (cause: unknown) => void;
}

interface Watched {
  readonly guest: GuestId;
  cadence: Cadence;
  readonly full: FullTrack;
  readonly fast: FastTrack;
  readonly cuts: CutTrack;
  /** Instructions between its cuts' samples when they were last made. */
  step: number;
  readonly perf: PerfTrack;
  /** Perf events of the guest are counted. */
  hasPerf: boolean;
  isPerfKnown: boolean;
  /** Times it was let go: what was begun before belongs to an earlier run of the guest. */
  run: number;
  /** What a sample of instructions alone is told beside them. */
  beside: Beside;
  readings: GuestReadings | undefined;
  counter: ReturnType<OpenInstructionCounter>;
  lookAgainAtMs: number;
  isLooking: boolean;
  isPeriodSet: boolean;
}

/**
 * Samples of watched guests, as a plan has them due: `full` ones from one libvirt call per 100 guests, `fast` ones from
 * procfs alone. A fast sample's rates are over a sliding second, so that its peaks compare with those of full samples.
 * Full samples that fall due before the last were answered are left out; the gap is flagged in those after them.
 */
export class LibvirtTelemetry implements Telemetry {
  readonly #libvirt: Libvirt;
  readonly #catalog: DomainCatalog;
  readonly #readings: HostReadings;
  readonly #clock: TimerClock;
  readonly #plan: SamplingPlan;
  readonly #openCounter: OpenInstructionCounter;
  readonly #perfEvents: PerfEvents | undefined;
  readonly #onFailure: (cause: unknown) => void;
  readonly #listeners = new Set<(sample: GuestSample) => void>();
  readonly #watched = new Map<GuestId, Watched>();
  readonly #unsubscribe: (() => void)[];
  #cancel: () => void = () => {};
  #inFlight: Promise<void> | undefined;
  #isClosed = false;

  constructor(
    libvirt: Libvirt,
    catalog: DomainCatalog,
    readings: HostReadings,
    options: TelemetryOptions = {},
  ) {
    this.#libvirt = libvirt;
    this.#catalog = catalog;
    this.#readings = readings;
    this.#clock = options.clock ?? systemClock;
    this.#plan = new SamplingPlan(options.sampling ?? SAMPLING_POLICY);
    this.#openCounter = options.openCounter ?? (() => undefined);
    this.#perfEvents = options.perfEvents;
    this.#onFailure = options.onFailure ?? (() => {});
    this.#unsubscribe = [
      libvirt.on('lifecycle', ({ domain, event }) => this.#onLifecycle(domain, event)),
      libvirt.onConnection(({ state }) => {
        if (state === 'connected') this.#onReturn();
      }),
    ];
  }

  onSample(listener: (sample: GuestSample) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  watch(guest: GuestId, cadence: Cadence, own: Partial<Sampling> = {}): void {
    const before = this.#watched.get(guest);
    if (cadence === 'none') {
      if (before !== undefined) letGo(before);
      // Whatever is not ours is left on.
      this.#perfEvents?.release(this.#catalog.ref(guest)).catch((cause: unknown) => this.#fail(cause));
      this.#watched.delete(guest);
      this.#plan.forget(guest);
    } else {
      const watched = before ?? this.#start(guest);
      if (cadence === 'fast' && watched.cadence !== 'fast') watched.fast.clear();
      watched.cadence = cadence;
      this.#plan.watch(guest, cadence, own, this.#clock.monotonicMs());
    }
    this.#arm();
  }

  instructions(guest: GuestId): InstructionReading | undefined {
    return this.#watched.get(guest)?.counter?.read();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancel();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#listeners.clear();
    for (const watched of this.#watched.values()) letGo(watched);
    this.#watched.clear();
    await this.#inFlight;
  }

  #start(guest: GuestId): Watched {
    const watched: Watched = {
      guest,
      cadence: 'none',
      full: new FullTrack(guest),
      fast: new FastTrack(guest),
      cuts: new CutTrack(guest),
      step: 0,
      perf: new PerfTrack(),
      hasPerf: false,
      isPerfKnown: false,
      run: 0,
      beside: {},
      readings: undefined,
      counter: undefined,
      lookAgainAtMs: Number.NEGATIVE_INFINITY,
      isLooking: false,
      isPeriodSet: false,
    };
    this.#watched.set(guest, watched);
    return watched;
  }

  /** Wake when something is due; never while nothing is watched. */
  #arm(): void {
    this.#cancel();
    this.#cancel = () => {};
    const dueMs = this.#plan.nextMs();
    if (this.#isClosed || dueMs === Number.POSITIVE_INFINITY) return;
    this.#cancel = this.#clock.after(Math.max(0, dueMs - this.#clock.monotonicMs()), () => {
      this.#tick();
      this.#arm();
    });
  }

  #tick(): void {
    const nowMs = this.#clock.monotonicMs();
    if (this.#inFlight !== undefined || this.#libvirt.connection.state !== 'connected') {
      this.#plan.postponeFull(nowMs);
    } else {
      const { rich, plain } = this.#plan.takeFull(nowMs);
      if (rich.length + plain.length > 0) this.#beginFull(rich, plain);
    }
    const due = this.#plan.takeFast(nowMs);
    for (const guest of due) this.#sampleFast(guest);
    if (due.length > 0) this.#spend(nowMs);
  }

  #beginFull(rich: readonly GuestId[], plain: readonly GuestId[]): void {
    this.#inFlight = this.#sampleFull(rich, plain)
      .catch((cause: unknown) => this.#fail(cause))
      .finally(() => {
        this.#inFlight = undefined;
      });
  }

  async #sampleFull(rich: readonly GuestId[], plain: readonly GuestId[]): Promise<void> {
    for (const guest of [...rich, ...plain]) this.#look(guest);
    await this.#sampleAll(rich, [...FULL_GROUPS, 'block']);
    await this.#sampleAll(plain, FULL_GROUPS);
  }

  async #sampleAll(all: readonly GuestId[], groups: readonly StatsGroup[]): Promise<void> {
    for (let i = 0; i < all.length; i += GUESTS_AT_ONCE) {
      // Guests whose hypervisor does not answer do not take the samples of the others with them.
      await this.#sampleSome(all.slice(i, i + GUESTS_AT_ONCE), groups).catch((cause: unknown) =>
        this.#fail(cause),
      );
    }
  }

  async #sampleSome(guests: readonly GuestId[], groups: readonly StatsGroup[]): Promise<void> {
    const domains = guests.map((guest) => this.#catalog.ref(guest));
    const askedAtMs = this.#clock.monotonicMs();
    const hasPerf = guests.some((guest) => this.#watched.get(guest)?.hasPerf);
    const asked: readonly StatsGroup[] = hasPerf ? [...groups, 'perf'] : groups;
    const stats = await this.#libvirt.allDomainStats(asked, { domains, timeoutMs: CALL_TIMEOUT_MS });
    const answeredAtMs = this.#clock.monotonicMs();
    const waitMs = answeredAtMs - askedAtMs;
    this.#plan.asked(guests.length, groups.includes('block'), waitMs);
    const wallMs = this.#clock.nowMs() - waitMs / 2;
    const monotonicMs = askedAtMs + waitMs / 2;
    eachDomain(stats, (domain, values) => {
      const watched = this.#watched.get(domain.uuid.toLowerCase());
      if (watched === undefined) return;
      const { readings, counter, guest } = watched;
      const pressure = watched.cadence === 'fast' ? readings?.pressure() : undefined;
      const step = watched.hasPerf ? watched.perf.take(values) : undefined;
      const instructions = counter?.read() ?? step?.instructions;
      const sample = watched.full.take({
        wallMs,
        monotonicMs,
        waitMs,
        nominalMs: this.#plan.fullPeriodOf(guest, answeredAtMs),
        runId: domain.id,
        values,
        host: readings?.read(),
        ...(pressure !== undefined && { pressure }),
        ...(instructions !== undefined && { instructions }),
        ...(step !== undefined && { hardware: step.hardware }),
      });
      if (sample === undefined) return;
      this.#plan.saw(sample, answeredAtMs);
      this.#emit(sample);
      watched.beside = besideOf(sample, watched.beside);
      this.#emitCuts(watched);
    });
    this.#spend(answeredAtMs);
  }

  #sampleFast(guest: GuestId): void {
    const watched = this.#watched.get(guest);
    const sampling = this.#plan.samplingOf(guest);
    if (watched === undefined || sampling === undefined) return;
    this.#look(guest);
    const host = watched.readings?.read();
    if (host === undefined) {
      if (watched.readings !== undefined) letGo(watched);
      watched.fast.clear();
      return;
    }
    const instructions = watched.counter?.read();
    const sample = watched.fast.take({
      wallMs: this.#clock.nowMs(),
      monotonicMs: this.#clock.monotonicMs(),
      nominalMs: sampling.fastMs,
      host,
      ...(instructions !== undefined && { instructions }),
    });
    if (sample === undefined) return;
    this.#emit(sample);
    watched.beside = besideOf(sample, watched.beside);
    this.#emitCuts(watched);
  }

  #emitCuts(watched: Watched): void {
    const { guest, counter, cuts, beside } = watched;
    const step = this.#plan.samplingOf(guest)?.instructionStep ?? 0;
    if (step === 0 && watched.step === 0) return;
    const fresh = counter?.newCuts();
    // What was cut while nobody asked, or under another step, is no step of this one.
    if (step !== watched.step) cuts.clear();
    const isFirst = step !== watched.step;
    watched.step = step;
    if (fresh === undefined || isFirst) return;
    for (const sample of cuts.take(fresh, step, this.#clock.nowMs(), beside)) this.#emit(sample);
  }

  /** Weigh the thread's time since `fromMs`, listeners' work included, against the budget. */
  #spend(fromMs: number): void {
    const nowMs = this.#clock.monotonicMs();
    this.#plan.spent(nowMs - fromMs, nowMs);
  }

  /** Find what a guest lacks: its process, its instruction counter, its statistics period. */
  #look(guest: GuestId): void {
    const watched = this.#watched.get(guest);
    if (watched === undefined) return;
    const isComplete = watched.readings !== undefined && watched.isPeriodSet && watched.isPerfKnown;
    if (isComplete || watched.isLooking || this.#clock.monotonicMs() < watched.lookAgainAtMs) return;
    watched.isLooking = true;
    watched.lookAgainAtMs = this.#clock.monotonicMs() + LOOK_AGAIN_MS;
    this.#equip(watched)
      .catch((cause: unknown) => this.#fail(cause))
      .finally(() => {
        watched.isLooking = false;
      });
  }

  async #equip(watched: Watched): Promise<void> {
    const { guest, run } = watched;
    /** Neither let go nor started anew while a call was under way. */
    const isCurrent = (): boolean => this.#watched.get(guest) === watched && watched.run === run;
    if (watched.readings === undefined) {
      const readings = await this.#readings.open(guest);
      if (!isCurrent()) {
        readings?.close();
        return;
      }
      watched.readings = readings;
    }
    if (this.#libvirt.connection.state !== 'connected') return;
    const domain = await this.#catalog.devices(guest);
    if (!isCurrent()) return;
    const file = instructionCounterFile(domain);
    if (file !== undefined && watched.readings !== undefined) watched.counter ??= this.#openCounter(file);
    if (domain.hasBalloon && !watched.isPeriodSet) {
      await this.#libvirt.setMemoryStatsPeriod(this.#catalog.ref(guest), STATS_PERIOD_S, { live: true });
      if (!isCurrent()) return;
    }
    watched.isPeriodSet = true;
    if (watched.isPerfKnown) return;
    const hasPerf = await this.#countsPerf(guest);
    if (!isCurrent()) return;
    watched.hasPerf = hasPerf;
    watched.isPerfKnown = true;
  }

  /** Whether perf events of the guest are counted; a libvirt that knows none counts none. */
  async #countsPerf(guest: GuestId): Promise<boolean> {
    try {
      const counted = await this.#perfEvents?.enable(this.#catalog.ref(guest));
      return counted !== undefined && counted.length > 0;
    } catch (cause) {
      if (cause instanceof AllocatorError && cause.code === 'NOT_SUPPORTED') return false;
      throw cause;
    }
  }

  #onLifecycle(domain: DomainRef, event: string): void {
    const watched = this.#watched.get(domain.uuid.toLowerCase());
    if (watched === undefined) return;
    if (event === 'suspended' || event === 'resumed' || event === 'pmsuspended') {
      watched.full.notePause();
      watched.fast.notePause();
    } else if (event === 'started' || event === 'stopped' || event === 'crashed') {
      letGo(watched);
      watched.fast.clear();
    }
  }

  /** The daemon is back: its events of meanwhile are lost, and it may have lost the statistics period. */
  #onReturn(): void {
    for (const watched of this.#watched.values()) {
      watched.isPeriodSet = false;
      watched.isPerfKnown = false;
      watched.lookAgainAtMs = Number.NEGATIVE_INFINITY;
    }
  }

  #emit(sample: GuestSample): void {
    for (const listener of [...this.#listeners]) listener(sample);
  }

  /** Sampling outlives failed calls: the hypervisor's availability is told elsewhere, a gap shows in the samples. */
  #fail(cause: unknown): void {
    if (!(cause instanceof LibvirtError)) this.#onFailure(cause);
    else if (this.#libvirt.connection.state === 'connected') this.#onFailure(cause);
  }
}

function besideOf({ usage, vcpus }: GuestSample, before: Beside): Beside {
  const memoryBytes = usage.memoryBytes ?? before.memoryBytes;
  return { ...(memoryBytes !== undefined && { memoryBytes }), ...(vcpus !== undefined && { vcpus }) };
}

function letGo(watched: Watched): void {
  watched.readings?.close();
  watched.counter?.close();
  watched.readings = undefined;
  watched.counter = undefined;
  watched.isPeriodSet = false;
  watched.hasPerf = false;
  watched.isPerfKnown = false;
  watched.run += 1;
  watched.perf.clear();
  watched.lookAgainAtMs = Number.NEGATIVE_INFINITY;
}
