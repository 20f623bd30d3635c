import type { CallContext } from '../../orchestrator/core/engine.ts';
import type { Mode } from '../../orchestrator/core/guest.ts';
import type { ExpectedStart, GuestStarts } from '../../orchestrator/core/guest-start.ts';
import type { Lease } from '../../orchestrator/core/lease.ts';
import { leaseOf } from './engine-double.ts';

/** Starts without an engine: every call recorded, every reservation granted; `fail` makes them throw it. */
export class StartsDouble implements GuestStarts {
  readonly calls: { readonly method: string; readonly argument: unknown }[] = [];
  fail: unknown;
  mode: Mode = 'enforce';

  async reserve(start: ExpectedStart, _context: CallContext): Promise<Lease> {
    this.calls.push({ method: 'reserve', argument: start });
    if (this.fail !== undefined) throw this.fail;
    return leaseOf({ ...start.request, requestId: 'start' }, { state: 'SCHEDULED' });
  }

  modeOf(): Mode {
    return this.mode;
  }

  started(guest: string): void {
    this.calls.push({ method: 'started', argument: guest });
  }

  ended(guest: string): void {
    this.calls.push({ method: 'ended', argument: guest });
  }
}
