// Goal: our allocation keeps its target of violations and of changes on guests it has not met, and no guest pays for the
// others. Method: guests whose demand is drawn from a law that is known, so that it is
// known how wrong the forecast is; chances that must find which of two laws a guest is under; prices bin by bin.
import t from 'tap';
import { BoostedChances } from '../../models/backtest/guests/boosted-chances.ts';
import { EDGES, OWN_LEVELS } from '../../models/backtest/guests/chance-edges.ts';
import { chanceFeatures } from '../../models/backtest/guests/chance-features.ts';
import { FleetPrices } from '../../models/backtest/guests/fleet-prices.ts';
import { DAY_BINS, guestSeries, WARM_UP_BINS } from '../../models/backtest/guests/guest-series.ts';
import { type ForecastFleet, learnChances, playOurs } from '../../models/backtest/guests/play-ours.ts';
import { randomFrom } from '../random.ts';

t.setTimeout(180_000);
const GUESTS = 16;
const BINS = WARM_UP_BINS + 5 * DAY_BINS;
const FROM = WARM_UP_BINS - DAY_BINS;

/** Guests whose demand is log-logistic about a size of their own. @param bias of their forecasts: 1 is the law itself */
function lawful(seed: number, bias: number): ForecastFleet {
  const random = randomFrom(seed);
  // Of the logistic law, whose quantiles are exact and whose tail is that of a busy guest.
  const quantile = (size: number, level: number): number =>
    size * Math.exp(0.2 * Math.log(level / (1 - level)));
  const sizes = Array.from({ length: GUESTS }, (_, g) => 400 * 1.3 ** (g % 8));
  const fleet = sizes.map((size, g) =>
    guestSeries(
      `g${g}`,
      Float64Array.from({ length: BINS }, () => quantile(size, random())),
      40_000,
    ),
  );
  const fan = (size: number): Float32Array => {
    const row = OWN_LEVELS.map((level) => bias * quantile(size, level));
    return Float32Array.from(
      { length: (BINS - FROM) * row.length },
      (_, at) => row[at % row.length] as number,
    );
  };
  const fleets = { cpu: fleet, memory: fleet, disk: fleet, net: fleet };
  return { fleets, resource: 'cpu', lead: 1, from: FROM, forecasts: sizes.map(fan) };
}

for (const bias of [0.6, 1.8]) {
  t.test(`targets are kept, of forecasts times ${bias}`, async (t) => {
    const targets = [0.05, 0.01];
    const learned = learnChances(lawful(1, bias), randomFrom(3));
    const scores = playOurs(lawful(2, bias), learned, targets);
    for (const [i, { violation, slack, churn, p95Violation }] of scores.entries()) {
      const target = targets[i] as number;
      t.ok(violation < 1.3 * target && violation > target / 1.3, `${violation} of a target of ${target}`);
      t.ok(p95Violation < 3 * target, `the worst guests: ${p95Violation}`);
      t.ok(churn < 40, `${churn} changes a guest-day`);
      t.ok(slack < 0.75, `slack ${slack}`);
    }
  });
}

t.test('chances are corrected to what follows where things stand alike', async (t) => {
  const random = randomFrom(5);
  const rows = 40_000;
  const features = new Float32Array(rows * 2);
  const exceeded = new Uint8Array(rows);
  // The second feature tells which of two laws holds: one demand in fifty beyond half of the edges, or one in three.
  const truth = (feature: number): number => (feature > 0.5 ? 1 / 3 : 1 / 50);
  for (let row = 0; row < rows; row += 1) {
    features[2 * row] = random();
    features[2 * row + 1] = random();
    exceeded[row] = random() < truth(features[2 * row + 1] as number) ? EDGES / 2 : 0;
  }
  const guest = Uint16Array.from(exceeded, (_, row) => row % 10);
  const learned = new BoostedChances({ features, exceeded, guest }, random);
  for (const feature of [0.2, 0.8]) {
    const chances = learned.of(Float32Array.of(0.5, feature));
    const [found, beyond] = [chances[8] as number, chances.at(-1) as number];
    t.ok(Math.abs(found - truth(feature)) < 0.2 * truth(feature), `${found} of ${truth(feature)}`);
    t.ok(beyond < 0.001, `${beyond} beyond the last edge`);
    for (const [edge, chance] of chances.entries())
      t.ok(edge === 0 || chance <= (chances[edge - 1] as number), 'chances fall');
  }
});

t.test('what is known at the end of a bin tells nothing of later ones', async (t) => {
  const bins = WARM_UP_BINS + 40;
  const last = WARM_UP_BINS + 20;
  const featuresOf = (later: number, lead: number): Float32Array => {
    const random = randomFrom(6);
    const recorded = Float64Array.from(
      { length: bins },
      (_, bin) => 900 * random() + (bin > last ? later : 0),
    );
    const fleet = [guestSeries('g', recorded, Number.NaN)];
    const edges = new Float32Array((bins - FROM) * EDGES).fill(9);
    return chanceFeatures(
      { cpu: fleet, memory: fleet, disk: fleet, net: fleet },
      0,
      'disk',
      lead,
      edges,
      FROM,
    );
  };
  for (const lead of [1, 3]) {
    const [calm, busy] = [featuresOf(0, lead), featuresOf(5000, lead)];
    const known = (calm.length / (bins - FROM)) * (last + 1 - FROM);
    const differing = busy.findIndex((value, at) => value !== calm[at]);
    t.ok(
      differing >= known,
      `lead ${lead}: value ${differing} of ${calm.length} differs, ${known} were known`,
    );
    t.ok(calm.every(Number.isFinite));
  }
});

t.test('prices follow what happens', async (t) => {
  const guests = 41; // of whom two may pay no more than the third dearest
  const target = 0.01;
  const prices = new FleetPrices(guests, target, 100);
  const [before, change] = [prices.violation(0), prices.change];
  const bins = (count: number, short: readonly number[], changes: number): void => {
    for (let bin = 0; bin < count; bin += 1)
      prices.observe(
        Array.from({ length: guests }, (_, g) => (short.includes(g) ? 'short' : 'none')),
        changes,
      );
  };
  bins(20, [], 0);
  const calm = prices.violation(0);
  t.ok(calm < before, 'nobody fell short');
  t.ok(prices.change < change, 'nothing changed');
  bins(5, [0, 1, 2], guests);
  t.ok(prices.violation(3) > calm, 'too many fell short');
  t.ok(prices.change > change, 'all changed');
  t.ok(prices.violation(2) > prices.violation(3), 'who falls short too often pays more');
  const third = prices.violation(2);
  bins(1, [0, 1], 0);
  t.ok(
    prices.violation(0) <= third && prices.violation(1) <= third,
    'the dearest two pay no more than the third',
  );
  const held = prices.violation(5);
  prices.observe(new Array(guests).fill('unseen'), 0);
  t.equal(prices.violation(5), held, 'what was not seen teaches nothing');
});
