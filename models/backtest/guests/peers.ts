import { DecayingHistogram } from './decaying-histogram.ts';
import { type Actuator, DAY_BINS, type GuestSeries } from './guest-series.ts';
import { windowMax } from './window-max.ts';

/** What a peer decides from. */
export interface PeerQuestion {
  readonly series: GuestSeries;
  readonly actuator: Actuator;
  /** Bins from a decision to its effect. */
  readonly lead: number;
}

/** One shape of a policy: what it decides at the end of each bin, before its margin. */
export interface PeerShape {
  readonly name: string;
  /** @param out f64[bins], filled */
  decide(question: PeerQuestion, out: Float64Array): void;
}

/** A policy to stand beside: every shape at every margin is one setting of it. */
export interface Peer {
  readonly policy: string;
  readonly shapes: readonly PeerShape[];
  readonly margins: readonly number[];
}

/** Margins of the policies that have one to set. */
const MARGINS = [
  0.8, 0.9, 0.95, 1, 1.02, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 6, 10, 20,
] as const;
/** Bins of the windows of window-max: a quarter of an hour to a week. */
const WINDOWS = [3, 6, 12, 24, 48, 96, 144, 288, 432, 576, 864, 1440, 2016] as const;

const VPA_LEVEL = 0.9;
const VPA_MARGIN = 1.15;
/** Source: kubernetes/autoscaler, vertical-pod-autoscaler/docs/flags.md: x1.2, 100 MiB at least. */
const OOM_FACTOR = 1.2;
const OOM_KIB = 100 * 1024;

const CRANE_LEVEL = 0.99;
const CRANE_MARGIN = 1.15;
/** Days that crane's periodic prediction looks back, and the bins it looks ahead: 1 h. */
const DSP_DAYS = 3;
const DSP_AHEAD_BINS = 12;

/** Source: oVirt/mom, doc/balloon.rules: history of 10, 5 % a step, dead band 0.25 %, 20 % free. */
const MOM = { history: 10, step: 0.05, deadband: 0.0025, free: 0.2 } as const;
/** Source: pve-manager, PVE/Service/pvestatd.pm: 80 % used; changes below 10 MiB are not made. */
const PVE = { used: 0.8, changeMinKib: 10 * 1024 } as const;
/** Grow above 80 % used, shrink below 40 %, to the middle of both. */
const REACTIVE = { high: 0.8, low: 0.4, aim: 0.6 } as const;

function fixed(policy: string, name: string, decide: PeerShape['decide'], margin = 1): Peer {
  return { policy, shapes: [{ name, decide }], margins: [margin] };
}

function decideStatic({ series }: PeerQuestion, out: Float64Array): void {
  out.fill(series.provisioned);
}

function decideVpa({ series, actuator, lead }: PeerQuestion, out: Float64Array): void {
  const histogram = new DecayingHistogram(actuator.floor);
  const hasOom = Number.isFinite(actuator.moveMax); // memory is what runs out
  for (const [bin, value] of series.seen.entries()) {
    histogram.add(value, bin);
    const given = bin >= lead ? VPA_MARGIN * (out[bin - lead] as number) : series.provisioned;
    if (hasOom && value > given) histogram.add(Math.max(value * OOM_FACTOR, value + OOM_KIB), bin);
    out[bin] = histogram.quantile(VPA_LEVEL);
  }
}

function decideCranePercentile({ series, actuator }: PeerQuestion, out: Float64Array): void {
  const histogram = new DecayingHistogram(actuator.floor);
  for (const [bin, value] of series.seen.entries()) {
    histogram.add(value, bin);
    out[bin] = histogram.quantile(CRANE_LEVEL);
  }
}

/** The larger of the last value and the peak that the same hour had in the days before. */
function decideCraneMax({ series, lead }: PeerQuestion, out: Float64Array): void {
  const hour = new Float64Array(out.length);
  windowMax(series.seen, DSP_AHEAD_BINS, hour);
  for (const [bin, value] of series.seen.entries()) {
    let peak = value;
    for (let day = 1; day <= DSP_DAYS; day += 1) {
      const end = bin + lead + DSP_AHEAD_BINS - 1 - day * DAY_BINS;
      if (end >= 0) peak = Math.max(peak, hour[end] as number);
    }
    out[bin] = peak;
  }
}

function decideMom({ series }: PeerQuestion, out: Float64Array): void {
  let current = series.provisioned;
  let sum = 0;
  for (const [bin, value] of series.seen.entries()) {
    sum += value - (bin >= MOM.history ? (series.seen[bin - MOM.history] as number) : 0);
    const wanted = sum / Math.min(bin + 1, MOM.history) / (1 - MOM.free);
    const next = Math.min(Math.max(wanted, current * (1 - MOM.step)), current * (1 + MOM.step));
    if (Math.abs(next - current) > current * MOM.deadband) current = next;
    out[bin] = current;
  }
}

function decidePve({ series, actuator }: PeerQuestion, out: Float64Array): void {
  const changeMin = Number.isFinite(actuator.moveMax) ? PVE.changeMinKib : 0;
  let current = series.provisioned;
  for (const [bin, value] of series.seen.entries()) {
    const wanted = value / PVE.used;
    if (Math.abs(wanted - current) >= changeMin) current = wanted;
    out[bin] = current;
  }
}

function decideReactive({ series, actuator }: PeerQuestion, out: Float64Array): void {
  let current = series.provisioned;
  for (const [bin, value] of series.seen.entries()) {
    if (value > REACTIVE.high * current || value < REACTIVE.low * current)
      current = Math.min(Math.max(value / REACTIVE.aim, actuator.floor), series.ceiling);
    out[bin] = current;
  }
}

function decideLast({ series }: PeerQuestion, out: Float64Array): void {
  out.set(series.seen);
}

/** The bin that was a day before the one the decision is for; the last value while there is none. */
function decideSeasonal({ series, lead }: PeerQuestion, out: Float64Array): void {
  for (const [bin, value] of series.seen.entries())
    out[bin] = bin + lead >= DAY_BINS ? (series.seen[bin + lead - DAY_BINS] as number) : value;
}

/** Demand as it will be, and where an actuator is too slow for a rise, early enough for it. */
function decideOracle({ series, actuator, lead }: PeerQuestion, out: Float64Array): void {
  const last = out.length - 1;
  let next = 0;
  for (let bin = last; bin >= 0; bin -= 1) {
    const wanted = series.seen[Math.min(bin + lead, last)] as number;
    // What the move from here must reach is a whole grain, at the next bin as well.
    const ahead = Math.min(Math.ceil(next / actuator.grain) * actuator.grain, series.ceiling);
    next = Math.max(wanted, ahead - actuator.moveMax);
    out[bin] = next;
  }
}

/** The policies to stand beside, with their makers' constants or swept. */
export const PEERS: readonly Peer[] = [
  fixed('static', 'capacity', decideStatic),
  fixed('vpa', 'p90, 24 h half-life', decideVpa, VPA_MARGIN),
  fixed('crane-percentile', 'p99, 24 h half-life', decideCranePercentile, CRANE_MARGIN),
  fixed('crane-max', 'DSP of 3 d and last', decideCraneMax, CRANE_MARGIN),
  fixed('mom', 'mean of 10, 20 % free', decideMom),
  fixed('pvestatd', '80 % used', decidePve),
  fixed('reactive', '80/40', decideReactive),
  { policy: 'last-value', shapes: [{ name: 'last', decide: decideLast }], margins: MARGINS },
  { policy: 'seasonal-naive', shapes: [{ name: '1 d', decide: decideSeasonal }], margins: MARGINS },
  {
    policy: 'window-max',
    shapes: WINDOWS.map((window) => ({
      name: `${window} bins`,
      decide: ({ series }, out) => windowMax(series.seen, window, out),
    })),
    margins: MARGINS.filter((margin) => margin >= 0.95),
  },
];

/** Demand known beforehand, through the same actuator: what no policy can better. */
export const ORACLE: Peer = fixed('oracle', 'demand', decideOracle);
