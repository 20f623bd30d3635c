import type { Actuated, GuestEvent } from '../orchestrator/core/ports.ts';
import type { LibvirtEvent, LifecycleEvent } from './libvirt.ts';

/** What each lifecycle event means for a guest. A clean shutdown's own event is followed by `stopped`. */
const LIFECYCLE_MEANING: Readonly<
  Partial<Record<LifecycleEvent, Extract<GuestEvent, { name: string }>['kind']>>
> = {
  started: 'started',
  suspended: 'paused',
  pmsuspended: 'paused',
  resumed: 'resumed',
  stopped: 'stopped',
  crashed: 'stopped',
  undefined: 'removed',
};

/** Beginnings of a tunable parameter's or a device alias' name, and the resource it belongs to. */
const RESOURCE_BY_PREFIX: readonly (readonly [string, Actuated])[] = [
  ['cputune.', 'cpu'],
  ['blkdeviotune.', 'disk'],
  ['net', 'net'],
  ['hostdev', 'net'],
  ['virtio-disk', 'disk'],
  ['scsi', 'disk'],
  ['sata', 'disk'],
  ['ide', 'disk'],
  ['usb-disk', 'disk'],
  ['dimm', 'memory'],
  ['virtiomem', 'memory'],
  ['vcpu', 'cpu'],
];

function resourceOf(name: string): Actuated | undefined {
  return RESOURCE_BY_PREFIX.find(([prefix]) => name.startsWith(prefix))?.[1];
}

/** The core's events for one of libvirt's; none where it means nothing to the core. */
export function toGuestEvents(event: LibvirtEvent): GuestEvent[] {
  const guest = event.domain.uuid.toLowerCase();
  const tuned = (resources: readonly (Actuated | undefined)[]): GuestEvent[] =>
    [...new Set(resources)].flatMap((resource) =>
      resource === undefined ? [] : [{ kind: 'tuned' as const, guest, resource }],
    );
  switch (event.kind) {
    case 'lifecycle': {
      const kind = LIFECYCLE_MEANING[event.event];
      return kind === undefined ? [] : [{ kind, guest, name: event.domain.name }];
    }
    case 'balloon-change':
    case 'memory-device-size-change':
      return tuned(['memory']);
    case 'tunable':
      return tuned(Object.keys(event.parameters).map(resourceOf));
    case 'device-added':
    case 'device-removed':
      return tuned([resourceOf(event.device)]);
    case 'agent-lifecycle':
      return event.connected ? [{ kind: 'answers', guest, name: event.domain.name }] : [];
    case 'job-completed':
      return [];
  }
}
