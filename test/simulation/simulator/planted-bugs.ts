import { HostRoom } from '../../../orchestrator/engine/host-room.ts';
import { LeaseBook } from '../../../orchestrator/engine/lease-book.ts';
import { ManagedGuest } from '../../../orchestrator/engine/managed-guest.ts';
import type { Wrap } from './service-process.ts';

/** A bug from the test's side, and the invariant that is there to find it. */
export interface PlantedBug {
  readonly invariant: string;
  /** What lies between the engine and its world. */
  readonly wrap?: Wrap;
  /** Replaces a method of the engine's parts. Returns what puts it back. */
  readonly patch?: () => () => void;
}

/** Bugs, each with the invariant that must find it. */
export const PLANTED_BUGS: Readonly<Record<string, PlantedBug>> = {
  'a commit is acknowledged before it is durable': {
    invariant: 'announcedBeforeTouched',
    wrap: (parts) => ({
      ...parts,
      ledger: {
        get: (key) => parts.ledger.get(key),
        range: (prefix) => parts.ledger.range(prefix),
        commit: async (writes) => {
          parts.ledger.commit(writes).catch(() => {});
        },
        close: () => parts.ledger.close(),
      },
    }),
  },
  'a repeated request is taken for a new one': {
    invariant: 'sameRequestSameLease',
    patch: () => replace(LeaseBook.prototype, 'byRequest', () => () => undefined),
  },
  'what others were promised is half forgotten': {
    invariant: 'promisesWithinCapacity',
    patch: () =>
      replace(HostRoom.prototype, 'committed', (committed) => {
        return function (this: HostRoom) {
          const { cpuMillicores, memoryBytes } = committed.call(this);
          return { cpuMillicores: cpuMillicores / 2, memoryBytes: memoryBytes / 2 };
        };
      }),
  },
  'a guest is sent below its baseline': {
    invariant: 'floorsKept',
    patch: () =>
      replace(ManagedGuest.prototype, 'target', (target) => {
        return function (this: ManagedGuest, requests) {
          const { memoryBytes, ...rest } = target.call(this, requests);
          return { ...rest, memoryBytes: requests.length === 1 ? memoryBytes * 0.75 : memoryBytes };
        };
      }),
  },
  'a release leaves the memory where it was': {
    invariant: 'entitlementsExplained',
    patch: () =>
      replace(ManagedGuest.prototype, 'resourcesTo', (resourcesTo) => {
        return function (this: ManagedGuest, target) {
          const isRestoring = target.memoryBytes === this.record.baseline.entitlement.memoryBytes;
          return resourcesTo.call(this, target).filter((resource) => !isRestoring || resource !== 'memory');
        };
      }),
  },
  'what somebody else changed is not looked at': {
    invariant: 'foreignChangesStand',
    wrap: (parts) => ({
      ...parts,
      hypervisor: {
        get available() {
          return parts.hypervisor.available;
        },
        onAvailability: (listener) => parts.hypervisor.onAvailability(listener),
        onGuestEvent: (listener) =>
          parts.hypervisor.onGuestEvent((event) => {
            if (event.kind !== 'tuned') listener(event);
          }),
        host: () => parts.hypervisor.host(),
        guests: () => parts.hypervisor.guests(),
        inspect: (guest) => parts.hypervisor.inspect(guest),
        start: (guest) => parts.hypervisor.start(guest),
        shutDown: (guest) => parts.hypervisor.shutDown(guest),
      },
    }),
  },
};

/** Put another method in the place of one. Returns what puts the first back. */
function replace<T extends object, K extends keyof T>(
  prototype: T,
  name: K,
  make: (before: T[K]) => T[K],
): () => void {
  const before = prototype[name];
  prototype[name] = make(before);
  return () => {
    prototype[name] = before;
  };
}
