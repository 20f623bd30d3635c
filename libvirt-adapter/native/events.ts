import {
  LIFECYCLE_EVENTS,
  type LibvirtEvent,
  type LibvirtEventKind,
  type TypedParameters,
} from '../libvirt.ts';
import type { RawDomains } from './native.ts';
import { decodeDomains } from './stats.ts';

/** A raw event as libvirt.ts has it; undefined for a kind or lifecycle number that this version does not know. */
export function decodeEvent(
  kind: string,
  rawDomain: RawDomains,
  fields: TypedParameters,
): LibvirtEvent | undefined {
  const [domain] = decodeDomains(rawDomain);
  if (domain === undefined) return undefined;
  switch (kind as LibvirtEventKind) {
    case 'lifecycle': {
      const event = LIFECYCLE_EVENTS[Number(fields.event)];
      return event && { kind: 'lifecycle', domain, event, detail: Number(fields.detail) };
    }
    case 'balloon-change':
      return { kind: 'balloon-change', domain, actualKib: BigInt(fields.actualKib ?? 0) };
    case 'device-added':
      return { kind: 'device-added', domain, device: String(fields.device) };
    case 'device-removed':
      return { kind: 'device-removed', domain, device: String(fields.device) };
    case 'tunable':
      return { kind: 'tunable', domain, parameters: fields };
    case 'agent-lifecycle':
      return {
        kind: 'agent-lifecycle',
        domain,
        connected: fields.connected === true,
        reason: Number(fields.reason),
      };
    case 'memory-device-size-change':
      return {
        kind: 'memory-device-size-change',
        domain,
        alias: String(fields.alias),
        sizeKib: BigInt(fields.sizeKib ?? 0),
      };
    case 'job-completed':
      return { kind: 'job-completed', domain, parameters: fields };
    default:
      return undefined;
  }
}

/** Who listens to what. A listener that throws is reported as an uncaught exception and harms no other. */
export class EventListeners {
  readonly #byKind = new Map<LibvirtEventKind, Set<(event: never) => void>>();

  add<K extends LibvirtEventKind>(
    kind: K,
    listener: (event: Extract<LibvirtEvent, { kind: K }>) => void,
  ): () => void {
    const listeners = this.#byKind.get(kind) ?? new Set();
    this.#byKind.set(kind, listeners);
    // A wrapper of its own: the same function may be added twice and taken away once.
    const own = (event: Extract<LibvirtEvent, { kind: K }>): void => listener(event);
    listeners.add(own);
    return () => void listeners.delete(own);
  }

  tell(event: LibvirtEvent): void {
    for (const listener of this.#byKind.get(event.kind) ?? []) tellSafely(listener, event as never);
  }
}

/** Call a listener of someone else's from the middle of our own work. */
export function tellSafely<T>(listener: (value: T) => void, value: T): void {
  try {
    listener(value);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
