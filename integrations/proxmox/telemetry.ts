import type { GuestId } from '../../orchestrator/core/guest.ts';
import type { GuestEvent, Telemetry } from '../../orchestrator/core/ports.ts';
import type { Cadence, GuestSample, Sampling } from '../../orchestrator/core/sample.ts';
import type { TimerClock } from '../../orchestrator/core/timer-clock.ts';
import { type GuestCatalog, READ_AT_ONCE } from './catalog.ts';
import { isMissing } from './errors.ts';
import type { GuestPoll } from './guest-poll.ts';
import { balloonOf } from './guest-status.ts';
import { EXPORT_PERIOD_MS, isNotOffered, type MetricsExport } from './metrics-export.ts';
import { fullReading, listedReading, type ReadingTime } from './readings.ts';
import { SampleTrack, unseenBytes } from './sample-track.ts';

/** Finest periods: `status/current` asks QEMU several things, and CPU shares are over a second at least. */
const FULL_MS_MIN = 2_000;
const FAST_MS_MIN = 1_000;
/** An export that was not offered is asked for again after this: privileges and versions change. */
const EXPORT_AGAIN_MS = 600_000;

interface Watched {
  readonly guest: GuestId;
  cadence: Exclude<Cadence, 'none'>;
  fullMs: number;
  fastMs: number;
  fullDueMs: number;
  fastDueMs: number;
  readonly full: SampleTrack;
  readonly fast: SampleTrack;
  /** Samples of the statistics daemon: their own course, since they are of other moments. */
  readonly exported: SampleTrack;
  /** Memory it does not see, which the export does not tell; absent: not asked yet. */
  unseenBytes?: number;
}

/**
 * Samples of watched guests. While a guest holds a lease: complete ones from its own status, and ones of CPU and network
 * from the node's list in between, one call for all guests. Otherwise from the export of metrics, one call each 10 s for
 * all guests; where that is not to be had, from each one's status.
 */
export class ProxmoxTelemetry implements Telemetry {
  readonly #catalog: GuestCatalog;
  readonly #export: MetricsExport;
  readonly #poll: GuestPoll;
  readonly #clock: TimerClock;
  readonly #sampling: Sampling;
  readonly #onFailure: (cause: unknown) => void;
  readonly #listeners = new Set<(sample: GuestSample) => void>();
  readonly #watched = new Map<GuestId, Watched>();
  readonly #unsubscribe: () => void;
  #exportDueMs = Number.NEGATIVE_INFINITY;
  /** Until then the export is taken for one that is not offered. */
  #noExportUntilMs = Number.NEGATIVE_INFINITY;
  #cancel: () => void = () => {};
  #inFlight: Promise<void> | undefined;
  #isClosed = false;

  constructor(
    parts: { readonly catalog: GuestCatalog; readonly metrics: MetricsExport; readonly poll: GuestPoll },
    options: {
      readonly clock: TimerClock;
      readonly sampling: Sampling;
      readonly onFailure: (cause: unknown) => void;
    },
  ) {
    this.#catalog = parts.catalog;
    this.#export = parts.metrics;
    this.#poll = parts.poll;
    this.#clock = options.clock;
    this.#sampling = options.sampling;
    this.#onFailure = options.onFailure;
    this.#unsubscribe = parts.poll.onEvent((event) => this.#onEvent(event));
  }

  onSample(listener: (sample: GuestSample) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  watch(guest: GuestId, cadence: Cadence, own: Partial<Sampling> = {}): void {
    if (cadence === 'none') {
      this.#watched.delete(guest);
    } else {
      this.#poll.follow(guest);
      const nowMs = this.#clock.monotonicMs();
      const { fullMs, fastMs } = { ...this.#sampling, ...own };
      const watched = this.#watched.get(guest) ?? newWatched(guest, nowMs);
      if (watched.cadence !== cadence) watched.fullDueMs = watched.fastDueMs = nowMs;
      watched.cadence = cadence;
      watched.fullMs = Math.max(FULL_MS_MIN, fullMs);
      watched.fastMs = Math.max(FAST_MS_MIN, fastMs);
      this.#watched.set(guest, watched);
    }
    this.#arm();
  }

  /** Nobody counts instructions here. */
  instructions(): undefined {
    return undefined;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancel();
    this.#unsubscribe();
    this.#listeners.clear();
    this.#watched.clear();
    await this.#inFlight;
  }

  /** Wake when something is due and nothing is under way; never while nothing is watched. */
  #arm(): void {
    this.#cancel();
    this.#cancel = () => {};
    const dueMs = this.#nextDueMs();
    if (this.#isClosed || this.#inFlight !== undefined || dueMs === Number.POSITIVE_INFINITY) return;
    this.#cancel = this.#clock.after(Math.max(0, dueMs - this.#clock.monotonicMs()), () => {
      this.#inFlight = this.#sampleDue().finally(() => {
        this.#inFlight = undefined;
        this.#arm();
      });
    });
  }

  #nextDueMs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const watched of this.#watched.values()) {
      const ownMs = this.#isExported(watched) ? this.#exportDueMs : watched.fullDueMs;
      next = Math.min(next, ownMs, watched.cadence === 'fast' ? watched.fastDueMs : next);
    }
    return next;
  }

  /** Whether a guest's complete samples come from the export. One that holds a lease is asked itself. */
  #isExported({ cadence }: Watched): boolean {
    return cadence === 'full' && this.#clock.monotonicMs() >= this.#noExportUntilMs;
  }

  async #sampleDue(): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    const all = [...this.#watched.values()];
    if (!this.#poll.available) {
      this.#postpone(all, nowMs);
      return;
    }
    const exported = all.filter((watched) => this.#isExported(watched));
    if (exported.length > 0 && this.#exportDueMs <= nowMs) await this.#try(() => this.#sampleExport());
    const fast = all.filter(({ cadence, fastDueMs }) => cadence === 'fast' && fastDueMs <= nowMs);
    if (fast.length > 0) await this.#try(() => this.#sampleList(fast));
    const full = all.filter((watched) => !exported.includes(watched) && watched.fullDueMs <= nowMs);
    for (const watched of full) watched.fullDueMs = nextDue(watched.fullDueMs, watched.fullMs, nowMs);
    for (let i = 0; i < full.length; i += READ_AT_ONCE) {
      const batch = full.slice(i, i + READ_AT_ONCE);
      await Promise.all(batch.map((watched) => this.#try(() => this.#sampleStatus(watched))));
    }
  }

  /** A node that does not answer is asked by the poll alone until it does. */
  #postpone(all: readonly Watched[], nowMs: number): void {
    this.#exportDueMs = Math.max(this.#exportDueMs, nowMs + FULL_MS_MIN);
    for (const watched of all) {
      watched.fullDueMs = nextDue(watched.fullDueMs, watched.fullMs, nowMs);
      watched.fastDueMs = nextDue(watched.fastDueMs, watched.fastMs, nowMs);
    }
  }

  /** A failed call leaves its samples out; the next is made when it is due. */
  async #try(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      if (!isMissing(cause)) this.#onFailure(cause);
    }
  }

  async #sampleStatus(watched: Watched): Promise<void> {
    const vmid = await this.#catalog.vmid(watched.guest);
    const askedAtMs = this.#clock.monotonicMs();
    const fields = await this.#catalog.status(vmid);
    const reading = fullReading(fields, this.#timeOf(askedAtMs, watched.fullMs));
    if (reading === undefined) clear(watched);
    else this.#emit(watched, watched.full.take(reading));
  }

  async #sampleList(due: readonly Watched[]): Promise<void> {
    const askedAtMs = this.#clock.monotonicMs();
    for (const watched of due) watched.fastDueMs = nextDue(watched.fastDueMs, watched.fastMs, askedAtMs);
    const listed = await this.#catalog.list();
    const byGuest = new Map(listed.map(({ vmid, fields }) => [this.#catalog.guestOf(vmid), fields]));
    for (const watched of due) {
      const fields = byGuest.get(watched.guest);
      const reading = fields && listedReading(fields, this.#timeOf(askedAtMs, watched.fastMs));
      if (reading === undefined) watched.fast.clear();
      else this.#emit(watched, watched.fast.take(reading));
    }
  }

  async #sampleExport(): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    this.#exportDueMs = nowMs + EXPORT_PERIOD_MS;
    const now = { wallMs: this.#clock.nowMs(), monotonicMs: nowMs, nominalMs: EXPORT_PERIOD_MS };
    try {
      for (const [vmid, readings] of await this.#export.newReadings(now)) {
        const watched = this.#watched.get(this.#catalog.guestOf(vmid) ?? '');
        if (watched === undefined) continue;
        const unseen = watched.unseenBytes ?? (await this.#unseenOf(vmid));
        if (unseen !== undefined) watched.unseenBytes = unseen;
        for (const reading of readings) {
          const whole = unseen === undefined ? reading : { ...reading, unseenBytes: unseen };
          this.#emit(watched, watched.exported.take(whole));
        }
      }
    } catch (cause) {
      if (!isNotOffered(cause)) throw cause;
      this.#noExportUntilMs = nowMs + EXPORT_AGAIN_MS;
      this.#onFailure(cause);
    }
  }

  /** Asked once of each guest; undefined where it does not answer, whose readings are not to be lost for it. */
  async #unseenOf(vmid: number): Promise<number | undefined> {
    try {
      return unseenBytes(balloonOf(await this.#catalog.status(vmid))) ?? 0;
    } catch (cause) {
      this.#onFailure(cause);
      return undefined;
    }
  }

  /** The middle of a call that was made at `askedAtMs` and has been answered now. */
  #timeOf(askedAtMs: number, nominalMs: number): ReadingTime {
    const halfMs = (this.#clock.monotonicMs() - askedAtMs) / 2;
    return { wallMs: this.#clock.nowMs() - halfMs, monotonicMs: askedAtMs + halfMs, nominalMs };
  }

  #onEvent(event: GuestEvent): void {
    const watched = this.#watched.get(event.guest);
    if (watched === undefined) return;
    if (event.kind === 'stopped' || event.kind === 'removed') clear(watched);
    if (event.kind !== 'paused' && event.kind !== 'resumed') return;
    for (const track of [watched.full, watched.fast, watched.exported]) track.notePause();
  }

  #emit(watched: Watched, sample: GuestSample | undefined): void {
    if (sample === undefined || this.#watched.get(watched.guest) !== watched) return;
    for (const listener of [...this.#listeners]) listener(sample);
  }
}

function newWatched(guest: GuestId, nowMs: number): Watched {
  return {
    guest,
    cadence: 'full',
    fullMs: FULL_MS_MIN,
    fastMs: FAST_MS_MIN,
    fullDueMs: nowMs,
    fastDueMs: nowMs,
    full: new SampleTrack(guest, 'full'),
    fast: new SampleTrack(guest, 'fast'),
    exported: new SampleTrack(guest, 'full'),
  };
}

function clear(watched: Watched): void {
  for (const track of [watched.full, watched.fast, watched.exported]) track.clear();
}

/** The first whole period after the due time that lies ahead. */
function nextDue(dueMs: number, periodMs: number, nowMs: number): number {
  return dueMs + Math.max(1, Math.ceil((nowMs - dueMs + 1) / periodMs)) * periodMs;
}
