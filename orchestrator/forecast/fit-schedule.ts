/** Bins between two fits of the linear expert. */
const FIT_EVERY = 32;
/** Until so many bins all fits are made anew whenever the history has grown by EARLY_GROWTH. */
const EARLY_BINS = 2048;
const EARLY_GROWTH = 1.25;
const FIRST_FIT = 64;

const EARLY_FITS = ((): ReadonlySet<number> => {
  const at = new Set<number>();
  for (let bins = FIRST_FIT; bins < EARLY_BINS; bins = Math.ceil(bins * EARLY_GROWTH)) at.add(bins);
  return at;
})();

/**
 * Fits of the linear expert to be made once a series has taken so many bins.
 * @param fits how many it has
 * @returns bit f: fit f
 */
export function fitsDueAt(bins: number, fits: number): number {
  if (bins < EARLY_BINS) return EARLY_FITS.has(bins) ? (1 << fits) - 1 : 0;
  return bins % FIT_EVERY === 0 ? 1 << ((bins / FIT_EVERY) % fits) : 0;
}
