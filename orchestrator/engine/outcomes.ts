import { createHash } from 'node:crypto';
import type { Outcome } from '../core/forecast.ts';
import type { Forecaster, LeaseLedger, LedgerWrite } from '../core/ports.ts';
import type { AllocationRequest, Params } from '../core/request.ts';
import type { WorkloadPasts } from './workload-pasts.ts';

const PREFIX = 'outcome/';

/** Outcomes kept for replay: two hundred workloads' full windows. */
const OUTCOMES_MAX = 20_000;

/** The durable record of finished work: what the forecaster learned, and learns again after a restart. */
export class OutcomeJournal {
  #keys: string[] = [];

  /** Teach everything on record, in the order it was first learned. */
  replay(ledger: LeaseLedger, forecaster: Forecaster, pasts: WorkloadPasts): void {
    const entries = ledger.range(PREFIX);
    for (const { value } of entries) {
      forecaster.learn(value as Outcome);
      pasts.note(value as Outcome);
    }
    this.#keys = entries.map(({ key }) => key);
  }

  get size(): number {
    return this.#keys.length;
  }

  /** The writes that make an outcome durable; the oldest beyond the bound go. */
  record(outcome: Outcome, finishedAtMs: number): LedgerWrite[] {
    const key = `${PREFIX}${String(finishedAtMs).padStart(15, '0')}/${outcome.leaseId}`;
    this.#keys.push(key);
    const writes: LedgerWrite[] = [{ key, value: outcome }];
    while (this.#keys.length > OUTCOMES_MAX)
      writes.push({ key: this.#keys.shift() as string, value: undefined });
    return writes;
  }
}

/** Two requests with the same hash ask for the same. The order of parameters does not matter. */
export function bodyHash(request: AllocationRequest): string {
  const { requestId: _, params, ...rest } = request;
  const body = JSON.stringify([sorted(rest), sorted(params)]);
  return createHash('sha256').update(body).digest('base64url');
}

/** The same for outcomes of one workload of one tenant with the same parameters. */
export function sameWork({ tenant, workload, params }: Outcome): string {
  const body = JSON.stringify([tenant, workload, sorted(params)]);
  return createHash('sha256').update(body).digest('base64url');
}

/** The same for the same workload of one tenant, whatever its parameters. */
export function workloadKey({ tenant, workload }: Outcome): string {
  return createHash('sha256')
    .update(JSON.stringify([tenant, workload]))
    .digest('base64url');
}

function sorted(object: Params | object): [string, unknown][] {
  return Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1));
}
