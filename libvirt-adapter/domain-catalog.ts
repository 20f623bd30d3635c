import { AllocatorError } from '../orchestrator/core/errors.ts';
import type { GuestId } from '../orchestrator/core/guest.ts';
import { type DomainDescription, DomainXmlError, readDomainXml } from './domain-xml.ts';
import type { DomainRef, Libvirt, LibvirtEventKind } from './libvirt.ts';
import { XmlError } from './xml.ts';

/** Events after which a domain's devices may be others, or its agent come or gone. */
const DEVICE_EVENTS = [
  'lifecycle',
  'device-added',
  'device-removed',
  'agent-lifecycle',
] as const satisfies LibvirtEventKind[];

/** Domains' XML, read once per run of a guest and again when its devices change. */
export class DomainCatalog {
  readonly #libvirt: Libvirt;
  readonly #devices = new Map<GuestId, DomainDescription>();
  readonly #unsubscribe: (() => void)[];

  constructor(libvirt: Libvirt) {
    this.#libvirt = libvirt;
    this.#unsubscribe = DEVICE_EVENTS.map((kind) =>
      libvirt.on(kind, (event) => {
        this.#devices.delete(event.domain.uuid.toLowerCase());
      }),
    );
    this.#unsubscribe.push(libvirt.onConnection(() => this.#devices.clear()));
  }

  /** Names a guest in libvirt's calls, which look it up by UUID. */
  ref(guest: GuestId): DomainRef {
    return { uuid: guest, name: this.#devices.get(guest)?.name ?? guest, id: -1 };
  }

  /**
   * The domain as it is now.
   * @throws {LibvirtError} as virDomainGetXMLDesc does
   * @throws {AllocatorError} NOT_SUPPORTED when its XML cannot be read
   */
  async describe(guest: GuestId): Promise<DomainDescription> {
    const xml = await this.#libvirt.domainXml(this.ref(guest));
    const description = read(xml, guest);
    this.#devices.set(guest, description);
    return description;
  }

  /** Which devices the guest has: as `describe`, but its limits and sizes may be old. */
  async devices(guest: GuestId): Promise<DomainDescription> {
    return this.#devices.get(guest) ?? this.describe(guest);
  }

  close(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#devices.clear();
  }
}

function read(xml: string, guest: GuestId): DomainDescription {
  try {
    return readDomainXml(xml);
  } catch (cause) {
    if (!(cause instanceof XmlError || cause instanceof DomainXmlError)) throw cause;
    throw new AllocatorError(
      'NOT_SUPPORTED',
      `the guest's XML cannot be read: ${cause.message}`,
      { guest },
      { cause },
    );
  }
}
