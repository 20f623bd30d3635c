import type { Lease } from '../core/lease.ts';
import { type Entitlement, PROFILE_FIELDS } from '../core/profile.ts';
import { type GuestSample, INSTRUCTION_CLASSES } from '../core/sample.ts';
import {
  CLASS_COLUMNS,
  flagBits,
  PROFILE_COLUMNS,
  type ShadowContext,
  ShadowError,
  type ShadowFlag,
  type ShadowLayout,
  type ShadowStore,
} from '../core/shadow.ts';
import { isCutOff } from './censoring.ts';
import type { LeaseBook } from './lease-book.ts';
import type { Log } from './log.ts';
import type { ManagedGuest } from './managed-guest.ts';

/** What the engine writes of the shadow. */
export type Shadow = Pick<ShadowStore, 'context' | 'layout' | 'recordInputs'>;

/** Metrics of every point: the profile, the instruction classes, the wait for a host CPU, and the host's counters. */
const METRICS = [
  ...PROFILE_COLUMNS,
  ...CLASS_COLUMNS,
  'cpu_delay_fraction',
  'cycles_per_instruction',
  'branch_instructions',
  'cache_misses',
];
const CLASSES_AT = PROFILE_COLUMNS.length;
const DELAY_AT = CLASSES_AT + CLASS_COLUMNS.length;
const HARDWARE_AT = DELAY_AT + 1;

/** What a guest's points share until one of these changes. */
interface Standing {
  readonly lease: Lease | undefined;
  readonly held: Entitlement;
  /** By cadence. */
  readonly contexts: Map<GuestSample['cadence'], ShadowContext>;
}

/** Writes each sample to the shadow, beside the request it was taken under and what the guest was allowed then. */
export class Recorder {
  readonly #shadow: Shadow;
  readonly #leases: LeaseBook;
  readonly #hostName: () => string;
  readonly #log: Log;
  readonly #layout: ShadowLayout;
  readonly #standings = new WeakMap<ManagedGuest, Standing>();
  readonly #values = new Float64Array(METRICS.length);

  constructor(parts: { shadow: Shadow; leases: LeaseBook; hostName: () => string; log: Log }) {
    this.#shadow = parts.shadow;
    this.#leases = parts.leases;
    this.#hostName = parts.hostName;
    this.#log = parts.log;
    this.#layout = parts.shadow.layout(METRICS);
  }

  /** Take the production input of a new request. A request is given its resources whether or not it can be recorded. */
  request(lease: Lease): void {
    const { requestId, guest, tenant, workload, params, requestedAtMs } = lease;
    try {
      this.#shadow.recordInputs({
        atMs: requestedAtMs,
        requestId,
        guest,
        host: this.#hostName(),
        ...(tenant !== '' && { tenant }),
        workload,
        params,
      });
    } catch (cause) {
      if (!(cause instanceof ShadowError)) throw cause;
      this.#log.warn({ err: cause, leaseId: lease.id }, 'the request could not be recorded');
    }
  }

  /** Take a sample of a managed guest. Rows that find no place are dropped and counted by the store. */
  sample(sample: GuestSample, guest: ManagedGuest): void {
    const values = this.#values;
    for (const [i, field] of PROFILE_FIELDS.entries()) values[i] = sample.usage[field] ?? Number.NaN;
    for (const [i, name] of INSTRUCTION_CLASSES.entries())
      values[CLASSES_AT + i] = sample.classes?.[name] ?? Number.NaN;
    values[DELAY_AT] = delayFraction(sample);
    const { cyclesPerInstruction, branchInstructions, cacheMisses } = sample.hardware ?? {};
    values[HARDWARE_AT] = cyclesPerInstruction ?? Number.NaN;
    values[HARDWARE_AT + 1] = branchInstructions ?? Number.NaN;
    values[HARDWARE_AT + 2] = cacheMisses ?? Number.NaN;
    this.#layout.append(
      this.#contextOf(sample.cadence, guest),
      sample.atMs,
      sample.periodMs,
      sample.instructionsAt ?? Number.NaN,
      flagBits(flagsOf(sample, guest.held)),
      values,
    );
  }

  #contextOf(cadence: GuestSample['cadence'], guest: ManagedGuest): ShadowContext {
    const { id } = guest.record;
    const lease = this.#leases.newestInPlace(id);
    let standing = this.#standings.get(guest);
    if (standing === undefined || standing.lease?.id !== lease?.id || standing.held !== guest.held) {
      standing = { lease, held: guest.held, contexts: new Map() };
      this.#standings.set(guest, standing);
    }
    let context = standing.contexts.get(cadence);
    if (context === undefined) {
      context = this.#shadow.context({
        guest: id,
        host: this.#hostName(),
        axis: cadence === 'cut' ? 'instructions' : 'seconds',
        cadence,
        granted: guest.held,
        ...(lease !== undefined && { requestId: lease.requestId, workload: lease.workload }),
        ...(lease !== undefined && lease.tenant !== '' && { tenant: lease.tenant }),
      });
      standing.contexts.set(cadence, context);
    }
    return context;
  }
}

function flagsOf(sample: GuestSample, held: Entitlement): readonly ShadowFlag[] {
  const isCensored = PROFILE_FIELDS.some((field) => isCutOff(sample, field, held));
  return isCensored ? [...sample.flags, 'censored'] : sample.flags;
}

/** Share of the period that the guest's vCPUs waited for a host CPU, all together; NaN when it is not known. */
function delayFraction({ vcpus }: GuestSample): number {
  if (vcpus === undefined) return Number.NaN;
  let sum = 0;
  for (const vcpu of vcpus) sum += vcpu.delayFraction;
  return sum;
}
