import { randomUUID } from 'node:crypto';
import {
  type HookServiceService,
  type HookVerdict,
  type ReportRequest,
  Verdict,
} from '../../proto/gen/foreshade/v1/hook.ts';
import { AllocatorError } from '../core/errors.ts';
import type { GuestDefinition, GuestStarts, ReadDefinition, StartRequest } from '../core/guest-start.ts';
import type { Lease } from '../core/lease.ts';
import type { AllocationRequest } from '../core/request.ts';
import { TTL_MS_MAX } from '../core/request.ts';
import { roomText } from '../core/room.ts';
import { wireParams } from './answers.ts';
import type { Caller } from './caller.ts';
import { WIRE_PRIORITY } from './enums.ts';
import type { ServiceLogger } from './logger.ts';
import { allocationRequest, optionalName, requiredName } from './requests.ts';
import type { Handlers } from './route.ts';
import { Violations } from './validation.ts';

/** Longest definition: the longest that the hook's program passes on. A libvirt domain has 5 to 40 KiB. */
export const DEFINITION_CHARS_MAX = 1_048_576;

/** What reports of a hook are answered from. */
export interface HookParts {
  readonly starts: GuestStarts;
  readonly readDefinition: ReadDefinition;
  /** Adopt a guest whose definition asks for room. */
  readonly adopt: boolean;
}

/** HookService over the engine's starts. */
export function hookHandlers(
  { starts, readDefinition, adopt }: HookParts,
  logger: ServiceLogger,
): Handlers<typeof HookServiceService> {
  /** What a start gets; a failure of ours never stands in its way unless its definition says so. */
  const begin = async (
    { facts, request }: GuestDefinition,
    operation: string,
    caller: Caller,
  ): Promise<HookVerdict> => {
    if (request === undefined) return allow('its definition asks for nothing');
    const log = { guest: facts.name, operation };
    try {
      const wish = wishOf(facts.id, request);
      const lastsAsRun = request.ttlMs === undefined;
      const lease = await starts.reserve(
        { facts, request: wish, hasStarted: operation === 'started', lastsAsRun, adopt },
        caller,
      );
      logger.info({ ...log, leaseId: lease.id, state: lease.state, reason: lease.reason }, 'start admitted');
      return { ...allow(textOf(lease)), leaseId: lease.id };
    } catch (cause) {
      if (!(cause instanceof AllocatorError)) throw cause;
      const isRequired = operation === 'prepare' && request.policy === 'require';
      const isVetoed = isRequired && starts.modeOf(facts.id) === 'enforce';
      logger.warn({ ...log, code: cause.code, reason: cause.message, isVetoed }, 'start not admitted');
      return isVetoed ? veto(`Foreshade: ${cause.message}`) : allow(`without a lease: ${cause.message}`);
    }
  };
  return {
    async report(report, caller) {
      const { operation, definition: text } = checked(report);
      if (!HEARD.has(operation)) return allow(`nothing is done at ${operation}`);
      const definition = readDefinition(text);
      const { id } = definition.facts;
      if (operation === 'prepare') return begin(definition, operation, caller);
      if (operation === 'started') {
        const verdict = await begin(definition, operation, caller);
        starts.started(id);
        return verdict;
      }
      starts.ended(id);
      return allow('its leases end');
    },
  };
}

/** Operations that are acted on; libvirt has more, and may get others. */
const HEARD: ReadonlySet<string> = new Set(['prepare', 'started', 'stopped', 'release']);

function checked(report: ReportRequest): { readonly operation: string; readonly definition: string } {
  const violations = Violations.ofMessage();
  requiredName(report.guest, 'guest', violations);
  const operation = requiredName(report.operation, 'operation', violations);
  optionalName(report.subOperation, 'sub_operation', violations);
  optionalName(report.extra, 'extra', violations);
  const definition = report.definition ?? '';
  if (definition.length > DEFINITION_CHARS_MAX)
    violations.add(
      'definition',
      `must have at most ${DEFINITION_CHARS_MAX.toLocaleString('en-US')} characters`,
    );
  violations.settle();
  return { operation, definition };
}

/** @throws {AllocatorError} INVALID_REQUEST with what is wrong with the definition's request */
function wishOf(guest: string, request: StartRequest): AllocationRequest {
  const { problems, params, priority, policy, tenant, workload, durationMs, ttlMs } = request;
  if (problems.length > 0)
    throw new AllocatorError(
      'INVALID_REQUEST',
      `The definition's request cannot be read: ${problems.join('; ')}.`,
    );
  const wire = {
    tenant,
    workload,
    guest,
    params: wireParams(params),
    priority: WIRE_PRIORITY[priority],
    durationMs,
    ttlMs,
    // Who requires room is not helped by a place in the queue: the start waits for the answer.
    noQueue: policy === 'require',
  };
  return allocationRequest(wire, { nowMs: Date.now(), ttlMs: TTL_MS_MAX, newRequestId: randomUUID });
}

function allow(reason: string): HookVerdict {
  return { verdict: Verdict.VERDICT_ALLOW, reason };
}

function veto(reason: string): HookVerdict {
  return { verdict: Verdict.VERDICT_VETO, reason };
}

/** What the lease does, or would have done. */
function textOf({ requested, reason }: Lease): string {
  return `${roomText(requested)}: ${reason}`;
}
