import type { Case } from './case.ts';

/** Tries of one shrinking at most: a try costs as much as the case. */
const TRIES_MAX = 60;

/**
 * The smallest case found that still fails as `one` does: fewer faults, fewer guests, fewer ticks.
 * @param fails whether a smaller case fails in the same way
 */
export async function shrink(one: Case, fails: (smaller: Case) => Promise<boolean>): Promise<Case> {
  let smallest = one;
  let tries = 0;
  for (let isSmaller = true; isSmaller; ) {
    isSmaller = false;
    for (const next of smallerThan(smallest)) {
      if (tries >= TRIES_MAX) return smallest;
      tries += 1;
      if (!(await fails(next))) continue;
      smallest = next;
      isSmaller = true;
      break;
    }
  }
  return smallest;
}

/** Steps down from a case, the largest first. */
function* smallerThan(one: Case): Generator<Case> {
  const { guests, ticks, faults } = one;
  for (const fault of faults) yield { ...one, faults: faults.filter((other) => other !== fault) };
  for (const fewer of new Set([Math.ceil(guests / 2), guests - 1]))
    if (fewer >= 1 && fewer < guests) yield { ...one, guests: fewer };
  for (const fewer of new Set([Math.ceil(ticks / 2), Math.ceil(ticks * 0.9)]))
    if (fewer < ticks) yield { ...one, ticks: fewer };
}
