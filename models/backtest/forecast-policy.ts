import { type Forecast, LEVELS, QUANTILE_LEVELS, quantileAt } from '../../orchestrator/core/forecast.ts';
import type { Forecaster } from '../../orchestrator/core/ports.ts';
import { MIB, PROFILE_FIELDS, type ProfileField } from '../../orchestrator/core/profile.ts';
import {
  cheapestAllocation,
  type LossPolicy,
  nextPrice,
  triesOf,
} from '../../orchestrator/core/retry-cost.ts';
import { REQUEST_RESOURCES, type RecordedRequest, type RequestResource } from '../data/request-set.ts';
import { SCORED_LEVELS } from '../evaluate/scores.ts';
import { ColdStart, MEMORY_BYTES_MIN } from './reference-policies.ts';
import { type ResourceQuantiles, WorkloadQuantiles } from './request-quantiles.ts';

const GUEST = 'backtest';
const TENANT = 'backtest';
const MILLICORES_PER_CORE = 1000;

/**
 * The field in which a resource is learned. Bytes read and written are learned as totals in the fields of the rates: to the
 * model a field is a quantity from zero with a smallest step, and nothing else.
 */
const FIELD_OF: Readonly<Record<Exclude<RequestResource, 'duration'>, ProfileField>> = {
  memory: 'memoryBytes',
  cpu: 'cpuMillicores',
  disk_read: 'diskReadBytesPerS',
  disk_write: 'diskWriteBytesPerS',
};

/** Aims below 20 lost tries in 1,000 requests, for the price follows what was lost and cannot lead it. */
const LOSSES: LossPolicy = { target: 0.015, rate: 0.005, priceMin: 1e-7, priceMax: 1e4 };
/** Price of the first lost try, GiB h: it is found by the losses. */
const PRICE_GIB_H = 0.01;
/** Bytes x seconds in a GiB h. */
const GIB_H = 1024 ** 3 * 3600;
const MEDIAN = QUANTILE_LEVELS.indexOf(0.5);
/** Run time of a workload whose runs told none, s. */
const DURATION_S = 60;

/** What the product foresees of a request before its run. */
export interface Foreseen {
  readonly quantiles: ResourceQuantiles;
  /** Bytes of the first try. */
  readonly allocated: number;
}

/** The product's forecaster, and the cheapest allocation over its forecasts, with a price that follows the losses. */
export class ForecastPolicy {
  readonly #forecaster: Forecaster;
  readonly #cold = new ColdStart();
  /** What a workload without a run is given: a forecast without a guest and its ceiling has nothing to say of it. */
  readonly #everyRun = new WorkloadQuantiles();
  #price = PRICE_GIB_H;

  constructor(forecaster: Forecaster) {
    this.#forecaster = forecaster;
  }

  foresee(request: RecordedRequest): Foreseen {
    const { workload: name, params } = request;
    const workload = { tenant: TENANT, name, params };
    const forecast = this.#forecaster.forecast({
      guest: GUEST,
      axis: 'seconds',
      track: 'short',
      originMs: 0,
      workload,
      ceiling: {},
    });
    return { quantiles: this.#quantilesOf(forecast, request), allocated: this.#allocate(forecast, request) };
  }

  learn(request: RecordedRequest, allocated: number): void {
    const { workload, params, used } = request;
    const peak: Partial<Record<ProfileField, number>> = {};
    for (const [resource, field] of Object.entries(FIELD_OF)) {
      const value = used[resource as RequestResource] * unitOf(resource as RequestResource);
      if (!Number.isNaN(value)) peak[field] = value;
    }
    this.#forecaster.learn({
      leaseId: '',
      guest: GUEST,
      tenant: TENANT,
      workload,
      params,
      startedAtMs: 0,
      finishedAtMs: used.duration * 1000,
      before: {},
      peak,
      censored: [],
      completed: true,
    });
    this.#cold.learn(request);
    this.#everyRun.learn(request);
    this.#price = nextPrice(this.#price, triesOf(allocated, used.memory).lost, LOSSES);
  }

  #allocate(forecast: Forecast, request: RecordedRequest): number {
    const memory = rowOf(forecast, 'memory');
    if (forecast.runs === 0 || !memory.every(Number.isFinite)) return this.#cold.allocate(request);
    const median = forecast.duration[MEDIAN] as number;
    const seconds = Number.isFinite(median) ? median : DURATION_S;
    return Math.max(cheapestAllocation(memory, MIB, seconds / GIB_H, this.#price), MEMORY_BYTES_MIN);
  }

  #quantilesOf(forecast: Forecast, request: RecordedRequest): ResourceQuantiles {
    const unknown = this.#everyRun.predict(request);
    const quantiles = {} as Record<RequestResource, Float64Array>;
    for (const resource of REQUEST_RESOURCES) {
      const row = rowOf(forecast, resource);
      quantiles[resource] = row.every(Number.isFinite)
        ? Float64Array.from(SCORED_LEVELS, (level) => quantileAt(row, 0, level) / unitOf(resource))
        : unknown[resource];
    }
    return quantiles;
  }
}

function rowOf(forecast: Forecast, resource: RequestResource): Float64Array {
  if (resource === 'duration') return forecast.duration;
  const from = PROFILE_FIELDS.indexOf(FIELD_OF[resource]) * LEVELS;
  return forecast.peak.subarray(from, from + LEVELS);
}

/** Units of the forecaster in one of the set's. */
function unitOf(resource: RequestResource): number {
  return resource === 'cpu' ? MILLICORES_PER_CORE : 1;
}
