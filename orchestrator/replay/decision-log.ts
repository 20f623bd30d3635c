import { createHash } from 'node:crypto';
import type { Decision } from '../core/engine.ts';
import type { AllocatorError } from '../core/errors.ts';
import type { Lease, PredictedNeed } from '../core/lease.ts';
import { type Entitlement, PROFILE_FIELDS, type ResourceProfile } from '../core/profile.ts';
import { GRANTED_FIELDS, snakeCase } from '../core/shadow.ts';
import type { RecordedRequest } from './shadow-rows.ts';

/** What was written, by kind of record. */
export interface DecisionCounts {
  leases: number;
  refused: number;
  decisions: number;
  ends: number;
  forecasts: number;
  complaints: number;
}

/**
 * What the engine decided, one JSON document a line, in order. Keys stand in one order, numbers as JavaScript writes them:
 * the same decisions are the same bytes.
 */
export class DecisionLog {
  readonly counts: DecisionCounts = {
    leases: 0,
    refused: 0,
    decisions: 0,
    ends: 0,
    forecasts: 0,
    complaints: 0,
  };
  readonly #sink: (text: string) => void;
  readonly #hash = createHash('sha256');

  /** @param sink takes each line, its end included */
  constructor(sink: (text: string) => void) {
    this.#sink = sink;
  }

  /** Digest of all that was written; asked for once, at the end. */
  digest(): string {
    return this.#hash.digest('hex');
  }

  /** A request's answer. */
  lease(atMs: number, lease: Lease): void {
    this.counts.leases += 1;
    const { id, requestId, tenant, workload, guest, state, reason, requested, predicted, before } = lease;
    this.#write({
      at_ms: atMs,
      record: 'lease',
      lease_id: id,
      request_id: requestId,
      tenant,
      workload,
      guest,
      state,
      reason,
      requested: entitlementDocument(requested),
      predicted: predictedDocument(predicted),
      before: usageDocument(before),
    });
  }

  refused(atMs: number, request: RecordedRequest, { code, message }: AllocatorError): void {
    this.counts.refused += 1;
    const { requestId, tenant, workload, guest } = request;
    this.#write({
      at_ms: atMs,
      record: 'refused',
      request_id: requestId,
      tenant,
      workload,
      guest,
      code,
      message,
    });
  }

  decision({ atMs, leaseId, guest, action, rule, inputs, outcome }: Decision): void {
    this.counts.decisions += 1;
    this.#write({ at_ms: atMs, record: 'decision', lease_id: leaseId, guest, action, rule, inputs, outcome });
  }

  end(atMs: number, { id, requestId, guest, state, reason, used, executed }: Lease): void {
    this.counts.ends += 1;
    this.#write({
      at_ms: atMs,
      record: 'end',
      lease_id: id,
      request_id: requestId,
      guest,
      state,
      reason,
      used: usageDocument(used),
      executed: executed?.total,
    });
  }

  /** What a guest would be given without a request. */
  forecast(atMs: number, guest: string, requested: Entitlement, predicted: PredictedNeed): void {
    this.counts.forecasts += 1;
    this.#write({
      at_ms: atMs,
      record: 'forecast',
      guest,
      requested: entitlementDocument(requested),
      predicted: predictedDocument(predicted),
    });
  }

  /** A warning or an error of the engine. */
  complaint(atMs: number, level: 'warn' | 'error', message: string, code: unknown): void {
    this.counts.complaints += 1;
    this.#write({ at_ms: atMs, record: level, message, code });
  }

  #write(document: object): void {
    const line = `${JSON.stringify(document)}\n`;
    this.#hash.update(line);
    this.#sink(line);
  }
}

/** The fields in their one order, whatever order the object has them in. */
function inOrder<F extends string>(
  fields: readonly F[],
  values: Readonly<Partial<Record<F, unknown>>>,
): Record<string, unknown> {
  return Object.fromEntries(fields.map((field) => [snakeCase(field), values[field]]));
}

const entitlementDocument = (entitlement: Entitlement) => inOrder(GRANTED_FIELDS, entitlement);
const usageDocument = (usage: ResourceProfile) => inOrder(PROFILE_FIELDS, usage);

function predictedDocument({ fields, durationS, reason, runs }: PredictedNeed) {
  return { ...inOrder(PROFILE_FIELDS, fields), duration_s: durationS, runs, reason };
}
