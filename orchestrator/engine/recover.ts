import { explainedBy, withResource } from '../core/entitlement.ts';
import { AllocatorError } from '../core/errors.ts';
import type { GuestFacts } from '../core/guest.ts';
import { ACTUATED, type Actuated } from '../core/ports.ts';
import type { Entitlement } from '../core/profile.ts';
import type { ManagedGuest } from './managed-guest.ts';
import type { Actuators } from './mover.ts';

/** A balloon that was travelling when we died is given this long to arrive or to stop. */
const SETTLE_MS_MAX = 5_000;
const SETTLE_STEP_MS = 250;

/**
 * Read what a guest really holds after we were away, and tell which resources somebody else moved meanwhile: those are
 * at no value we ever asked for or held.
 * @param wait resolves after so many ms
 */
export async function recoverGuest(
  guest: ManagedGuest,
  facts: GuestFacts,
  actuators: Actuators,
  wait: (ms: number) => Promise<void>,
): Promise<Actuated[]> {
  guest.facts = facts;
  const { record } = guest;
  let held = await readAll(guest, facts.entitlement, actuators);
  for (let waited = 0; record.moving && waited < SETTLE_MS_MAX; waited += SETTLE_STEP_MS) {
    await wait(SETTLE_STEP_MS);
    const next = await readAll(guest, held, actuators);
    const still = next.memoryBytes === held.memoryBytes;
    held = next;
    if (still) break;
  }
  guest.held = held;
  const known = [
    record.baseline.entitlement,
    ...record.known,
    ...(record.intended === undefined ? [] : [record.intended]),
  ];
  return ACTUATED.filter(
    (resource) =>
      !record.relinquished.includes(resource) && !explainedBy(resource, held, known, record.moving),
  );
}

async function readAll(
  guest: ManagedGuest,
  fallback: Entitlement,
  actuators: Actuators,
): Promise<Entitlement> {
  let held = fallback;
  for (const resource of ACTUATED) {
    try {
      held = withResource(held, resource, await actuators[resource].read(guest.record.id));
    } catch (cause) {
      if (!(cause instanceof AllocatorError) || cause.code !== 'NOT_SUPPORTED') throw cause;
    }
  }
  return held;
}
