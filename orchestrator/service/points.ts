import type { ResourceProfile as WireProfile } from '../../proto/gen/foreshade/v1/resources.ts';
import type { Point, RecordRequest } from '../../proto/gen/foreshade/v1/shadow.ts';
import type { ResourceProfile } from '../core/profile.ts';
import { INSTRUCTION_CLASSES, type InstructionClass } from '../core/sample.ts';
import { type ShadowPoint, snakeCase } from '../core/shadow.ts';
import { optionalName, paramsOf, requiredName } from './requests.ts';
import { Violations } from './validation.ts';

/** Points of one call: at 1 Hz, the seconds of three hours. */
export const POINTS_MAX = 10_000;
/** How far a point may lie ahead of the host's clock: a client's clock, not a prophecy. */
const AHEAD_MS_MAX = 86_400_000;
/** Longest period of a point: a day. */
const PERIOD_MS_MAX = 86_400_000;

/** A client's point, its guest by the name the client knows. */
export type ClientPoint = Omit<ShadowPoint, 'host' | 'axis' | 'flags'>;

/** @throws {ValidationError} with every broken rule of every point */
export function clientPoints({ points }: RecordRequest, nowMs: number): ClientPoint[] {
  const violations = Violations.ofMessage();
  if (points.length < 1 || points.length > POINTS_MAX)
    violations.add('points', `must be 1 to 10,000; got ${points.length}`);
  const taken = points
    .slice(0, POINTS_MAX)
    .map((point, i) => clientPoint(point, nowMs, violations.within(`points[${i}]`)));
  violations.settle();
  return taken;
}

function clientPoint(point: Point, nowMs: number, violations: Violations): ClientPoint {
  const { atMs = 0, periodMs = 0 } = point;
  if (!(atMs > 0 && atMs <= nowMs + AHEAD_MS_MAX))
    violations.add('at_ms', `must be milliseconds since the Unix epoch, at most a day ahead; got ${atMs}`);
  if (!(periodMs >= 0 && periodMs <= PERIOD_MS_MAX))
    violations.add('period_ms', `must be 0 to 86,400,000; got ${periodMs}`);
  const tenant = optionalName(point.tenant, 'tenant', violations);
  const requestId = optionalName(point.requestId, 'request_id', violations);
  const workload = optionalName(point.workload, 'workload', violations);
  const inputs = paramsOf(point.params, violations);
  const hasInputs = Object.keys(inputs).length > 0;
  if (hasInputs && requestId === '') violations.add('request_id', 'must be there when params are');
  const classes = classesOf(point.instructions, violations);
  return {
    guest: requiredName(point.guest, 'guest', violations),
    atMs,
    ...(periodMs > 0 && { periodMs }),
    ...(tenant !== '' && { tenant }),
    ...(requestId !== '' && { requestId }),
    ...(workload !== '' && { workload }),
    ...(hasInputs && { inputs }),
    profile: profileOf(point.usage, violations),
    ...(classes !== undefined && { classes }),
  };
}

function profileOf(usage: WireProfile | undefined, violations: Violations): ResourceProfile {
  const { vcpuCount, ...measured } = usage ?? {};
  if (vcpuCount !== undefined) violations.add('usage.vcpu_count', 'is no usage');
  for (const [field, value] of Object.entries(measured)) {
    if (value === undefined || (Number.isFinite(value) && value >= 0)) continue;
    violations.add(`usage.${snakeCase(field)}`, `must be a finite number, 0 or more; got ${value}`);
  }
  return Object.fromEntries(Object.entries(measured).filter(([, value]) => value !== undefined));
}

function classesOf(
  wire: Readonly<Record<string, number>>,
  violations: Violations,
): ShadowPoint['classes'] | undefined {
  const entries = Object.entries(wire);
  for (const [name, count] of entries) {
    if (!INSTRUCTION_CLASSES.includes(name as InstructionClass))
      violations.add('instructions', `must be of ${INSTRUCTION_CLASSES.join(', ')}`);
    else if (count < 0) violations.add(`instructions["${name}"]`, `must be 0 or more; got ${count}`);
  }
  return entries.length === 0 ? undefined : wire;
}
