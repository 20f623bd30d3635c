import type { Params } from '../core/request.ts';
import { signedLog } from './features.ts';

/** Workloads whose newest run is kept. A few times what the model holds: a run is a few hundred bytes. */
const WORKLOADS_MAX = 256;
/** Kindred workloads that answer for an unknown one. */
const NEIGHBOURS = 6;
/** Distance of two names without a word in common, of two categories, and of numbers a factor e^2 apart. */
const NAME_DISTANCE = 2;
const CATEGORY_DISTANCE = 0.5;
const NUMBER_SCALE = 4;
/** Beyond this two numbers are as far apart as can be. */
const NUMBER_DISTANCE_MAX = 25;
/** Weight lost from the nearest to the farthest; distances count from this far outside. */
const FADE = 0.9;
const NEAR_DISTANCE = 0.3;

interface Example {
  readonly words: ReadonlySet<string>;
  readonly params: Params;
  /** f64[OUTPUTS], in the outputs' own units; NaN: not read. */
  readonly outputs: Float64Array;
}

/**
 * The newest run of each workload of a tenant: what is known of a workload that never ran. Names and parameters that are
 * alike stand for work that is alike.
 */
export class KindredWorkloads {
  readonly #tenants = new Map<string, Map<string, Example>>();
  #size = 0;

  /** @param outputs f64[OUTPUTS], kept as it is */
  learn(tenant: string, workload: string, params: Params, outputs: Float64Array): void {
    const examples = this.#tenants.get(tenant) ?? new Map<string, Example>();
    if (!examples.delete(workload)) this.#size += 1;
    examples.set(workload, { words: wordsOf(workload), params, outputs });
    // The tenant that learned last stands last.
    this.#tenants.delete(tenant);
    this.#tenants.set(tenant, examples);
    if (this.#size > WORKLOADS_MAX) this.#dropOldest();
  }

  /**
   * Quantiles of one output over the nearest workloads that have it, read linearly in logarithms.
   * @param levels increasing
   * @param floor  smallest step of the output, in its unit
   * @returns undefined: no workload of the tenant has it
   */
  quantiles(
    request: { readonly tenant: string; readonly name: string; readonly params: Params },
    output: number,
    levels: readonly number[],
    floor: number,
  ): Float64Array | undefined {
    const words = wordsOf(request.name);
    const known = [...(this.#tenants.get(request.tenant)?.values() ?? [])]
      .filter(({ outputs }) => !Number.isNaN(outputs[output]))
      .map((example) => ({
        value: Math.log1p((example.outputs[output] as number) / floor),
        distance: distanceOf(words, request.params, example),
      }))
      .sort((a, b) => a.distance - b.distance)
      .slice(0, NEIGHBOURS);
    if (known.length === 0) return undefined;
    const reach = (known.at(-1)?.distance ?? 0) + NEAR_DISTANCE;
    const points = known
      .map(({ value, distance }) => ({ value, weight: 1 - (FADE * distance) / reach }))
      .sort((a, b) => a.value - b.value);
    return Float64Array.from(levels, (level) => floor * Math.expm1(quantileOf(points, level)));
  }

  #dropOldest(): void {
    for (const [tenant, examples] of this.#tenants) {
      for (const workload of examples.keys()) {
        examples.delete(workload);
        this.#size -= 1;
        if (examples.size === 0) this.#tenants.delete(tenant);
        return;
      }
    }
  }
}

function wordsOf(name: string): Set<string> {
  return new Set(
    name
      .toLowerCase()
      .split(/[^\p{L}\p{N}]+/u)
      .filter(Boolean),
  );
}

function distanceOf(words: ReadonlySet<string>, params: Params, example: Example): number {
  const shared = [...words].filter((word) => example.words.has(word)).length;
  const all = words.size + example.words.size - shared;
  let distance = NAME_DISTANCE * (1 - shared / Math.max(1, all));
  for (const [name, param] of Object.entries(params)) {
    const other = example.params[name];
    if (typeof param.value === 'number' && typeof other?.value === 'number') {
      const apart = signedLog(param.value) - signedLog(other.value);
      distance += Math.min((apart * apart) / NUMBER_SCALE, NUMBER_DISTANCE_MAX);
    } else if (param.value !== other?.value) distance += CATEGORY_DISTANCE;
  }
  return distance;
}

/** Quantile of weighted values: each one's mass is centred on it, and between two it is read linearly. */
function quantileOf(
  points: readonly { readonly value: number; readonly weight: number }[],
  level: number,
): number {
  const total = points.reduce((sum, { weight }) => sum + weight, 0);
  let mass = 0;
  let before: { at: number; value: number } | undefined;
  for (const { value, weight } of points) {
    const at = (mass + weight / 2) / total;
    if (level <= at) {
      if (before === undefined) return value;
      return before.value + ((value - before.value) * (level - before.at)) / (at - before.at);
    }
    mass += weight;
    before = { at, value };
  }
  return before?.value ?? Number.NaN;
}
