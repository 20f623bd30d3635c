import type { GuestId } from '../core/guest.ts';
import type { Telemetry } from '../core/ports.ts';
import type { Cadence, Sampling } from '../core/sample.ts';
import type { GuestBook } from './guest-book.ts';
import type { LeaseBook } from './lease-book.ts';

/** How often each guest is sampled: adopted guests that run always, those with a lease in force also at the fast cadence. */
export class Cadences {
  readonly #telemetry: Telemetry;
  readonly #guests: GuestBook;
  readonly #leases: LeaseBook;
  readonly #told = new Map<GuestId, { readonly cadence: Cadence; readonly own: Partial<Sampling> }>();

  constructor(telemetry: Telemetry, guests: GuestBook, leases: LeaseBook) {
    this.#telemetry = telemetry;
    this.#guests = guests;
    this.#leases = leases;
  }

  /** The guest's state, its leases or its granularity may have changed. */
  refresh(id: GuestId): void {
    const cadence = this.#cadenceOf(id);
    const own = this.#guests.find(id)?.record.sampling ?? NOTHING_OWN;
    const told = this.#told.get(id);
    if (cadence === (told?.cadence ?? 'none') && (cadence === 'none' || told?.own === own)) return;
    if (cadence === 'none') this.#told.delete(id);
    else this.#told.set(id, { cadence, own });
    this.#telemetry.watch(id, cadence, own);
  }

  #cadenceOf(id: GuestId): Cadence {
    if (this.#guests.find(id)?.facts.state !== 'running') return 'none';
    return this.#leases.inForce(id).length > 0 ? 'fast' : 'full';
  }
}

const NOTHING_OWN: Partial<Sampling> = {};
