import { AllocatorError, type ErrorCode } from '../orchestrator/core/errors.ts';
import { LIBVIRT_ERROR, LibvirtError } from './libvirt.ts';

/** What was being done when a call failed: names for the error's detail. */
export type FailureContext = Readonly<Record<string, string | number>>;

/** Codes whose meaning does not depend on the message. Any other code means that the hypervisor refused. */
const CODE_MEANING: ReadonlyMap<number, ErrorCode> = new Map([
  [LIBVIRT_ERROR.library, 'HYPERVISOR_UNAVAILABLE'],
  [LIBVIRT_ERROR.timeout, 'HYPERVISOR_UNAVAILABLE'],
  [LIBVIRT_ERROR.cancelled, 'DEADLINE_EXCEEDED'],
  [LIBVIRT_ERROR.disconnected, 'HYPERVISOR_UNAVAILABLE'],
  [LIBVIRT_ERROR.laneFull, 'HYPERVISOR_UNAVAILABLE'],
  [LIBVIRT_ERROR.noConnect, 'HYPERVISOR_UNAVAILABLE'],
  [LIBVIRT_ERROR.rpc, 'HYPERVISOR_UNAVAILABLE'],
  [LIBVIRT_ERROR.noSupport, 'NOT_SUPPORTED'],
  [LIBVIRT_ERROR.noDomain, 'GUEST_NOT_FOUND'],
  [LIBVIRT_ERROR.operationTimeout, 'GUEST_BUSY'],
  [LIBVIRT_ERROR.configUnsupported, 'NOT_SUPPORTED'],
  [LIBVIRT_ERROR.argumentUnsupported, 'NOT_SUPPORTED'],
  [LIBVIRT_ERROR.operationUnsupported, 'NOT_SUPPORTED'],
  [LIBVIRT_ERROR.agentUnresponsive, 'NOT_SUPPORTED'],
  [LIBVIRT_ERROR.deviceMissing, 'NOT_SUPPORTED'],
]);

/** "operation invalid" is libvirt's answer to a guest that is off, and to some requests it simply rejects. */
const NOT_RUNNING = /not running|not active|is inactive/i;

function meaningOf(error: LibvirtError): ErrorCode {
  if (error.code === LIBVIRT_ERROR.operationInvalid) {
    return NOT_RUNNING.test(error.message) ? 'GUEST_NOT_RUNNING' : 'ACTUATION_REFUSED';
  }
  return CODE_MEANING.get(error.code) ?? 'ACTUATION_REFUSED';
}

/**
 * The core's error for a failed call; an AllocatorError passes as it is. Anything that is not a LibvirtError is a
 * broken assumption of ours and is returned unchanged, to be thrown on.
 */
export function translate(cause: unknown, context: FailureContext): unknown {
  if (!(cause instanceof LibvirtError)) return cause;
  const detail = { ...context, call: cause.call, libvirtCode: cause.code };
  return new AllocatorError(meaningOf(cause), cause.message, detail, { cause });
}

/** Await `work`; a failed libvirt call becomes the core's error. */
export async function translated<T>(work: Promise<T>, context: FailureContext): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    throw translate(cause, context);
  }
}
