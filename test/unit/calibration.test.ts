// Goal: levels hold online, without hindsight, on recorded guests: q0.9 and q0.95 cover what they say, over all guests and
// guest by guest, and again one day after the level of every guest has moved. Method: the shipped model follows each series;
// every EVERY bins its forecasts of the knots up to 48 steps are held against what came. A tie counts half.
// FORESHADE_GUESTS=1 takes every guest; without it one in SPARSE.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { gridBySeconds, type SeriesGrid } from '../../models/data/grid.ts';
import { SeriesSet } from '../../models/data/series-set.ts';
import { partsOf, readModel } from '../../models/files/model-file.ts';
import { shippedFolder } from '../../orchestrator/cli/model-folder.ts';
import { SeriesModel } from '../../orchestrator/forecast/series-model.ts';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { recordFigure } from '../figures.ts';

const DATA = process.env.FORESHADE_DATA;
const SPARSE = Number(process.env.FORESHADE_GUESTS ?? 10);
const LEVELS = [0.9, 0.95];
const BAR = 0.02;
const STEPS_MAX = 48;
const EVERY = 37;
const DAY = 288;
t.setTimeout(900_000);

interface Case {
  readonly set: string;
  readonly metrics: readonly string[];
  readonly season: number;
  /** Bins before the first forecast that counts. */
  readonly warmUp: number;
  /** One series in so many, when not all are asked for. */
  readonly sparse: number;
  readonly every?: number;
  /** The bin from which every value is moved; forecasts count from a day later on. */
  readonly movedAt?: number;
  /** How far off a level may be for the test to pass, where that is more than the bar. */
  readonly asserted?: number;
  /** Share of guests within 5 points that is asked for; undefined: too few guests or outcomes. */
  readonly guestsWithin?: number;
}

const CPU = ['cpu_mhz', 'cpu_pct'];
const month = { set: 'bitbrains_rnd_2013_08', metrics: CPU, season: DAY, sparse: SPARSE };
const CASES: readonly Case[] = [
  { ...month, warmUp: 2 * DAY, guestsWithin: 0.8 },
  { ...month, warmUp: 2 * DAY, movedAt: 15 * DAY, guestsWithin: 0.8, every: 7 },
  {
    set: 'google2011',
    metrics: ['cpu_pct', 'mem_pct'],
    season: DAY,
    warmUp: DAY / 2,
    sparse: 4 * SPARSE,
    every: 7,
  },
  {
    set: 'kepler_counters_v06',
    metrics: ['instructions'],
    season: 0,
    warmUp: 600,
    sparse: 1,
    every: 1,
    // One machine whose load falls while it is scored.
    asserted: 0.05,
  },
];

async function gridsOf({ set: name, metrics, sparse }: Case): Promise<SeriesGrid[]> {
  const set = await SeriesSet.open(join(DATA as string, name));
  try {
    const { stepS = 1, grid } = set.facts;
    const grids: SeriesGrid[] = [];
    let index = 0;
    for await (const rows of (await set.read(metrics)).series) {
      if (index % (SPARSE === 1 ? 1 : sparse) === 0) grids.push(gridBySeconds(rows, stepS, grid));
      index += 1;
    }
    return grids;
  } finally {
    set.close();
  }
}

/** A guest that from a bin on does half as much again, on top of twice what it did on average. */
function moved(values: Float64Array, from: number): Float64Array {
  const known = values.filter((value) => !Number.isNaN(value));
  const mean = known.reduce((sum, value) => sum + Math.abs(value), 0) / known.length;
  return values.map((value, bin) => (bin < from ? value : 1.5 * value + 2 * mean));
}

/** Outcomes of one series under each level, and how many there were. */
function follow(kernels: SeriesKernels, values: Float64Array, { season, warmUp, movedAt, every }: Case) {
  const model = new SeriesModel(kernels, { metrics: ['value'], season });
  const steps = kernels.knotSteps.filter((step) => step <= STEPS_MAX);
  const covered = [0, 0];
  let count = 0;
  const from = movedAt === undefined ? warmUp : movedAt + DAY;
  const until = Math.min(values.length - STEPS_MAX, movedAt === undefined ? Infinity : from + 2 * DAY);
  for (let bin = 0; bin < until; bin += 1) {
    if (bin >= from && bin % (every ?? EVERY) === 0) {
      const forecast = model.infer(STEPS_MAX, LEVELS);
      for (const step of steps) {
        const actual = Math.fround(values[bin - 1 + step] as number);
        if (Number.isNaN(actual) || Number.isNaN(forecast[0] as number)) continue;
        count += 1;
        for (const l of LEVELS.keys()) {
          const quantile = forecast[(step - 1) * LEVELS.length + l] as number;
          covered[l] = (covered[l] as number) + (actual < quantile ? 1 : actual === quantile ? 0.5 : 0);
        }
      }
    }
    model.refresh({ values: values.subarray(bin, bin + 1) });
    model.rest();
  }
  return { covered, count };
}

for (const one of CASES) {
  const title = `${one.set}${one.movedAt === undefined ? '' : ', a day after every level has moved'}`;
  const skip =
    DATA !== undefined && existsSync(join(DATA, one.set)) ? false : `no ${one.set} below FORESHADE_DATA`;
  t.test(title, { skip }, async (t) => {
    const kernels = await SeriesKernels.load();
    kernels.adopt((await readModel(join(shippedFolder(), 'default', '1'), partsOf(kernels))).weights);
    const series = (await gridsOf(one)).flatMap(({ values }) =>
      values.map((metric) =>
        follow(kernels, one.movedAt === undefined ? metric : moved(metric, one.movedAt), one),
      ),
    );
    const counted = series.filter(({ count }) => count > 0);
    const total = counted.reduce((sum, { count }) => sum + count, 0);
    for (const [l, level] of LEVELS.entries()) {
      const share = counted.reduce((sum, { covered }) => sum + (covered[l] as number), 0) / total;
      recordFigure({
        bar: `coverage of q${level}: ${title}`,
        value: Number(share.toFixed(3)),
        limit: `within ${BAR} of ${level}`,
        met: Math.abs(share - level) <= BAR,
      });
      t.ok(
        Math.abs(share - level) <= (one.asserted ?? BAR),
        `q${level} covers ${share.toFixed(3)} of ${total} outcomes`,
      );
      if (one.guestsWithin === undefined) continue;
      const within = counted.filter(
        ({ covered, count }) => Math.abs((covered[l] as number) / count - level) <= 0.05,
      ).length;
      recordFigure({
        bar: `guests within 5 points of q${level}: ${title}`,
        value: Number((within / counted.length).toFixed(3)),
        limit: `at least ${one.guestsWithin}`,
        met: within / counted.length >= one.guestsWithin,
      });
      t.ok(
        within / counted.length >= one.guestsWithin,
        `${within} of ${counted.length} series within 5 points`,
      );
    }
  });
}
