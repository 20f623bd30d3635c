import type { GuestId } from '../core/guest.ts';
import type { Telemetry } from '../core/ports.ts';
import type { GuestBook } from './guest-book.ts';
import type { LeaseBook } from './lease-book.ts';

/** How often each guest is sampled: adopted guests that run always, those with a lease in force also at the fast cadence. */
export class Cadences {
  readonly #telemetry: Telemetry;
  readonly #guests: GuestBook;
  readonly #leases: LeaseBook;
  readonly #told = new Map<GuestId, 'full' | 'fast'>();

  constructor(telemetry: Telemetry, guests: GuestBook, leases: LeaseBook) {
    this.#telemetry = telemetry;
    this.#guests = guests;
    this.#leases = leases;
  }

  /** The guest's state or its leases may have changed. */
  refresh(id: GuestId): void {
    const cadence = this.#cadenceOf(id);
    if (cadence === (this.#told.get(id) ?? 'none')) return;
    if (cadence === 'none') this.#told.delete(id);
    else this.#told.set(id, cadence);
    this.#telemetry.watch(id, cadence);
  }

  #cadenceOf(id: GuestId): 'full' | 'fast' | 'none' {
    if (this.#guests.find(id)?.facts.state !== 'running') return 'none';
    return this.#leases.inForce(id).length > 0 ? 'fast' : 'full';
  }
}
