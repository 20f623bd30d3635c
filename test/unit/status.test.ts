// Goal: an error leaves the server in a form that every client can take, whatever it holds.
// Method: statusOf and statusOfFault on hostile errors; the trailer decoded and measured.
import { status } from '@grpc/grpc-js';
import t from 'tap';
import { AllocatorError, ERROR_CODES } from '../../orchestrator/core/errors.ts';
import { DETAILS_TRAILER, GRPC_STATUS, statusOf, statusOfFault } from '../../orchestrator/service/status.ts';
import { ValidationError } from '../../orchestrator/service/validation.ts';
import { ErrorInfo, Status } from '../../proto/gen/google/rpc/error.ts';

/** Room that clients give to all trailers together by default. */
const TRAILERS_BYTES_MAX = 8192;

function trailerOf(answer: ReturnType<typeof statusOf>): Buffer {
  const [bytes] = answer.metadata?.get(DETAILS_TRAILER) ?? [];
  if (!(bytes instanceof Buffer)) throw new Error('no details');
  return bytes;
}

// By hand, from the contract's conventions: what a client of gRPC expects of each failure.
const EXPECTED: Readonly<Record<string, readonly string[]>> = {
  INVALID_ARGUMENT: ['INVALID_REQUEST'],
  NOT_FOUND: ['GUEST_NOT_FOUND', 'LEASE_NOT_FOUND'],
  ALREADY_EXISTS: ['REQUEST_ID_REUSED'],
  FAILED_PRECONDITION: [
    'GUEST_NOT_ADOPTED',
    'GUEST_NOT_RUNNING',
    'CEILING_TOO_LOW',
    'LEASE_ENDED',
    'NOT_SUPPORTED',
    'ACTUATION_REFUSED',
  ],
  ABORTED: ['GUEST_BUSY', 'STATE_CONFLICT'],
  RESOURCE_EXHAUSTED: ['CAPACITY_EXHAUSTED', 'QUOTA_EXHAUSTED', 'QUEUE_FULL', 'DIRECTORY_FULL'],
  UNAVAILABLE: ['HYPERVISOR_UNAVAILABLE', 'LEDGER_UNAVAILABLE', 'DRAINING'],
  DEADLINE_EXCEEDED: ['DEADLINE_EXCEEDED'],
};

t.test('each code has the status that its clients expect', async (t) => {
  const found: Record<string, string[]> = {};
  for (const code of ERROR_CODES) {
    const name = status[GRPC_STATUS[code]];
    found[name] = [...(found[name] ?? []), code];
  }
  t.strictSame(found, EXPECTED);
});

t.test('only codes that are worth repeating have a status that clients repeat', async (t) => {
  const REPEATED: readonly status[] = [status.UNAVAILABLE, status.ABORTED, status.RESOURCE_EXHAUSTED];
  for (const code of ERROR_CODES) {
    t.equal(REPEATED.includes(GRPC_STATUS[code]), new AllocatorError(code, '').retryable, code);
  }
});

t.test('the status inside the trailer agrees with the one outside', async (t) => {
  const answer = statusOf(new AllocatorError('GUEST_BUSY', 'busy', { guest: 'alpha' }));
  t.match(Status.decode(trailerOf(answer)), { code: answer.code, message: answer.details });
});

t.test('whatever an error holds, its trailers stay under what clients accept', async (t) => {
  const huge = 'x'.repeat(1 << 20);
  const detail = Object.fromEntries(
    Array.from({ length: 100 }, (_, i) => [`${i}${huge.slice(0, 600)}`, huge]),
  );
  const violations = Array.from({ length: 1000 }, () => ({ field: huge, rule: huge }));
  const errors = [
    ...ERROR_CODES.map((code) => new AllocatorError(code, huge, detail)),
    new ValidationError(violations),
  ];
  for (const error of errors) {
    const answer = statusOf(error);
    // Details travel in base64, and the message once more beside them.
    const bytes = (trailerOf(answer).length * 4) / 3 + (answer.details?.length ?? 0);
    t.ok(bytes < TRAILERS_BYTES_MAX, `${error.code}: ${bytes.toFixed(0)} bytes`);
  }
});

t.test('a fault keeps its cause to the log', async (t) => {
  const logged: unknown[] = [];
  const cause = new Error('secret');
  const answer = statusOfFault(cause, (error, errorId) => logged.push(error, errorId));
  t.equal(answer.code, status.INTERNAL);
  t.equal(logged[0], cause);
  t.equal(logged.length, 2);
  const [detail] = Status.decode(trailerOf(answer)).details;
  const info = ErrorInfo.decode(detail?.value ?? new Uint8Array());
  t.match(info, { reason: 'INTERNAL', domain: 'foreshade', metadata: { errorId: logged[1] } });
  t.notMatch(trailerOf(answer).toString('latin1'), /secret/);
});
