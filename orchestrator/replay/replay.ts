import assert from 'node:assert';
import { AllocatorError } from '../core/errors.ts';
import { hasEnded } from '../core/lease.ts';
import { predictedNeed } from '../core/needs.ts';
import { planOf } from '../core/plan.ts';
import type { Forecaster, LeaseLedger } from '../core/ports.ts';
import { type AllocationRequest, TTL_MS_DEFAULT } from '../core/request.ts';
import type { GuestSample } from '../core/sample.ts';
import { Engine } from '../engine/engine.ts';
import type { Log } from '../engine/log.ts';
import type { EnginePolicy } from '../engine/policy.ts';
import { Agenda } from './agenda.ts';
import { type DecisionCounts, DecisionLog } from './decision-log.ts';
import { Pace } from './pace.ts';
import { RecordedHypervisor } from './recorded-guests.ts';
import { RecordedTelemetry } from './recorded-telemetry.ts';
import { RefusingActuators } from './refusing-actuators.ts';
import { type Recorded, type RecordedEvent, type RecordedRequest, recordedEvents } from './shadow-rows.ts';
import type { Stretch } from './stretch.ts';
import { VirtualClock } from './virtual-clock.ts';

export interface ReplayParts {
  readonly shadow: Recorded;
  readonly stretch: Stretch;
  /** One that has learned nothing: what it is taught here is the record's. */
  readonly forecaster: Forecaster;
  /** An empty one; nothing of it is kept. */
  readonly ledger: LeaseLedger;
  readonly policy: EnginePolicy;
  /** Played time over real time; Infinity: as fast as it goes. */
  readonly speed: number;
  /** Each guest that was sampled since is forecast on its own, without a request, this often; 0: never. */
  readonly forecastEveryMs: number;
  /** Takes the decision log, line by line. */
  readonly sink: (text: string) => void;
  /** Told the share of the stretch that has been played, in [0, 1]. */
  readonly onProgress?: (fraction: number, atMs: number) => void;
}

export interface ReplayResult extends DecisionCounts {
  readonly samples: number;
  readonly requests: number;
  /** Of the decision log. */
  readonly sha256: string;
  readonly seconds: number;
  /** Played time over real time. */
  readonly speedUp: number;
  readonly playedToMs: number;
  /** True when the signal ended it before the stretch did. */
  readonly isCut: boolean;
}

/** What happens at one moment happens in this order; samples and requests are those of the record. */
const ORDER = { sample: 0, release: 1, request: 2, forecast: 3, tick: 4 } as const;

/** A lease is never left to its time to live while the record says that its request goes on. */
const TTL_MARGIN_MS = TTL_MS_DEFAULT;

/**
 * Plays a stretch of the shadow into an engine in shadow mode, as if live. Time is the record's; nothing reads a real clock
 * or is random, and the engine has come to rest before the next thing happens: the same record gives the same decisions.
 */
export class Replay {
  readonly #parts: ReplayParts;
  readonly #clock: VirtualClock;
  readonly #hypervisor: RecordedHypervisor;
  readonly #telemetry = new RecordedTelemetry();
  readonly #actuators = new RefusingActuators();
  readonly #log: DecisionLog;
  readonly #engine: Engine;
  readonly #pace: Pace;
  readonly #ends = new Agenda();
  /** Leases that have not ended, and how many decisions of each were written. */
  readonly #open = new Map<string, { readonly expiresAtMs: number; decisions: number }>();
  /** Leases the engine spoke of since they were last looked at. */
  readonly #touched = new Set<string>();
  /** Guests that were sampled since they were last forecast, by number. */
  readonly #sampled = new Set<number>();
  #forecastAtMs = Number.POSITIVE_INFINITY;
  #tickAtMs = Number.POSITIVE_INFINITY;
  #ids = 0;
  #samples = 0;
  #requests = 0;

  constructor(parts: ReplayParts) {
    const { stretch, policy } = parts;
    this.#parts = parts;
    this.#clock = new VirtualClock(stretch.fromMs);
    this.#hypervisor = new RecordedHypervisor(stretch);
    this.#log = new DecisionLog(parts.sink);
    this.#pace = new Pace(parts.speed, stretch.fromMs);
    this.#engine = new Engine(
      {
        clock: this.#clock,
        forecaster: parts.forecaster,
        ledger: parts.ledger,
        hypervisor: this.#hypervisor,
        actuators: this.#actuators.byResource,
        window: { see: async () => undefined },
        telemetry: this.#telemetry,
        log: this.#engineLog(),
        newId: () => this.#newId(),
        pause: () => assert.fail('nothing moves in shadow mode, so there is nothing to wait for'),
      },
      { ...policy, mode: 'shadow' },
    );
  }

  /** Play the stretch to its end, or until the signal aborts. @throws {ShadowError} as a query does */
  async run(signal: AbortSignal): Promise<ReplayResult> {
    const { shadow, stretch } = this.#parts;
    await this.#engine.start();
    for (const { id } of stretch.guests) await this.#engine.adopt(id, 'shadow');
    let isCut = false;
    try {
      for await (const batch of recordedEvents(shadow, stretch, signal)) {
        for (const event of batch) await this.#play(event, signal);
        this.#tellProgress();
      }
      await this.#until(stretch.toMs, ORDER.sample, signal);
    } catch (cause) {
      if (!signal.aborted) throw cause;
      isCut = true;
    }
    await this.#engine.stop();
    assert(this.#actuators.calls === 0, 'a replay in shadow mode called an actuator');
    return this.#result(isCut);
  }

  #result(isCut: boolean): ReplayResult {
    const { fromMs, toMs } = this.#parts.stretch;
    const playedToMs = isCut ? this.#clock.nowMs() : toMs;
    const seconds = this.#pace.secondsPassed;
    return {
      samples: this.#samples,
      requests: this.#requests,
      ...this.#log.counts,
      sha256: this.#log.digest(),
      seconds,
      speedUp: (playedToMs - fromMs) / 1000 / seconds,
      playedToMs,
      isCut,
    };
  }

  async #play(event: RecordedEvent, signal: AbortSignal): Promise<void> {
    if (this.#isDueBefore(event.atMs, ORDER[event.kind]))
      await this.#until(event.atMs, ORDER[event.kind], signal);
    await this.#moveTo(event.atMs, signal);
    if (event.kind === 'sample') this.#sample(event.sample, event.guestNumber);
    else await this.#request(event.request);
    const { tickMs } = this.#parts.policy;
    if (event.atMs + tickMs < this.#tickAtMs) this.#tickAtMs = nextAfter(event.atMs, tickMs);
  }

  #sample(sample: GuestSample, guestNumber: number): void {
    this.#samples += 1;
    this.#telemetry.emit(sample);
    this.#sampled.add(guestNumber);
    const { forecastEveryMs } = this.#parts;
    if (forecastEveryMs > 0 && this.#forecastAtMs === Number.POSITIVE_INFINITY)
      this.#forecastAtMs = Math.ceil(sample.atMs / forecastEveryMs) * forecastEveryMs;
  }

  async #moveTo(atMs: number, signal: AbortSignal): Promise<void> {
    const wait = this.#pace.until(atMs, signal);
    if (wait !== undefined) {
      this.#tellProgress();
      await wait;
    }
    this.#clock.moveTo(atMs);
  }

  #isDueBefore(atMs: number, order: number): boolean {
    const { order: next, atMs: nextMs } = this.#nextDue();
    return nextMs < atMs || (nextMs === atMs && next < order);
  }

  /** Let everything of our own happen that comes before a moment and its place in it. */
  async #until(atMs: number, order: number, signal: AbortSignal): Promise<void> {
    while (this.#isDueBefore(atMs, order)) {
      signal.throwIfAborted();
      const next = this.#nextDue();
      await this.#moveTo(next.atMs, signal);
      await next.happen();
    }
  }

  #nextDue(): { atMs: number; order: number; happen: () => Promise<void> } {
    const endAtMs = this.#ends.next?.atMs ?? Number.POSITIVE_INFINITY;
    const forecastAtMs = this.#forecastAtMs;
    if (endAtMs <= forecastAtMs && endAtMs <= this.#tickAtMs)
      return { atMs: endAtMs, order: ORDER.release, happen: () => this.#release() };
    if (forecastAtMs <= this.#tickAtMs)
      return { atMs: forecastAtMs, order: ORDER.forecast, happen: () => this.#forecast() };
    return { atMs: this.#tickAtMs, order: ORDER.tick, happen: () => this.#tick() };
  }

  /** The request as its client made it, but for what is not recorded: its priority, its start, how long it would wait. */
  async #request(request: RecordedRequest): Promise<void> {
    this.#requests += 1;
    const nowMs = this.#clock.nowMs();
    const { requestId, tenant, workload, guest, params, endMs } = request;
    const asked: AllocationRequest = {
      requestId,
      tenant,
      workload,
      guest,
      params,
      priority: 'normal',
      ttlMs: TTL_MARGIN_MS + Math.max(0, (endMs ?? nowMs) - nowMs),
      noQueue: false,
      validateOnly: false,
    };
    try {
      const lease = await this.#engine.allocate(asked, { signal: NEVER });
      await settled();
      this.#log.lease(nowMs, lease);
      this.#open.set(lease.id, { expiresAtMs: lease.expiresAtMs, decisions: 0 });
      this.#touched.add(lease.id);
      if (endMs !== undefined)
        this.#ends.add({ atMs: Math.max(endMs, nowMs), guest, requestId, leaseId: lease.id });
    } catch (cause) {
      if (!(cause instanceof AllocatorError)) throw cause;
      this.#log.refused(nowMs, request, cause);
    }
    this.#writeTouched();
  }

  /** The record has no more samples of a request: its work is done. */
  async #release(): Promise<void> {
    const due = this.#ends.take();
    if (due === undefined) return;
    await this.#engine.release(due.leaseId, { succeeded: true }, { signal: NEVER });
    await this.#rest();
  }

  async #tick(): Promise<void> {
    this.#engine.tick();
    await this.#rest();
    // Between here and the next event only a time to live can pass.
    let expiresAtMs = Number.POSITIVE_INFINITY;
    for (const lease of this.#open.values()) expiresAtMs = Math.min(expiresAtMs, lease.expiresAtMs);
    const { tickMs } = this.#parts.policy;
    const expiresBy = Math.ceil(expiresAtMs / tickMs) * tickMs;
    this.#tickAtMs = Math.max(nextAfter(this.#clock.nowMs(), tickMs), expiresBy);
  }

  async #forecast(): Promise<void> {
    const { stretch, forecaster, policy } = this.#parts;
    const nowMs = this.#clock.nowMs();
    for (const number of [...this.#sampled].sort((a, b) => a - b)) {
      const guest = stretch.guests[number]?.id;
      assert(guest !== undefined);
      const facts = this.#hypervisor.factsOf(guest);
      const { cpuMillicores, memoryBytes } = facts.ceiling;
      const forecast = forecaster.forecast({
        guest,
        axis: 'seconds',
        track: 'short',
        originMs: nowMs,
        ceiling: { cpuMillicores, memoryBytes },
      });
      const { requested } = planOf(forecast, 'normal', facts.entitlement, facts, policy.needs);
      this.#log.forecast(nowMs, guest, requested, predictedNeed(forecast));
    }
    this.#sampled.clear();
    this.#forecastAtMs = Number.POSITIVE_INFINITY;
    await settled();
  }

  /** Let the engine come to rest, and write what it decided. */
  async #rest(): Promise<void> {
    await settled();
    this.#writeTouched();
  }

  /** Write what is new of the leases the engine spoke of, in the order in which it did. */
  #writeTouched(): void {
    for (const id of this.#touched) {
      const open = this.#open.get(id);
      if (open === undefined) continue;
      const lease = this.#engine.getLease(id);
      const decisions = this.#engine.explain(id);
      for (const decision of decisions.slice(open.decisions)) this.#log.decision(decision);
      open.decisions = decisions.length;
      if (!hasEnded(lease.state)) continue;
      this.#log.end(this.#clock.nowMs(), lease);
      this.#open.delete(id);
    }
    this.#touched.clear();
  }

  /** The engine's own log says which leases moved, and what went wrong. */
  #engineLog(): Log {
    const note = (record: Readonly<Record<string, unknown>>): void => {
      if (typeof record.leaseId === 'string') this.#touched.add(record.leaseId);
    };
    const complain =
      (level: 'warn' | 'error') =>
      (record: Readonly<Record<string, unknown>>, message: string): void => {
        note(record);
        this.#log.complaint(this.#clock.nowMs(), level, message, record.code);
      };
    return { debug: note, info: note, warn: complain('warn'), error: complain('error') };
  }

  #newId(): string {
    this.#ids += 1;
    return `replay-${String(this.#ids).padStart(ID_DIGITS, '0')}`;
  }

  #tellProgress(): void {
    const { stretch, onProgress } = this.#parts;
    const nowMs = this.#clock.nowMs();
    onProgress?.((nowMs - stretch.fromMs) / (stretch.toMs - stretch.fromMs), nowMs);
  }
}

/** Digits of a lease's id: they sort as they grow. */
const ID_DIGITS = 9;
/** Nobody gives up on a call of a replay. */
const NEVER = new AbortController().signal;

/** The next whole multiple of a period after a moment. */
function nextAfter(ms: number, everyMs: number): number {
  return (Math.floor(ms / everyMs) + 1) * everyMs;
}

/** Resolves when every promise that can settle by itself has: in shadow mode the engine waits for nothing else. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
