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
import { soleName } from './requests.ts';
import type { Handlers } from './route.ts';
import { Violations } from './validation.ts';

/** Longest question taken. A statement of a page fits ten times. */
const SQL_CHARS_MAX = 65_536;

/** ShadowService over the engine and the record of samples; without a record its questions are refused. */
export function shadowHandlers(
  engine: AllocationEngine,
  shadow: ShadowStore | undefined,
): Handlers<typeof ShadowServiceService> {
  const store = (): ShadowStore => {
    if (shadow !== undefined) return shadow;
    throw new AllocatorError('NOT_SUPPORTED', 'This service keeps no record of samples');
  };
  return {
    async *watchGuest(request, caller) {
      for await (const sample of engine.watchGuest(soleName(request.guest, 'guest'), caller)) {
        yield wireSample(sample);
      }
    },
    record: (request, caller) => record(engine, store(), request, caller),
    query: (request, caller) => query(store(), request, caller),
    async eraseTenant(request) {
      await store().erase(soleName(request.tenant, 'tenant'));
      return {};
    },
  };
}

async function record(engine: AllocationEngine, store: ShadowStore, request: RecordRequest, caller: Caller) {
  const points = clientPoints(request, Date.now());
  const { host } = await engine.status();
  const ids = new Map<string, string>();
  for (const { guest } of points)
    if (!ids.has(guest)) ids.set(guest, (await engine.getGuest(guest)).facts.id);
  for (const point of points) {
    const guest = ids.get(point.guest) ?? point.guest;
    const isTaken = store.record({ ...point, guest, host: host.name, axis: 'seconds', flags: ['reported'] });
    if (!isTaken) throw new ShadowError('STORE_UNAVAILABLE', 'The disk is behind and the queue is full');
  }
  await withCaller(store.flush(), caller);
  return { recorded: points.length };
}

async function* query(store: ShadowStore, { sql = '' }: QueryRequest, caller: Caller) {
  const violations = Violations.ofMessage();
  if (sql.trim() === '' || sql.length > SQL_CHARS_MAX)
    violations.add('sql', 'must have 1 to 65,536 characters');
  violations.settle();
  for await (const arrow of store.query(sql, caller.signal)) yield { arrow: Buffer.from(arrow) };
}

/** Wait with the caller: a disk that takes nothing may do so for days. */
function withCaller(done: Promise<void>, { signal }: Caller): Promise<void> {
  return new Promise((resolve, reject) => {
    done.then(resolve, reject);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
