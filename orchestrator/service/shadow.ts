import { realpathSync } from 'node:fs';
import type {
  QueryRequest,
  RecordRequest,
  ShadowServiceService,
} from '../../proto/gen/foreshade/v1/shadow.ts';
import type { AllocationEngine } from '../core/engine.ts';
import { AllocatorError } from '../core/errors.ts';
import { ShadowError, type ShadowStore } from '../core/shadow.ts';
import { wireSample } from './answers.ts';
import type { Caller } from './caller.ts';
import { clientPoints } from './points.ts';
import { soleName, watching } from './requests.ts';
import type { Handlers } from './route.ts';
import { Violations } from './validation.ts';

/** Longest question taken. A statement of a page fits ten times. */
const SQL_CHARS_MAX = 65_536;

/** ShadowService over the engine and the record of samples; without a record its questions are refused. */
export function shadowHandlers(
  engine: AllocationEngine,
  shadow: ShadowStore | undefined,
  hostName: string | undefined,
): Handlers<typeof ShadowServiceService> {
  const store = (): ShadowStore => {
    if (shadow !== undefined) return shadow;
    throw new AllocatorError('NOT_SUPPORTED', 'This service keeps no record of samples');
  };
  return {
    async *watchGuest(request, caller) {
      const { guest, track } = watching(request);
      for await (const sample of engine.watchGuest(guest, track, caller)) {
        yield wireSample(sample);
      }
    },
    record: (request, caller) => record(engine, store(), { request, caller, hostName }),
    query: (request, caller) => query(store(), request, caller),
    async eraseTenant(request) {
      const tenant = soleName(request.tenant, 'tenant');
      const own = store().directory;
      if (request.folder && !isSameFolder(request.folder, own)) {
        const rule = `must be ${own}, the folder of this service's record`;
        throw new AllocatorError('INVALID_REQUEST', `folder ${rule}`, { field: 'folder', rule });
      }
      await store().erase(tenant);
      return {};
    },
  };
}

interface RecordCall {
  readonly request: RecordRequest;
  readonly caller: Caller;
  readonly hostName: string | undefined;
}

async function record(engine: AllocationEngine, store: ShadowStore, call: RecordCall) {
  const points = clientPoints(call.request, Date.now());
  const host = call.hostName ?? (await engine.status()).host.name;
  const ids = new Map<string, string>();
  for (const { guest } of points)
    if (!ids.has(guest)) ids.set(guest, (await engine.getGuest(guest)).facts.id);
  for (const point of points) {
    const guest = ids.get(point.guest) ?? point.guest;
    const isTaken = store.record({ ...point, guest, host, axis: 'seconds', flags: ['reported'] });
    if (!isTaken) throw new ShadowError('STORE_UNAVAILABLE', 'The disk is behind and the queue is full');
  }
  await withCaller(store.flush(), call.caller);
  return { recorded: points.length };
}

async function* query(store: ShadowStore, { sql = '' }: QueryRequest, caller: Caller) {
  const violations = Violations.ofMessage();
  if (sql.trim() === '' || sql.length > SQL_CHARS_MAX)
    violations.add('sql', 'must have 1 to 65,536 characters');
  violations.settle();
  for await (const arrow of store.query(sql, caller.signal)) yield { arrow: Buffer.from(arrow) };
}

function isSameFolder(a: string, b: string): boolean {
  try {
    return realpathSync(a) === realpathSync(b);
  } catch {
    return false; // what is not there is not the one that is written
  }
}

/** Wait with the caller: a disk that takes nothing may do so for days. */
function withCaller(done: Promise<void>, { signal }: Caller): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    done.then(resolve, reject);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
