// Goal: our allocation keeps its target of violations and of changes on guests it has not met, and no guest pays for the
// others. Method: guests whose demand is drawn from a law that is known, so that it is known how wrong the forecast is; and a forest that must find which of two laws a guest is under.
import t from 'tap';
import { ACTUATORS, DAY_BINS, guestSeries, WARM_UP_BINS } from '../../models/backtest/guests/guest-series.ts';
import { type ForecastFleet, growForest, OurPlay } from '../../models/backtest/guests/play-ours.ts';
import { OWN_LEVELS } from '../../models/backtest/guests/priced-policy.ts';
import { ANCHORS, FEATURES } from '../../models/backtest/guests/tail-features.ts';
import { TailForest } from '../../models/backtest/guests/tail-forest.ts';
import { randomFrom } from '../random.ts';

t.setTimeout(180_000);
const GUESTS = 24;
const BINS = WARM_UP_BINS + 10 * DAY_BINS;
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
  return { fleet, actuator: ACTUATORS.cpu, lead: 1, from: FROM, forecasts: sizes.map(fan) };
}

for (const bias of [1, 0.6, 1.8]) {
  t.test(`targets are kept, of forecasts times ${bias}`, async (t) => {
    const targets = [0.05, 0.01];
    const ours = new OurPlay(lawful(2, bias), growForest(lawful(1, bias), randomFrom(3)), targets);
    for (let bin = FROM; bin < BINS; bin += 1) ours.step(bin);
    for (const [i, { violation, slack, churn, p95Violation }] of ours.scores().entries()) {
      const target = targets[i] as number;
      t.ok(violation < 1.3 * target && violation > target / 1.3, `${violation} of a target of ${target}`);
      t.ok(p95Violation < 3 * target, `the worst guests: ${p95Violation}`);
      t.ok(churn < 40, `${churn} changes a guest-day`);
      t.ok(slack < 0.75, `slack ${slack}`);
    }
  });
}

t.test('a forest finds which law a guest is under, and its tail', async (t) => {
  const random = randomFrom(5);
  const rows = 40_000;
  const features = new Float32Array(rows * FEATURES);
  const outcomes = new Float32Array(rows);
  // All features but the anchors tell the law, for a node looks at some of them only: outcomes are 0 to 1 doublings above the anchors, or 2 to 3.
  const fill = (row: number, isHigh: boolean): void => {
    features.fill(isHigh ? 14 : 10, row * FEATURES, (row + 1) * FEATURES);
    for (const anchor of ANCHORS) features[row * FEATURES + anchor] = 8;
  };
  for (let row = 0; row < rows; row += 1) {
    const isHigh = random() < 0.5;
    fill(row, isHigh);
    outcomes[row] = 8 + random() + (isHigh ? 2 : 0);
  }
  const forest = new TailForest([{ features, outcomes }], random);
  const leaves = new Int32Array(forest.size);
  for (const [isHigh, size, chance] of [
    [false, 7.5, 1],
    [false, 8.75, 0.25],
    [false, 9.5, 0],
    [true, 9.5, 1],
    [true, 10.5, 0.5],
    [true, 12, 0],
  ] as const) {
    fill(0, isHigh);
    forest.find(features, 0, leaves);
    const found = forest.above(features, 0, leaves, size);
    t.ok(Math.abs(found - chance) < 0.05, `${isHigh ? 'high' : 'low'}, above ${size}: ${found} of ${chance}`);
  }
});
