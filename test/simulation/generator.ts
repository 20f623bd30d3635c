/** Numbers in [0, 1), the same for the same seed. Source: Steele, Lea & Flood, "Fast splittable pseudorandom number generators" (SplitMix32 form). */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32;
  };
}

/** One of the items. */
export function pick<T>(random: () => number, items: readonly T[]): T {
  return items[Math.floor(random() * items.length)] as T;
}

/** 1 to `fallback`; FORESHADE_SEEDS runs more, FORESHADE_SEED one. */
export function seeds(fallback: number): number[] {
  const { FORESHADE_SEED: one, FORESHADE_SEEDS: many } = process.env;
  if (one !== undefined) return [Number(one)];
  return Array.from({ length: Number(many ?? fallback) }, (_, i) => i + 1);
}
