// Goal: what requests add to their guest over their lives. Method: shares, presence and sums worked by hand; then a made-up work
// with a ramp, a plateau and a tail that the forecaster never sees, played second by second, and the CRPS of what was foreseen of
// it against a flat peak, with the same forecast of how large and how long; and two of them at once.
import t from 'tap';
import { readModel } from '../../models/files/model-file.ts';
import {
  FIELDS,
  type Forecast,
  type ForecastQuery,
  LEVELS,
  type Outcome,
  QUANTILE_LEVELS,
  type RunningRequest,
  withinHorizon,
} from '../../orchestrator/core/forecast.ts';
import type { Params } from '../../orchestrator/core/request.ts';
import { CourseForecaster } from '../../orchestrator/forecast/course-forecaster.ts';
import { type Effect, EffectSum } from '../../orchestrator/forecast/effect.ts';
import { GuestCourses } from '../../orchestrator/forecast/guest-courses.ts';
import { LifeShapes, PHASES } from '../../orchestrator/forecast/life-shapes.ts';
import { ParametricForecaster } from '../../orchestrator/forecast/parametric-forecaster.ts';
import { RecentPast } from '../../orchestrator/forecast/recent-past.ts';
import { packagePath } from '../../orchestrator/package-path.ts';
import { EffectKernels } from '../../orchestrator/wasm/effect.ts';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { randomFrom } from '../random.ts';
import { BASE, CEILING, hiddenWorkload, normalFrom } from './hidden-workload.ts';

const SEED = 11;
const RUNS = 40;
const SCORED = 30;
/** Lives eight times as long as the hidden work's, so that seconds tell their phases. */
const SLOWER = 8;
const MEDIAN = QUANTILE_LEVELS.indexOf(0.5);
t.comment(`seed ${SEED}`);

const GUEST = 'g';
const rows = (of: (level: number) => number) => Float64Array.from(QUANTILE_LEVELS, of);

/** An effect on the first field alone. */
function effectOf(changes: Partial<Effect>): Effect {
  const peak = new Float64Array(FIELDS * LEVELS).fill(Number.NaN);
  peak.fill(140, 0, LEVELS);
  const before = { cpuMillicores: 40 };
  return { peak, duration: rows(() => 8), before, shares: undefined, ageS: 0, ...changes };
}

t.test('presence, share and sum, by hand', async (t) => {
  const sum = new EffectSum(await EffectKernels.load());
  const shares = new Float64Array(FIELDS * PHASES).fill(Number.NaN);
  shares.set([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]);
  const certain = effectOf({ shares });
  const share = (effect: Effect, aheadS: number) => {
    sum.aim(effect);
    return sum.meanShare(0, effect.ageS, aheadS).toFixed(6);
  };
  t.equal(share(certain, 2.5), '0.300000', 'the middle of the third phase of eight');
  t.equal(share(certain, 3), '0.350000', 'between two');
  t.equal(share({ ...certain, ageS: 3 }, 2.5), '0.600000');
  t.equal(share(certain, 7.9), '0.800000');
  t.equal(share(certain, 8), '0.000000');
  t.equal(share({ ...certain, ageS: 60 }, 5), '0.800000', 'outlasted: taken to go on');
  const uncertain = effectOf({ duration: rows((level) => 10 * level) });
  t.equal(share(uncertain, 0), '0.900000', 'untaught');
  t.equal(share(uncertain, 4.5), (0.9 * 0.55).toFixed(6), 'P(longer) is 0.55');
  t.equal(
    share({ ...uncertain, ageS: 3.5 }, 1),
    (0.9 * (0.55 / 0.65)).toFixed(6),
    'given that it lasted 3.5 s',
  );
  t.equal(share(effectOf({ duration: rows(() => Number.NaN) }), 1e9), '0.900000', 'of unknown length');

  const values = new Float64Array(FIELDS * 2 * LEVELS).fill(Number.NaN);
  for (let k = 0; k < 2; k += 1)
    values.set(
      rows((level) => 10 + level),
      k * LEVELS,
    );
  const summed = sum.begin([1.5, 9], values);
  sum.aim(certain);
  sum.add(certain.ageS);
  // Shares are sorted in single precision.
  t.ok(Math.abs((summed[MEDIAN] as number) - (10.5 + 20)) < 1e-5, 'second phase of eight, of 100');
  t.equal(summed[LEVELS + MEDIAN], 10.5, 'over');
  t.equal(summed[LEVELS], 10.05);
  t.ok(Number.isNaN(summed[2 * LEVELS]), 'a field never read stays unknown');
});

t.test('a past is read at the finest width that holds it', async (t) => {
  const past = new RecentPast();
  const values = new Float64Array(FIELDS).fill(Number.NaN);
  for (let s = 1; s <= 40; s += 1) {
    values[0] = s;
    past.take(values, s * 1000, 1000);
  }
  const out = new Float64Array(2);
  t.ok(past.means(0, 32_000, 40_000, out));
  t.strictSame([...out], [34.5, 38.5], 'means of 33 to 36 and of 37 to 40');
  t.ok(past.means(0, 8000, 40_000, out), 'at four seconds');
  t.strictSame([...out], [16.5, 32.5]);
  t.notOk(past.means(1, 32_000, 40_000, out), 'a field never read');
  t.notOk(past.means(0, 38_000, 46_000, out), 'what has not come');
  t.notOk(past.means(0, 10_000, 18_000, out), 'forgotten at one second');
  t.notOk(past.means(0, 0, 1e9, out), 'longer than anything kept');
});

t.test('only whole, uncut runs that used something teach a shape', async (t) => {
  const shapes = new LifeShapes();
  const readings = new Float64Array(FIELDS).fill(Number.NaN);
  for (let s = 1; s <= 8; s += 1) {
    readings[0] = 100 + 100 * s;
    shapes.observe(GUEST, readings, s * 1000, 1000);
  }
  const run: Outcome = {
    leaseId: '',
    guest: GUEST,
    tenant: '',
    workload: 'w',
    params: {},
    startedAtMs: 0,
    finishedAtMs: 8000,
    before: { cpuMillicores: 100 },
    peak: { cpuMillicores: 900 },
    censored: [],
    completed: true,
  };
  shapes.learn('failed', { ...run, completed: false });
  shapes.learn('cut off', { ...run, censored: ['cpuMillicores'] });
  shapes.learn('short', { ...run, startedAtMs: 6000 });
  shapes.learn('idle', { ...run, peak: { cpuMillicores: 110 } });
  shapes.learn('elsewhere', { ...run, guest: 'other' });
  for (const name of ['failed', 'cut off', 'short', 'idle', 'elsewhere'])
    t.equal(shapes.sharesOf(name)?.some((one) => !Number.isNaN(one)) ?? false, false, name);
  shapes.learn('ramp', run);
  t.strictSame(
    [...(shapes.sharesOf('ramp')?.subarray(0, PHASES) ?? [])],
    [1, 2, 3, 4, 5, 6, 7, 8].map((s) => s / 8),
  );
  t.ok(Number.isNaN(shapes.sharesOf('ramp')?.[PHASES]), 'a field never read');
});

/** What share of its need the work takes: a ramp of a quarter, a plateau, a tail of a quarter. */
const shareOf = (phase: number): number => (phase < 0.25 ? phase / 0.25 : phase < 0.75 ? 1 : 0.3);

interface Run {
  readonly params: Params;
  readonly startedAtS: number;
  readonly durationS: number;
  readonly millicores: number;
}

/** A guest that idles, and whatever runs on it, second by second. */
class PlayedGuest {
  readonly forecaster: CourseForecaster;
  readonly random = randomFrom(SEED);
  atS = 0;

  constructor(forecaster: CourseForecaster) {
    this.forecaster = forecaster;
  }

  draw(): Run {
    const params = hiddenWorkload.draw(this.random);
    const { cpuMillicores, durationS } = hiddenWorkload.need(params);
    const vary = () => Math.exp(0.05 * normalFrom(this.random));
    return {
      params,
      startedAtS: this.atS,
      durationS: Math.max(5, durationS * SLOWER * vary()),
      millicores: cpuMillicores * vary(),
    };
  }

  /** Usage in the second that ends at `atS`. */
  usage(runs: readonly Run[], atS: number): number {
    const used = runs.map(({ startedAtS, durationS, millicores }) => {
      const phase = (atS - 0.5 - startedAtS) / durationS;
      return phase >= 0 && phase < 1 ? millicores * shareOf(phase) : 0;
    });
    return used.reduce((sum, one) => sum + one, BASE.cpuMillicores + 4 * (this.random() - 0.5));
  }

  /** Play until a second. @returns the usage of each */
  play(runs: readonly Run[], untilS: number): number[] {
    const seen: number[] = [];
    while (this.atS < untilS) {
      this.atS += 1;
      const cpuMillicores = this.usage(runs, this.atS);
      seen.push(cpuMillicores);
      this.forecaster.observe({
        guest: GUEST,
        atMs: this.atS * 1000,
        periodMs: 1000,
        cadence: 'full',
        usage: { cpuMillicores, memoryBytes: BASE.memoryBytes },
        flags: [],
      });
    }
    return seen;
  }

  learn({ params, startedAtS, durationS, millicores }: Run): void {
    this.forecaster.learn({
      leaseId: '',
      guest: GUEST,
      tenant: 'lab',
      workload: 'hidden',
      params,
      startedAtMs: startedAtS * 1000,
      finishedAtMs: (startedAtS + durationS) * 1000,
      before: BASE,
      peak: { cpuMillicores: BASE.cpuMillicores + millicores, memoryBytes: BASE.memoryBytes },
      censored: [],
      completed: true,
    });
  }

  forecast(params: Params | undefined, running?: readonly RunningRequest[]): Forecast {
    const query: ForecastQuery = {
      guest: GUEST,
      axis: 'seconds',
      track: 'short',
      originMs: this.atS * 1000,
      before: BASE,
      ceiling: CEILING,
      ...(params && { workload: { tenant: 'lab', name: 'hidden', params } }),
      ...(running && { running }),
    };
    return this.forecaster.forecast(query);
  }
}

/** CRPS of a row of quantiles: twice the mean pinball loss. */
function crps(row: Float64Array, actual: number): number {
  const losses = QUANTILE_LEVELS.map((level, l) => {
    const residual = actual - (row[l] as number);
    return 2 * Math.max(level * residual, (level - 1) * residual);
  });
  return losses.reduce((sum, loss) => sum + loss, 0) / LEVELS;
}

/** Where the first field's quantiles stand that are read between knots at a second; at the last knot when it is behind. */
function lastKnot({ knots }: Forecast, s: number): [number, number] {
  const before = Math.min(knots.filter((knot) => knot < s).length, knots.length - 1);
  return [before * LEVELS, (before + 1) * LEVELS];
}

async function playedGuest(): Promise<PlayedGuest> {
  const kernels = await SeriesKernels.load();
  const { inputs, hidden, groups, groupRow, knotSteps } = kernels;
  const parts = { inputs, hidden, groups, groupRow, knots: knotSteps };
  kernels.adopt((await readModel(packagePath('models/weights/default/1'), parts)).weights);
  const guest = new PlayedGuest(
    new CourseForecaster(
      await ParametricForecaster.create(),
      new GuestCourses(kernels),
      await EffectKernels.load(),
    ),
  );
  guest.play([], 60);
  for (let i = 0; i < RUNS; i += 1) {
    const run = guest.draw();
    guest.play([run], run.startedAtS + Math.ceil(run.durationS));
    guest.learn(run);
    guest.play([], guest.atS + 20);
  }
  return guest;
}

t.test('a life that was learned is foreseen better than a peak, and requests add up', async (t) => {
  const guest = await playedGuest();
  const scores = { life: 0, flat: 0, step: 0 };
  for (let i = 0; i < SCORED; i += 1) {
    const run = guest.draw();
    const life = guest.forecast(run.params, []);
    const step = guest.forecast(run.params);
    t.match(
      life.reason,
      /^parameters of \d+ runs; over its own course: \d+ bins of 1 s$|^parameters of \d+ runs; over its own course: [\d,]+ bins of 1 s$/,
    );
    t.ok(
      life.values.every((value, at) => at % LEVELS === 0 || !(value < (life.values[at - 1] as number))),
      'no level crosses',
    );
    const seen = guest.play([run], run.startedAtS + 60);
    for (let s = 1; s <= seen.length; s += 1) {
      const actual = seen[s - 1] as number;
      const row = (forecast: Forecast) => withinHorizon(forecast, s).values.slice(...lastKnot(forecast, s));
      scores.life += crps(row(life), actual);
      scores.step += crps(row(step), actual);
      scores.flat += crps(step.peak.subarray(0, LEVELS), actual);
    }
    guest.learn(run);
  }
  const ratio = (other: number): number => Number((scores.life / other).toFixed(3));
  t.comment(`CRPS over a flat peak's ${ratio(scores.flat)}, over a step's ${ratio(scores.step)}`);
  t.ok(scores.life < 0.5 * scores.flat, `${scores.life} against a flat peak's ${scores.flat}`);
  t.ok(scores.life < 0.95 * scores.step, `${scores.life} against ${scores.step} without the shape`);

  const first = guest.draw();
  guest.play([first], guest.atS + Math.floor(first.durationS / 2));
  const work = { tenant: 'lab', name: 'hidden', params: first.params };
  const running = [{ workload: work, startedAtMs: first.startedAtS * 1000, before: BASE }];
  const second = hiddenWorkload.draw(guest.random);
  const both = guest.forecast(second, running);
  t.match(both.reason, /; with 1 running$/);
  const { cpuMillicores } = hiddenWorkload.need(second);
  const sum = BASE.cpuMillicores + first.millicores + cpuMillicores;
  const near = (found: number, wanted: number) =>
    t.ok(Math.abs(found - wanted) < 0.2 * wanted, `${found}, ${wanted}`);
  near(both.peak[MEDIAN] as number, sum);
  const last = (both.knots.length - 1) * LEVELS + MEDIAN;
  t.ok((both.values[last] as number) < 100, 'both are over at the last knot');
  const own = guest.forecast(undefined, running);
  t.ok((own.values[last] as number) < 100, 'the guest by itself once its request is over');
});
