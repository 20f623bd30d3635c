import type { GuestId } from '../orchestrator/core/guest.ts';
import type { Telemetry } from '../orchestrator/core/ports.ts';
import type { GuestSample, InstructionReading } from '../orchestrator/core/sample.ts';
import { systemClock, type TimerClock } from './clock.ts';
import type { DomainCatalog } from './domain-catalog.ts';
import { eachDomain } from './domain-stats.ts';
import { instructionCounterFile } from './domain-xml.ts';
import { FastTrack } from './fast-track.ts';
import { FullTrack } from './full-track.ts';
import type { GuestReadings, HostReadings, OpenInstructionCounter } from './host-readings.ts';
import { type DomainRef, type Libvirt, LibvirtError, type StatsGroup } from './libvirt.ts';

/** Cadences, ms. */
export interface TelemetryPeriods {
  /** `full` samples of every watched guest. */
  readonly fullMs: number;
  /** `fast` samples of guests watched fast. */
  readonly fastMs: number;
  /**
   * Block statistics of guests that are not watched fast: they cost a monitor query per guest, the dearest of all
   * groups. Guests watched fast have them in every full sample.
   */
  readonly blockMs: number;
}

export const TELEMETRY_PERIODS: TelemetryPeriods = { fullMs: 1_000, fastMs: 100, blockMs: 10_000 };

/** How long a guest without a process or counter is left before it is looked for again. */
const LOOK_AGAIN_MS = 2_000;
/** Balloon statistics of a guest are asked for at this period while it is watched. */
const STATS_PERIOD_S = 1;
/** A call of a sample is given up after this; the next tick starts anew. */
const CALL_TIMEOUT_MS = 5_000;

/** Guests of one statistics call: samples of so many are made in 2 to 4 ms, and other work gets its turn between. */
const GUESTS_AT_ONCE = 100;

/** Groups of every full sample. `block` joins at its own cadence, `vcpu` where the host's readings are missing. */
const FULL_GROUPS: readonly StatsGroup[] = ['state', 'cpuTotal', 'balloon', 'interface'];

export interface TelemetryOptions {
  readonly clock?: TimerClock;
  readonly periods?: TelemetryPeriods;
  readonly openCounter?: OpenInstructionCounter;
  /** Told of each failed sampling call; sampling goes on. */
  readonly onFailure?: (cause: unknown) => void;
}

interface Watched {
  readonly guest: GuestId;
  isFast: boolean;
  readonly full: FullTrack;
  readonly fast: FastTrack;
  readings: GuestReadings | undefined;
  counter: ReturnType<OpenInstructionCounter>;
  lookAgainAtMs: number;
  isLooking: boolean;
  isPeriodSet: boolean;
}

/**
 * Samples of watched guests: `full` ones each second from one libvirt call per 100 guests, `fast` ones from procfs alone.
 * A fast sample's rates are over a sliding second, so that its peaks compare with those of full samples. A tick that
 * finds the one before it unanswered is left out; the gap is flagged in the sample after it.
 */
export class LibvirtTelemetry implements Telemetry {
  readonly #libvirt: Libvirt;
  readonly #catalog: DomainCatalog;
  readonly #readings: HostReadings;
  readonly #clock: TimerClock;
  readonly #periods: TelemetryPeriods;
  readonly #openCounter: OpenInstructionCounter;
  readonly #onFailure: (cause: unknown) => void;
  readonly #listeners = new Set<(sample: GuestSample) => void>();
  readonly #watched = new Map<GuestId, Watched>();
  readonly #fast = new Set<GuestId>();
  readonly #unsubscribe: (() => void)[];
  #cancelFull: (() => void) | undefined;
  #cancelFast: (() => void) | undefined;
  #inFlight: Promise<void> | undefined;
  #blockAtMs = Number.NEGATIVE_INFINITY;
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
    this.#periods = options.periods ?? TELEMETRY_PERIODS;
    this.#openCounter = options.openCounter ?? (() => undefined);
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

  watch(guest: GuestId, cadence: 'full' | 'fast' | 'none'): void {
    const before = this.#watched.get(guest);
    if (cadence === 'none') {
      if (before !== undefined) letGo(before);
      this.#watched.delete(guest);
    } else {
      const watched = before ?? this.#start(guest);
      watched.isFast = cadence === 'fast';
      if (watched.isFast && !this.#fast.has(guest)) watched.fast.clear();
    }
    if (cadence === 'fast') this.#fast.add(guest);
    else this.#fast.delete(guest);
    this.#schedule();
  }

  instructions(guest: GuestId): InstructionReading | undefined {
    return instructionsOf(this.#watched.get(guest)?.counter);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#schedule();
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#listeners.clear();
    for (const watched of this.#watched.values()) letGo(watched);
    this.#watched.clear();
    this.#fast.clear();
    await this.#inFlight;
  }

  #start(guest: GuestId): Watched {
    const watched: Watched = {
      guest,
      isFast: false,
      full: new FullTrack(guest, this.#periods.fullMs),
      fast: new FastTrack(guest, this.#periods.fastMs),
      readings: undefined,
      counter: undefined,
      lookAgainAtMs: Number.NEGATIVE_INFINITY,
      isLooking: false,
      isPeriodSet: false,
    };
    this.#watched.set(guest, watched);
    return watched;
  }

  // Both loops run only while there is something to read, each tick setting the next by its own period.
  #schedule(): void {
    const hasAny = !this.#isClosed && this.#watched.size > 0;
    const hasFast = !this.#isClosed && this.#fast.size > 0;
    if (!hasAny) this.#cancelFull = void this.#cancelFull?.();
    else this.#cancelFull ??= this.#repeat(this.#periods.fullMs, () => this.#tickFull());
    if (!hasFast) this.#cancelFast = void this.#cancelFast?.();
    else this.#cancelFast ??= this.#repeat(this.#periods.fastMs, () => this.#tickFast());
  }

  /** Run at once and then every `periodMs`, without drift: a late tick does not move the later ones. */
  #repeat(periodMs: number, tick: () => void): () => void {
    let isStopped = false;
    let dueMs = this.#clock.monotonicMs();
    let cancel: () => void = () => {};
    const run = () => {
      if (isStopped) return;
      tick();
      const nowMs = this.#clock.monotonicMs();
      dueMs += periodMs;
      if (dueMs <= nowMs) dueMs = nowMs + periodMs;
      cancel = this.#clock.after(dueMs - nowMs, run);
    };
    cancel = this.#clock.after(0, run);
    return () => {
      isStopped = true;
      cancel();
    };
  }

  #tickFull(): void {
    if (this.#inFlight !== undefined || this.#libvirt.connection.state !== 'connected') return;
    this.#inFlight = this.#sampleFull()
      .catch((cause: unknown) => this.#fail(cause))
      .finally(() => {
        this.#inFlight = undefined;
      });
  }

  async #sampleFull(): Promise<void> {
    const all = [...this.#watched.values()];
    for (const watched of all) this.#look(watched);
    const isBlockDue = this.#clock.monotonicMs() - this.#blockAtMs >= this.#periods.blockMs;
    if (isBlockDue) this.#blockAtMs = this.#clock.monotonicMs();
    const rich = all.filter((watched) => watched.isFast || isBlockDue);
    const plain = all.filter((watched) => !rich.includes(watched));
    await this.#sampleAll(rich, [...FULL_GROUPS, 'block']);
    await this.#sampleAll(plain, FULL_GROUPS);
  }

  async #sampleAll(all: readonly Watched[], groups: readonly StatsGroup[]): Promise<void> {
    for (let i = 0; i < all.length; i += GUESTS_AT_ONCE) {
      await this.#sampleSome(all.slice(i, i + GUESTS_AT_ONCE), groups);
    }
  }

  async #sampleSome(group: readonly Watched[], groups: readonly StatsGroup[]): Promise<void> {
    const domains = group.map(({ guest }) => this.#catalog.ref(guest));
    const askedAtMs = this.#clock.monotonicMs();
    const stats = await this.#libvirt.allDomainStats(groups, { domains, timeoutMs: CALL_TIMEOUT_MS });
    const waitMs = this.#clock.monotonicMs() - askedAtMs;
    const wallMs = this.#clock.nowMs() - waitMs / 2;
    const monotonicMs = askedAtMs + waitMs / 2;
    eachDomain(stats, (domain, values) => {
      const watched = this.#watched.get(domain.uuid.toLowerCase());
      if (watched === undefined) return;
      const { readings, counter } = watched;
      const pressure = watched.isFast ? readings?.pressure() : undefined;
      const instructions = instructionsOf(counter);
      const sample = watched.full.take({
        wallMs,
        monotonicMs,
        waitMs,
        runId: domain.id,
        values,
        host: readings?.read(),
        ...(pressure !== undefined && { pressure }),
        ...(instructions !== undefined && { instructions }),
      });
      if (sample !== undefined) this.#emit(sample);
    });
  }

  #tickFast(): void {
    for (const watched of this.#watched.values()) {
      if (!watched.isFast) continue;
      this.#look(watched);
      const host = watched.readings?.read();
      if (host === undefined) {
        if (watched.readings !== undefined) letGo(watched);
        watched.fast.clear();
        continue;
      }
      const instructions = instructionsOf(watched.counter);
      const sample = watched.fast.take({
        wallMs: this.#clock.nowMs(),
        monotonicMs: this.#clock.monotonicMs(),
        host,
        ...(instructions !== undefined && { instructions }),
      });
      if (sample !== undefined) this.#emit(sample);
    }
  }

  /** Find what a guest lacks: its process, its instruction counter, its statistics period. */
  #look(watched: Watched): void {
    const isComplete = watched.readings !== undefined && watched.isPeriodSet;
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
    const { guest } = watched;
    if (watched.readings === undefined) {
      const readings = await this.#readings.open(guest);
      if (this.#watched.get(guest) !== watched) {
        readings?.close();
        return;
      }
      watched.readings = readings;
    }
    if (this.#libvirt.connection.state !== 'connected') return;
    const domain = await this.#catalog.devices(guest);
    const file = instructionCounterFile(domain);
    if (file !== undefined && watched.readings !== undefined && this.#watched.get(guest) === watched) {
      watched.counter ??= this.#openCounter(file);
    }
    if (domain.hasBalloon && !watched.isPeriodSet) {
      await this.#libvirt.setMemoryStatsPeriod(this.#catalog.ref(guest), STATS_PERIOD_S, { live: true });
    }
    watched.isPeriodSet = true;
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

function instructionsOf(counter: ReturnType<OpenInstructionCounter>): InstructionReading | undefined {
  const total = counter?.read();
  return total === undefined ? undefined : { run: '', total: Number(total) };
}

function letGo(watched: Watched): void {
  watched.readings?.close();
  watched.counter?.close();
  watched.readings = undefined;
  watched.counter = undefined;
  watched.isPeriodSet = false;
  watched.lookAgainAtMs = Number.NEGATIVE_INFINITY;
}
