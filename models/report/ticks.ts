/** An axis: where it begins and ends, and where it has a tick. */
export interface Ticks {
  readonly low: number;
  readonly high: number;
  readonly step: number;
  readonly values: readonly number[];
}

/**
 * Round ticks.
 * @param count about so many
 * @param fixed the axis ends as given; else at the ticks around
 * @param least the spacing is at least this
 */
export function ticksOf(
  [low, high]: readonly [number, number],
  count: number,
  fixed = false,
  least = 0,
): Ticks {
  const width = high > low ? high - low : Math.abs(high) || 1;
  const [from, to] = high > low ? [low, high] : [low - width / 2, high + width / 2];
  const rough = width / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const round = ([1, 2, 2.5, 5, 10].find((one) => one * power >= rough) ?? 10) * power;
  const step = Math.max(round, least);
  const first = fixed ? Math.ceil(from / step - 1e-9) : Math.floor(from / step + 1e-9);
  const last = fixed ? Math.floor(to / step + 1e-9) : Math.ceil(to / step - 1e-9);
  const values = Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
  return fixed
    ? { low: from, high: to, step, values }
    : { low: first * step, high: last * step, step, values };
}

const UNITS = [
  { size: 1e12, sign: 'T' },
  { size: 1e9, sign: 'G' },
  { size: 1e6, sign: 'M' },
  { size: 1e3, sign: 'k' },
] as const;

/** A number with as many decimals as the spacing of its neighbours needs; in short where that is large too. */
export function tickText(value: number, step: number): string {
  const unit = UNITS.find(({ size }) => Math.abs(value) >= size && step >= size / 4);
  return unit === undefined
    ? trimmed(value, step)
    : `${trimmed(value / unit.size, step / unit.size)}${unit.sign}`;
}

function trimmed(value: number, step: number): string {
  const decimals = Math.min(Math.max(Math.ceil(-Math.log10(step) - 1e-9) + (isHalf(step) ? 1 : 0), 0), 12);
  const text = value.toFixed(decimals);
  return Number(text) === 0 ? '0' : text;
}

/** A step of 2.5 x 10^n needs one more decimal than its size says. */
function isHalf(step: number): boolean {
  const lead = step / 10 ** Math.floor(Math.log10(step));
  return Math.abs(lead - 2.5) < 1e-6;
}
