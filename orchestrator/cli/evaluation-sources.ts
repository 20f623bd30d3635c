import { BASELINES, type Baseline, baselineSource } from '../../models/evaluate/naive.ts';
import type { ForecasterSource } from '../../models/evaluate/series-forecaster.ts';
import { SeriesModel, withoutRecurrence } from '../forecast/series-model.ts';
import { SeriesKernels } from '../wasm/series.ts';
import type { Io } from './io.ts';
import { DEFAULT_MODEL, loadModel } from './model-folder.ts';

/** What can stand beside the forecaster that is scored: the baselines, or each expert of the model by itself. */
export const REFERENCES = [...BASELINES, 'experts'] as const;
export type Reference = (typeof REFERENCES)[number];

/** Logit of an expert that is to answer alone: the others' weights are lost in rounding, unless it has no answer. */
const ALONE = 40;

export interface SourceQuestion {
  readonly model?: string;
  readonly models?: string;
  readonly lstm: boolean;
  readonly baseline?: Baseline;
}

/** The forecaster that is scored. */
export async function sourceOf(
  io: Io,
  { baseline, model = DEFAULT_MODEL, models, lstm }: SourceQuestion,
): Promise<ForecasterSource> {
  if (baseline !== undefined) return baselineSource(baseline);
  const kernels = await SeriesKernels.load();
  const { weights } = await loadModel(io, kernels, model, models);
  const name = lstm ? model : `${model} without its recurrent part`;
  return modelSource(name, kernels, lstm ? weights : withoutRecurrence(kernels, weights));
}

/** Forecasts with these weights in these kernels, which are its own. */
export function modelSource(name: string, kernels: SeriesKernels, weights: Float32Array): ForecasterSource {
  kernels.adopt(weights);
  return { name, open: (facts) => new SeriesModel(kernels, facts) };
}

/** The forecasters beside it, without the one that is scored. */
export async function referenceSources(
  names: readonly Reference[],
  { baseline }: SourceQuestion,
): Promise<ForecasterSource[]> {
  const sources: ForecasterSource[] = [];
  for (const name of names) {
    if (name === 'experts') sources.push(...(await expertSources()));
    else if (name !== baseline) sources.push(baselineSource(name));
  }
  return sources;
}

async function expertSources(): Promise<ForecasterSource[]> {
  const { groups } = await SeriesKernels.load();
  return await Promise.all(
    Array.from({ length: groups }, async (_, group) => {
      const kernels = await SeriesKernels.load();
      return modelSource(`expert ${group + 1}`, kernels, expertAlone(kernels, group));
    }),
  );
}

/** A model that trusts one expert at every horizon, whatever it sees. */
function expertAlone({ model, groupRow, knotSteps }: SeriesKernels, group: number): Float32Array {
  const weights = new Float32Array(model.length);
  const columns = knotSteps.length * groupRow;
  const bias = weights.length - 2 * columns; // before the trust
  for (const knot of knotSteps.keys()) weights[bias + knot * groupRow + group] = ALONE;
  return weights;
}
