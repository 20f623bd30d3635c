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
  const huge = 'ü'.repeat(1 << 20);
  const detail = Object.fromEntries(
    Array.from({ length: 100 }, (_, i) => [`${huge.slice(0, 600)}${i}`, huge]),
  );
  const violations = Array.from({ length: 1000 }, (_, i) => ({
    field: `f${i}`,
    rule: 'must be good. '.repeat(3),
  }));
  const errors = [
    ...ERROR_CODES.map((code) => new AllocatorError(code, 'x'.repeat(1 << 20), { guest: 'g'.repeat(256) })),
    new ValidationError(violations),
  ];
  for (const error of errors) {
    const answer = statusOf(error);
    // Trailers travel in base64, and the message once more beside them.
    const bytes = (trailerOf(answer).length * 4) / 3 + (answer.details?.length ?? 0);
    t.ok(bytes < TRAILERS_BYTES_MAX, `${error.code}: ${bytes.toFixed(0)} bytes`);
  }
  const worst = statusOf(new AllocatorError('GUEST_NOT_FOUND', huge, detail));
  t.ok(trailerOf(worst).length < 32 * 1024, 'details of the engine are cut too');
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
