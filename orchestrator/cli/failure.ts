import { ClientError, UNREACHABLE } from '../../integrations/client-node/client-error.ts';
import { ConfigError } from '../config.ts';
import type { ErrorCode } from '../core/errors.ts';
import { AllocatorError } from '../core/errors.ts';
import { ShadowError, type ShadowErrorCode } from '../core/shadow.ts';
import { seconds } from './quantities.ts';

/** What to do next, by reason. A new code does not compile until it has advice. */
const ADVICE: Readonly<Record<ErrorCode | ShadowErrorCode, string>> = {
  INVALID_REQUEST: 'Correct the request; nothing was changed.',
  GUEST_NOT_FOUND: 'See the guests of this host: foreshade guest list',
  GUEST_NOT_ADOPTED: 'Let Foreshade manage it first: foreshade guest adopt GUEST',
  GUEST_NOT_RUNNING: 'Start the guest, then repeat.',
  GUEST_BUSY: 'Another change of this guest is in flight; repeat in a moment.',
  CEILING_TOO_LOW:
    "Raise the guest's maximum vCPUs or memory in its definition; that needs a restart of the guest.",
  LEASE_NOT_FOUND: 'See the leases: foreshade lease list',
  LEASE_ENDED: 'Ask for a new lease: foreshade allocate',
  REQUEST_ID_REUSED: 'Use a new --request-id, or repeat the first request unchanged.',
  CAPACITY_EXHAUSTED: 'Wait for leases to end, or leave --no-queue away to wait in the queue.',
  QUOTA_EXHAUSTED: "Wait for the tenant's leases to end, or raise its quota in the configuration.",
  QUEUE_FULL: 'Repeat later, or raise engine.queue_max.',
  DIRECTORY_FULL:
    'See who reports: foreshade host list; let each part of the cloud have a service of its own.',
  NOT_SUPPORTED: 'See what this guest can do: foreshade guest show GUEST',
  ACTUATION_REFUSED: "See the decisions: foreshade lease explain LEASE; the hypervisor's log has its side.",
  HYPERVISOR_UNAVAILABLE: 'See whether libvirtd runs: foreshade doctor',
  STATE_CONFLICT: 'Somebody changed the same thing; read it again and repeat.',
  LEDGER_UNAVAILABLE: 'See whether state_dir is writable and has room: foreshade doctor',
  DEADLINE_EXCEEDED: 'Allow more time with --timeout; see what came of it: foreshade lease list',
  DRAINING: 'The service is shutting down; repeat once it is back.',
  STORE_UNAVAILABLE:
    'See whether the folder exists, is readable and has room: --store or FORESHADE_STORE names it.',
  STORE_IN_USE: 'A service or another command writes this store: stop the one, or wait for the other to end.',
  STORE_TOO_NEW: 'Use the version of Foreshade that wrote it, or a later one.',
  POINT_REFUSED: 'Correct what was to be recorded; nothing was changed.',
  QUERY_REFUSED: 'See the tables: foreshade shadow query "SHOW TABLES"; and their columns: "DESCRIBE shadow"',
  QUERY_TOO_LARGE:
    'Ask for less at once: a shorter time, fewer columns, or the tiers shadow_minute and shadow_hour.',
  QUERY_LOST: 'Repeat it; if it is lost again, ask for less at once.',
  SET_REFUSED: 'A set is a folder with dataset.json and series.csv.gz, series.parquet or requests.csv.gz.',
};

const OTHER_ADVICE: Readonly<Record<string, string>> = {
  [UNREACHABLE]: 'Start it with: foreshade serve; or name its socket with --socket or FORESHADE_SOCKET.',
  INTERNAL: "This is a fault of Foreshade: the service's log has it under the id above.",
};

/** A failure as it is printed: for people, and as the one document of `--json`. */
export interface Failure {
  readonly text: string;
  readonly document: unknown;
}

export function describeFailure(error: unknown): Failure {
  if (error instanceof ConfigError) {
    return failure(
      'INVALID_CONFIG',
      error.message,
      'Correct the file; foreshade config default shows every key.',
      {
        problems: error.problems,
      },
    );
  }
  if (error instanceof ClientError) {
    const advice = (ADVICE as Readonly<Record<string, string>>)[error.reason] ?? OTHER_ADVICE[error.reason];
    return failure(error.reason, error.message, advice, {
      metadata: error.metadata,
      ...(error.violations.length > 0 && { violations: error.violations }),
      ...(error.retryAfterMs !== undefined && { retry_after_ms: error.retryAfterMs }),
    });
  }
  if (error instanceof AllocatorError)
    return failure(error.code, error.message, ADVICE[error.code], error.detail);
  if (error instanceof ShadowError) return failure(error.code, error.message, ADVICE[error.code], {});
  const message = error instanceof Error ? error.message : String(error);
  return failure('FAILED', message, undefined, {});
}

function failure(reason: string, message: string, advice: string | undefined, more: object): Failure {
  const retry =
    'retry_after_ms' in more ? `Worth repeating after ${seconds(Number(more.retry_after_ms))}.` : undefined;
  const lines = [`${message} (${reason})`, advice, retry].filter((line) => line !== undefined);
  const document = { error: { reason, message, ...(advice !== undefined && { advice }), ...more } };
  return { text: lines.join('\n'), document };
}
