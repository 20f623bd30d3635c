// Goal: what requests add to a guest's use, at every knot, level and age. Method: an oracle that writes the formula out over sorted
// lists, on random requests (fields that were never read, not known or not taught; lives that are over, outlasted or without end);
// both builds to the bit.
import t from 'tap';
import { FIELDS, KNOTS_MAX, LEVELS, QUANTILE_LEVELS } from '../../orchestrator/core/forecast.ts';
import { EffectKernels } from '../../orchestrator/wasm/effect.ts';
import { randomFrom } from '../random.ts';

const SEED = 23;
const ROUNDS = 200;
const MEDIAN = QUANTILE_LEVELS.indexOf(0.5);
const UNTAUGHT = 0.9;
/** A level is reached short of it by this. */
const SHORT = 1e-6;
/** Shares and their probabilities are held in single precision. */
const RELATIVE_MAX = 3e-6;
t.comment(`seed ${SEED}`);

const random = randomFrom(SEED);
const kernels = await EffectKernels.load();
const debug = await EffectKernels.load('debug');
const { phases } = kernels;

const increasing = (length: number, scale: number): number[] =>
  Array.from({ length }, () => scale * random()).sort((a, b) => a - b);

interface Drawn {
  readonly knots: readonly number[];
  readonly values: Float64Array;
  readonly largest: Float64Array;
  readonly duration: readonly number[];
  readonly shares: Float64Array;
  readonly ageS: number;
}

function draw(round: number): Drawn {
  const knots = increasing(1 + Math.floor(random() * KNOTS_MAX), 60);
  const values = new Float64Array(FIELDS * knots.length * LEVELS);
  const largest = new Float64Array(FIELDS * LEVELS);
  const shares = new Float64Array(FIELDS * phases);
  for (let f = 0; f < FIELDS; f += 1) {
    const isRead = random() < 0.9;
    for (let k = 0; k < knots.length; k += 1) {
      const row = isRead ? increasing(LEVELS, 1000) : new Array<number>(LEVELS).fill(Number.NaN);
      values.set(row, (f * knots.length + k) * LEVELS);
    }
    largest.set(
      random() < 0.9 ? increasing(LEVELS, 500) : new Array<number>(LEVELS).fill(Number.NaN),
      f * LEVELS,
    );
    const isTaught = random() < 0.8;
    shares.set(
      Array.from({ length: phases }, () => (isTaught ? random() : Number.NaN)),
      f * phases,
    );
  }
  const isKnown = round % 10 !== 0;
  const duration = isKnown ? increasing(LEVELS, 60) : new Array<number>(LEVELS).fill(Number.NaN);
  return { knots, values, largest, duration, shares, ageS: round % 3 === 0 ? 0 : 60 * random() };
}

/** P(l) of each life. */
const weights = QUANTILE_LEVELS.map((level, l) => {
  const from = l === 0 ? 0 : (level + (QUANTILE_LEVELS[l - 1] ?? 0)) / 2;
  return (l === LEVELS - 1 ? 1 : (level + (QUANTILE_LEVELS[l + 1] ?? 1)) / 2) - from;
});

/** Quantiles of the share that a request takes of a field at a knot. */
function sharesOf({ duration, shares, ageS }: Drawn, field: number, aheadS: number): number[] {
  const isOpen = !((duration[LEVELS - 1] as number) > ageS);
  const taught = shares.subarray(field * phases, (field + 1) * phases);
  const shareAt = (moment: number): number => {
    if (Number.isNaN(taught[0])) return UNTAUGHT;
    const at = Math.min(phases - 1, Math.max(0, moment * phases - 0.5));
    const lower = taught[Math.floor(at)] as number;
    return lower + ((taught[Math.min(phases - 1, Math.floor(at) + 1)] as number) - lower) * (at % 1);
  };
  const lives = duration
    .map((lastsS, l) => ({ lastsS, chance: weights[l] as number }))
    .filter(({ lastsS }) => isOpen || lastsS > ageS)
    .map(({ lastsS, chance }) => {
      const moment = isOpen ? 1 : (ageS + aheadS) / lastsS;
      return { chance, share: isOpen || moment < 1 ? shareAt(moment) : 0 };
    })
    .sort((a, b) => a.share - b.share);
  const all = lives.reduce((sum, { chance }) => sum + chance, 0);
  return QUANTILE_LEVELS.map((level) => {
    let reached = 0;
    for (const { chance, share } of lives) {
      reached += chance / all;
      if (reached >= level - SHORT) return share;
    }
    return lives.at(-1)?.share ?? Number.NaN;
  });
}

/** A row with so much of the largest use added to it. */
function sumOf(row: Float64Array, most: Float64Array, q: readonly number[]): number[] {
  const [own, size, share] = [row[MEDIAN], most[MEDIAN], q[MEDIAN]] as [number, number, number];
  const sums = q.map((one, l) => {
    const away = Math.hypot(
      (row[l] as number) - own,
      size * (one - share),
      one * ((most[l] as number) - size),
    );
    return own + size * share + (l < MEDIAN ? -away : away);
  });
  let least = 0;
  return sums.map((sum) => {
    least = Math.max(least, sum);
    return least;
  });
}

function write(to: EffectKernels, { knots, values, largest, duration, shares }: Drawn): void {
  to.knots.set(knots);
  to.values.set(values);
  to.largest.set(largest);
  to.duration.set(duration);
  to.shares.set(shares);
}

/** Largest difference over the largest number of the row; 0 where both are NaN. */
function differenceOf(found: Float64Array, wanted: readonly number[]): number {
  const scale = Math.max(1, ...wanted.map(Math.abs));
  return Math.max(
    ...wanted.map((one, l) => {
      const other = found[l] as number;
      if (Number.isNaN(one) || Number.isNaN(other)) return Number.isNaN(one) === Number.isNaN(other) ? 0 : 1;
      return Math.abs(one - other) / scale;
    }),
  );
}

t.test('over its life', async (t) => {
  let worst = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const drawn = draw(round);
    const { knots, values, largest, ageS } = drawn;
    for (const build of [kernels, debug]) {
      write(build, drawn);
      build.call.addEffect(knots.length, ageS);
    }
    t.strictSame(Buffer.from(debug.values.slice().buffer), Buffer.from(kernels.values.slice().buffer));
    for (let f = 0; f < FIELDS; f += 1)
      for (const [k, aheadS] of knots.entries()) {
        const at = (f * knots.length + k) * LEVELS;
        const row = values.subarray(at, at + LEVELS);
        const most = largest.subarray(f * LEVELS, (f + 1) * LEVELS);
        const isKnown = !Number.isNaN(most[MEDIAN]);
        const wanted = isKnown ? sumOf(row, most, sharesOf(drawn, f, aheadS)) : [...row];
        worst = Math.max(worst, differenceOf(kernels.values.subarray(at, at + LEVELS), wanted));
      }
  }
  t.comment(`largest difference ${worst}`);
  t.ok(worst < RELATIVE_MAX, `${worst}`);
});

t.test('all of it', async (t) => {
  const { largest } = draw(1);
  const own = Float64Array.from(increasing(FIELDS * LEVELS, 100));
  kernels.largest.set(largest);
  kernels.peak.set(own);
  kernels.call.addLargest();
  for (let f = 0; f < FIELDS; f += 1) {
    const row = own.subarray(f * LEVELS, (f + 1) * LEVELS);
    const most = largest.subarray(f * LEVELS, (f + 1) * LEVELS);
    const wanted = Number.isNaN(most[0]) ? [...row] : sumOf(row, most, new Array<number>(LEVELS).fill(1));
    t.ok(differenceOf(kernels.peak.subarray(f * LEVELS, (f + 1) * LEVELS), wanted) < 1e-12);
  }
});

t.test('out of range is refused', async (t) => {
  t.throws(() => kernels.call.addEffect(KNOTS_MAX + 1, 0), /count must be/);
  t.throws(() => kernels.call.addEffect(1, -1), /ageS must not/);
  t.throws(() => kernels.call.meanShare(FIELDS, 0, 0), /field must be/);
});
