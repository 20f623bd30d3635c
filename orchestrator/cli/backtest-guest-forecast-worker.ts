import { parentPort } from 'node:worker_threads';
import { DAY_BINS } from '../../models/backtest/guests/guest-series.ts';
import type { Numbered } from '../../models/train/worker-pool.ts';
import { SeriesModel } from '../forecast/series-model.ts';
import { SeriesKernels } from '../wasm/series.ts';

/** One guest whose bins are to be forecast, each from those before it. */
export interface GuestJob {
  readonly weights: Float32Array;
  /** f64[bins] a resource; NaN: nothing was recorded. */
  readonly demand: readonly Float64Array[];
  /** First bin at whose end is forecast. */
  readonly from: number;
  readonly lead: number;
  readonly levels: readonly number[];
}

/** f32[bins - from, levels] a resource: of the bin `lead` later. Zero for a resource that was never read. */
export type GuestForecasts = readonly Float32Array[];

const port = parentPort;
if (port === null) throw new Error('this file runs as a worker');
port.on('message', async ({ place, content }: Numbered<GuestJob>) => {
  const forecasts = await forecastGuest(content);
  port.postMessage(
    { place, content: forecasts } satisfies Numbered<GuestForecasts>,
    forecasts.map(({ buffer }) => buffer as ArrayBuffer),
  );
});

async function forecastGuest({ weights, demand, from, lead, levels }: GuestJob): Promise<Float32Array[]> {
  // A module of its own: a series begins without a past.
  const kernels = await SeriesKernels.load();
  kernels.adopt(weights);
  const model = new SeriesModel(kernels, { metrics: demand.map((_, r) => String(r)), season: DAY_BINS });
  const bins = demand[0]?.length ?? 0;
  const width = levels.length;
  const forecasts = demand.map(() => new Float32Array((bins - from) * width));
  const values = new Float64Array(demand.length);
  for (let bin = 0; bin < bins; bin += 1) {
    for (const [r, own] of demand.entries()) values[r] = own[bin] as number;
    model.refresh({ values });
    model.rest();
    if (bin < from) continue;
    const fan = model.infer(lead, levels);
    for (const [r, out] of forecasts.entries())
      for (let l = 0; l < width; l += 1)
        out[(bin - from) * width + l] = fan[(r * lead + lead - 1) * width + l] || 0;
  }
  return forecasts;
}
