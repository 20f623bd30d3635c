import assert from 'node:assert';
import { AllocatorError } from '../core/errors.ts';
import {
  FIELDS,
  type Forecast,
  type ForecastQuery,
  KNOTS_MAX,
  LEVELS,
  type Outcome,
  QUANTILE_LEVELS,
} from '../core/forecast.ts';
import type { GuestId } from '../core/guest.ts';
import type { Forecaster } from '../core/ports.ts';
import { MIB, PROFILE_FIELDS, type ProfileField, type ResourceProfile } from '../core/profile.ts';
import type { GuestSample } from '../core/sample.ts';
import { type Kernels, loadKernels, OUTPUTS } from '../wasm/kernels.ts';
import { checkParams, DIMS, NUMERIC, ParamSchema } from './features.ts';
import { KindredWorkloads } from './kindred.ts';
import { SlotTable } from './slot-table.ts';

/** Smallest increment of each field that means something, in its unit: about what an idle guest's noise is. */
export const FLOORS: Readonly<Record<ProfileField, number>> = {
  cpuMillicores: 20,
  memoryBytes: MIB,
  diskReadBytesPerS: 16 * 1024,
  diskWriteBytesPerS: 16 * 1024,
  netRxBytesPerS: 4 * 1024,
  netTxBytesPerS: 4 * 1024,
  instructionsPerS: 1e6,
};

/** Shortest run told apart from none, s. */
const DURATION_FLOOR_S = 0.001;

/** First and last knot of the short track, s: two readings of a fast sensor, and minutes ahead. */
const KNOT_S_MIN = 0.5;
const KNOT_S_MAX = 300;
/** Knots of the short track, s: geometric, so that the near future is seen finely; whole ms, for powers differ between V8s. */
export const KNOTS_S: readonly number[] = Array.from({ length: KNOTS_MAX }, (_, i) => {
  const knotS = KNOT_S_MIN * (KNOT_S_MAX / KNOT_S_MIN) ** (i / (KNOTS_MAX - 1));
  return Math.round(knotS * 1000) / 1000;
});

/** While a workload has at most this many runs, each picks the hyperparameters anew: that is when they move. */
const SELECT_ALWAYS_RUNS = 16;
/** Later every fourth run does, and any that surprises; the others refit with those at hand. */
const SELECT_EVERY_RUNS = 4;
/** Groups of outputs that pick anew in one `learn`: bounds it to some 10 ms when fields come and go. */
const SELECT_GROUPS = 2;
/** Calls that take the kernels through the slow first tier of the JIT before the first request comes. */
const WARM_UP_CALLS = 400;

/** Where the peak and the duration end in an answer of the kernels. */
const PEAK_END = FIELDS * LEVELS;
const DURATION_END = PEAK_END + LEVELS;
const MEDIAN = QUANTILE_LEVELS.indexOf(0.5);
const INSTRUCTIONS = PROFILE_FIELDS.indexOf('instructionsPerS');
const MEMORY = PROFILE_FIELDS.indexOf('memoryBytes');

/** What is told beside an answer of the kernels. */
type Told = Pick<Forecast, 'reason' | 'runs' | 'dependence'>;

/** Everything known of one workload beside its runs, which live in the kernels' memory. */
interface Workload {
  schema: ParamSchema;
  learned: number;
  /** Of the forecasts from here on; replaced and never changed, for they share it. */
  dependence?: Float64Array;
}

export interface ParametricOptions {
  /** `debug` runs the unoptimised kernels: same bits, slower. */
  readonly build?: 'release' | 'debug';
}

/** One output of a workload's model, for people. */
export interface OutputDescription {
  readonly output: ProfileField | 'durationS';
  readonly runs: number;
  /** Deviation of what the parameters do not explain, as a fraction of the increment (or of the duration). */
  readonly noiseFraction: number;
}

/** What a request will need, without the course of its guest: in seconds, over the usage before it. */
export type RequestNeed = Pick<Forecast, 'peak' | 'duration' | 'dependence' | 'reason' | 'runs'>;

/** A forecaster that can leave the course out, where another is at hand. */
export interface RequestForecaster extends Forecaster {
  /**
   * As `forecast` of a request.
   * @returns arrays that the next call of this forecaster overwrites
   * @throws {AllocatorError} as `forecast`
   */
  need(query: RequestQuery): RequestNeed;
}
export type RequestQuery = ForecastQuery & Required<Pick<ForecastQuery, 'workload'>>;

/** The tenant's length first, so that no two pairs of names make the same key. */
export function keyOf(tenant: string, workload: string): string {
  return `${tenant.length}:${tenant}${workload}`;
}

/**
 * Forecasts a request from its parameters: a Gaussian process per workload and output, learned online, over the
 * guest's present usage. All state is in fixed places of the kernels' memory; the least recently learned workload
 * and the least recently read guest give way when their places are all taken.
 */
export class ParametricForecaster implements RequestForecaster {
  readonly #kernels: Kernels;
  readonly #guests: SlotTable;
  readonly #slots: SlotTable;
  readonly #workloads: Workload[];
  #kindred = new KindredWorkloads();
  #readingsIgnored = 0;

  /** Load and warm up the kernels. */
  static async create(options: ParametricOptions = {}): Promise<ParametricForecaster> {
    const floors = PROFILE_FIELDS.map((field) => FLOORS[field]);
    const kernels = await loadKernels(floors, options.build);
    const forecaster = new ParametricForecaster(kernels);
    forecaster.#warmUp();
    return forecaster;
  }

  private constructor(kernels: Kernels) {
    assert(kernels.dims === DIMS && kernels.numeric === NUMERIC, 'the kernels were built for other features');
    this.#kernels = kernels;
    this.#guests = new SlotTable(kernels.guestsMax, (slot) => kernels.call.clearGuest(slot));
    this.#workloads = Array.from({ length: kernels.workloadsMax }, () => ({
      schema: new ParamSchema(),
      learned: 0,
    }));
    for (let slot = 0; slot < kernels.workloadsMax; slot += 1) kernels.call.clearWorkload(slot);
    this.#slots = new SlotTable(kernels.workloadsMax, (slot) => this.#clearWorkload(slot));
    kernels.knots.set(KNOTS_S);
  }

  /** Readings that were not finite or negative, and so were not taken. */
  get readingsIgnored(): number {
    return this.#readingsIgnored;
  }

  observe(sample: GuestSample): void {
    const { call, sample: row } = this.#kernels;
    this.#writeProfile(row, sample.usage);
    // Over a reset or a pause rates describe nothing; stale balloon statistics describe the past.
    if (sample.flags.includes('counter-reset') || sample.flags.includes('paused')) {
      for (let f = 0; f < FIELDS; f += 1) if (f !== MEMORY) row[f] = Number.NaN;
    }
    if (sample.flags.includes('memory-stale')) row[MEMORY] = Number.NaN;
    if (row.every(Number.isNaN)) return;
    call.observe(this.#guests.claim(sample.guest), sample.cadence === 'full' ? 1 : 0);
  }

  /** @throws {AllocatorError} INVALID_REQUEST when a parameter is not a finite number, or there are too many */
  forecast(query: ForecastQuery): Forecast {
    const guest = this.#guests.find(query.guest);
    const { workload } = query;
    if (workload === undefined) return this.#forecastGuest(query, guest);
    return this.#answer(query, this.#askRequest({ ...query, workload }, guest, KNOTS_MAX));
  }

  /** @throws {AllocatorError} as `forecast` */
  need(query: RequestQuery): RequestNeed {
    const told = this.#askRequest(query, this.#guests.find(query.guest), 1);
    return { peak: this.#kernels.forecastPeak, duration: this.#kernels.forecastDuration, ...told };
  }

  /** @throws {AllocatorError} INVALID_REQUEST as `forecast`, or when the run ends before it starts */
  learn(outcome: Outcome): void {
    checkParams(outcome.params);
    const durationS = (outcome.finishedAtMs - outcome.startedAtMs) / 1000;
    if (!(durationS >= 0 && durationS < Number.POSITIVE_INFINITY)) {
      throw new AllocatorError('INVALID_REQUEST', 'A run must end at or after its start.', {
        startedAtMs: outcome.startedAtMs,
        finishedAtMs: outcome.finishedAtMs,
      });
    }
    const slot = this.#slots.claim(keyOf(outcome.tenant, outcome.workload));
    this.#writeRun(slot, outcome);
    if (outcome.completed) this.#learnKindred(outcome, durationS);
    const workload = this.#workloads[slot] as Workload;
    workload.learned += 1;
    const selects = workload.learned <= SELECT_ALWAYS_RUNS || workload.learned % SELECT_EVERY_RUNS === 0;
    this.#kernels.call.learn(
      slot,
      outcome.completed ? durationS : Number.NaN,
      outcome.completed ? censoredMask(outcome.censored) : censoredMask(PROFILE_FIELDS),
      selects ? 1 : 0,
      SELECT_GROUPS,
      workload.learned % OUTPUTS,
    );
    const { call } = this.#kernels;
    workload.dependence = this.#kernels.view(call.dependenceAt(slot), OUTPUTS * OUTPUTS).slice();
  }

  forget(guest: GuestId): void {
    this.#guests.release(guest);
  }

  /** What a workload's model rests on; empty when it was never learned. */
  describe(tenant: string, workload: string): OutputDescription[] {
    const slot = this.#slots.find(keyOf(tenant, workload));
    if (slot < 0) return [];
    const fitted = this.#kernels.view(this.#kernels.call.fittedAt(slot), OUTPUTS * 8);
    return Array.from({ length: OUTPUTS }, (_, output) => ({
      output: PROFILE_FIELDS[output] ?? 'durationS',
      runs: fitted[output * 8 + 1] as number,
      noiseFraction: fitted[output * 8 + 6] as number,
    }));
  }

  #forecastGuest(query: ForecastQuery, guest: number): Forecast {
    this.#kernels.call.forecastGuest(guest, KNOTS_MAX);
    const reason = guest < 0 ? 'guest never read' : "guest's own recent usage, no request";
    return this.#answer(query, { reason, runs: 0 });
  }

  /** Let the kernels forecast a request at so many knots. */
  #askRequest(query: RequestQuery, guest: number, knots: number): Told {
    const { call, row, before, ceiling } = this.#kernels;
    const { tenant, name, params } = query.workload;
    checkParams(params);
    const slot = this.#slots.find(keyOf(tenant, name));
    const novel = slot >= 0 && (this.#workloads[slot] as Workload).schema.encode(params, row);
    this.#writeProfile(before, query.before ?? {});
    this.#writeProfile(ceiling, query.ceiling);
    const estimateS = query.durationS ?? Number.NaN;
    if (query.durationS !== undefined && !(estimateS > 0 && estimateS < Number.POSITIVE_INFINITY)) {
      throw new AllocatorError('INVALID_REQUEST', 'The expected run time must be finite and above zero.', {
        durationS: String(query.durationS),
      });
    }
    const runs = call.forecastRequest(slot, guest, knots, estimateS);
    let reason = runs > 0 ? `parameters of ${runs} run${runs === 1 ? '' : 's'}` : COLD_START;
    if (runs === 0 && this.#askKindred(query)) reason += '; the rest by kindred workloads';
    if (novel) reason += ', with a parameter or category never seen';
    if (guest < 0) reason += '; guest never read';
    return { reason, runs, dependence: this.#workloads[slot]?.dependence };
  }

  /** Keep what the run in `peak` and `before` needed. */
  #learnKindred({ tenant, workload, params }: Outcome, durationS: number): void {
    const { peak, before } = this.#kernels;
    const outputs = new Float64Array(OUTPUTS);
    for (let f = 0; f < FIELDS; f += 1) {
      const from = before[f] as number;
      outputs[f] = Math.max(0, (peak[f] as number) - (Number.isNaN(from) ? 0 : from));
    }
    outputs[FIELDS] = durationS;
    this.#kindred.learn(tenant, workload, params, outputs);
  }

  /**
   * Fill what a cold start leaves open, for want of a ceiling or of an estimate, from workloads like this one. The guest's own
   * course stays unknown.
   * @returns whether there was something to fill, and to fill it with
   */
  #askKindred({ workload, before = {} }: ForecastQuery): boolean {
    const { forecastPeak, forecastDuration } = this.#kernels;
    if (workload === undefined) return false;
    let asked = false;
    for (let output = 0; output < OUTPUTS; output += 1) {
      const field = PROFILE_FIELDS[output];
      const row =
        field === undefined
          ? forecastDuration
          : forecastPeak.subarray(output * LEVELS, (output + 1) * LEVELS);
      if (!Number.isNaN(row[0])) continue;
      const floor = field === undefined ? DURATION_FLOOR_S : FLOORS[field];
      const found = this.#kindred.quantiles(workload, output, QUANTILE_LEVELS, floor);
      if (found === undefined) continue;
      const base = field === undefined ? 0 : (before[field] ?? 0);
      for (let l = 0; l < LEVELS; l += 1) row[l] = base + (found[l] as number);
      asked = true;
    }
    return asked;
  }

  /** Copy the kernels' answer out and bring it to the axis that was asked for. */
  #answer(query: ForecastQuery, { reason, runs, dependence }: Told): Forecast {
    // One copy, for each has its price.
    const answer = this.#kernels.forecast.slice();
    const peak = answer.subarray(0, PEAK_END);
    const duration = answer.subarray(PEAK_END, DURATION_END);
    let knots = KNOTS_S;
    let words = query.track === 'short' ? reason : `${reason}; short track`;
    let axis = query.axis;
    if (axis === 'instructions') {
      const rate = peak[INSTRUCTIONS * LEVELS + MEDIAN] as number;
      if (rate > 0) {
        knots = KNOTS_S.map((seconds) => seconds * rate);
        for (let l = 0; l < LEVELS; l += 1) duration[l] = (duration[l] as number) * rate;
        words += '; instructions are seconds at the predicted rate';
      } else {
        axis = 'seconds';
        words += '; in seconds, for no instruction rate is known';
      }
    }
    return {
      guest: query.guest,
      axis,
      track: 'short',
      originMs: query.originMs,
      knots,
      values: answer.subarray(DURATION_END),
      peak,
      duration,
      dependence,
      reason: words,
      runs,
    };
  }

  /** Put a profile's fields into a row; what is absent, negative or not finite becomes NaN, and the latter is counted. */
  #writeProfile(row: Float64Array, profile: ResourceProfile): void {
    for (let f = 0; f < FIELDS; f += 1) {
      const value = profile[PROFILE_FIELDS[f] as ProfileField];
      const sound = value !== undefined && value >= 0 && value < Number.POSITIVE_INFINITY;
      if (value !== undefined && !sound) this.#readingsIgnored += 1;
      row[f] = sound ? value : Number.NaN;
    }
  }

  #writeRun(slot: number, outcome: Outcome): void {
    const { call, row, peak, before, dims } = this.#kernels;
    const { schema } = this.#workloads[slot] as Workload;
    const held = call.runsOf(slot);
    const missing = schema.admit(outcome.params);
    if (held > 0 && missing.length > 0) {
      const rows = this.#kernels.view(call.runRowsAt(slot), held * dims);
      for (let i = 0; i < held; i += 1) for (const at of missing) rows[i * dims + at] = 1;
    }
    schema.encode(outcome.params, row);
    this.#writeProfile(peak, outcome.peak);
    this.#writeProfile(before, outcome.before);
  }

  #clearWorkload(slot: number): void {
    this.#kernels.call.clearWorkload(slot);
    this.#workloads[slot] = { schema: new ParamSchema(), learned: 0 };
  }

  /** Take every kernel through the JIT's tiers on made-up runs, and leave no trace of them. */
  #warmUp(): void {
    const tenant = '';
    const guest = 'warm-up';
    const run = (i: number): Outcome => ({
      leaseId: '',
      guest,
      tenant,
      workload: guest,
      params: { x: { kind: 'number', value: i % 13 }, y: { kind: 'category', value: String(i % 3) } },
      startedAtMs: 0,
      finishedAtMs: 1000 + (i % 7) * 100,
      before: { cpuMillicores: 10, memoryBytes: 1e8, instructionsPerS: 1e7 },
      peak: { cpuMillicores: 100 + i * 10, memoryBytes: 2e8 + i * 1e6, instructionsPerS: 1e9 },
      censored: [],
      completed: true,
    });
    for (let i = 0; i < this.#kernels.runsMax; i += 1) this.learn(run(i));
    for (let i = 0; i < WARM_UP_CALLS; i += 1) {
      const usage = { cpuMillicores: i, memoryBytes: 1e8 + i, instructionsPerS: 1e7 };
      this.observe({ guest, atMs: i, periodMs: 1000, cadence: 'full', usage, flags: [] });
      const workload = { tenant, name: guest, params: run(i).params };
      this.forecast({ guest, axis: 'seconds', track: 'short', originMs: 0, workload, ceiling: usage });
    }
    this.#guests.release(guest);
    this.#slots.release(keyOf(tenant, guest));
    this.#kernels.call.prepare();
    this.#kindred = new KindredWorkloads();
    this.#readingsIgnored = 0;
  }
}

const COLD_START = "cold start: no run of this workload, so between the guest's usage and its ceiling";

/** Bit f: field f of PROFILE_FIELDS is in the list. */
function censoredMask(fields: readonly ProfileField[]): number {
  return fields.reduce((mask, field) => mask | (1 << PROFILE_FIELDS.indexOf(field)), 0);
}
