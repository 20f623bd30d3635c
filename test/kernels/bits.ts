// Prints digests of what every module of kernels answers, in both builds, as one JSON document: `node bits.js`. On any version of
// Node it must be the same.
import { createHash } from 'node:crypto';
import { readModel } from '../../models/files/model-file.ts';
import type { Outcome } from '../../orchestrator/core/forecast.ts';
import { ParametricForecaster } from '../../orchestrator/forecast/parametric-forecaster.ts';
import { packagePath } from '../../orchestrator/package-path.ts';
import { Anomalies } from '../../orchestrator/wasm/anomaly.ts';
import { EffectKernels } from '../../orchestrator/wasm/effect.ts';
import type { ModuleBuild } from '../../orchestrator/wasm/module.ts';
import { SeriesKernels } from '../../orchestrator/wasm/series.ts';
import { randomFrom } from '../random.ts';
import { requestOf, sampleOf } from '../unit/hidden-workload.ts';

const SEED = 17;
const SEASON = 24;
const MODES = ['fast', 'good', 'best'];

const digestOf = (...arrays: (Float64Array | Float32Array)[]): string => {
  const hash = createHash('sha256');
  for (const { buffer, byteOffset, byteLength } of arrays)
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  return hash.digest('hex');
};

/** A run by plain arithmetic: what Math gives may differ between versions. */
function runOf(random: () => number): Outcome {
  const [input, level, vary] = [random() * 1000, random() * 9, 0.9 + 0.2 * random()];
  const mode = MODES[Math.floor(random() * MODES.length)] as string;
  return {
    leaseId: '',
    guest: 'g',
    tenant: 'lab',
    workload: 'w',
    params: {
      input: { kind: 'number', value: input },
      level: { kind: 'number', value: level },
      mode: { kind: 'category', value: mode },
    },
    startedAtMs: 0,
    finishedAtMs: input * (1 + level) * vary,
    before: { cpuMillicores: 20, memoryBytes: 1e8 },
    peak: { cpuMillicores: 20 + 300 * level * vary, memoryBytes: 1e8 + 1e6 * input * vary },
    censored: [],
    completed: true,
  };
}

async function requests(build: ModuleBuild): Promise<string> {
  const random = randomFrom(SEED);
  const forecaster = await ParametricForecaster.create({ build });
  for (let i = 0; i < 80; i += 1) {
    forecaster.observe(sampleOf('g', i, random));
    forecaster.learn(runOf(random));
  }
  const { peak, values, duration } = forecaster.forecast(requestOf('g', 'w', runOf(random).params));
  return digestOf(peak, values, duration);
}

async function effects(build: ModuleBuild): Promise<string> {
  const random = randomFrom(SEED);
  const { call, ...views } = await EffectKernels.load(build);
  for (const view of [views.knots, views.duration, views.peak, views.values, views.shares])
    for (let i = 0; i < view.length; i += 1) view[i] = random() + i;
  call.takeLargest();
  call.addEffect(views.knots.length, 3);
  return digestOf(views.values, views.largest);
}

async function series(build: ModuleBuild): Promise<string> {
  const random = randomFrom(SEED);
  const kernels = await SeriesKernels.load(build);
  const { inputs, hidden, groups, groupRow, knotSteps, call } = kernels;
  const parts = { inputs, hidden, groups, groupRow, knots: knotSteps };
  kernels.adopt((await readModel(packagePath('models/weights/default/1'), parts)).weights);
  call.open(0, SEASON, 0);
  for (let i = 0; i < 700; i += 1) call.refresh(0, 2 + (i % SEASON) + random());
  for (let fit = 0; fit < kernels.fits; fit += 1) call.fit(0, fit);
  kernels.levels.set([0.1, 0.5, 0.9]);
  kernels.steps.set([1, 10, 100]);
  call.aim(0);
  call.forecast(0, 3, 3);
  return digestOf(kernels.quantiles);
}

async function anomaly(build: ModuleBuild): Promise<string> {
  const random = randomFrom(SEED);
  const rows = Array.from({ length: 600 }, () => [random(), random() * 9, random() * random()]);
  const guest = (await Anomalies.load(build)).open(3);
  guest.learn(rows.slice(0, 400));
  return digestOf(Float64Array.from(rows.slice(400), (row) => guest.score(row)));
}

const digests: Record<string, Record<string, string>> = {};
for (const [name, of] of Object.entries({ requests, effects, series, anomaly }))
  digests[name] = { release: await of('release'), debug: await of('debug') };
process.stdout.write(`${JSON.stringify(digests)}\n`);
