import { AllocatorError } from '../orchestrator/core/errors.ts';
import type { GuestId } from '../orchestrator/core/guest.ts';
import { type DomainDescription, DomainXmlError, readDomainXml } from './domain-xml.ts';
import type { DomainRef, Libvirt, LibvirtEventKind } from './libvirt.ts';
import { XmlError } from './xml.ts';

/** Events after which a domain's devices, their sizes or its agent's state may be others. */
const DEVICE_EVENTS = [
  'lifecycle',
  'device-added',
  'device-removed',
  'agent-lifecycle',
  'memory-device-size-change',
] as const satisfies LibvirtEventKind[];

/** Domains' XML, read once per run of a guest and again when its devices change. */
export class DomainCatalog {
  readonly #libvirt: Libvirt;
  readonly #devices = new Map<GuestId, DomainDescription>();
  /** The XML last read of each guest: the same text is not parsed again. */
  readonly #read = new Map<GuestId, { readonly xml: string; readonly description: DomainDescription }>();
  readonly #unsubscribe: (() => void)[];

  constructor(libvirt: Libvirt) {
    this.#libvirt = libvirt;
    this.#unsubscribe = DEVICE_EVENTS.map((kind) =>
      libvirt.on(kind, (event) => this.forget(event.domain.uuid.toLowerCase())),
    );
    this.#unsubscribe.push(
      libvirt.on('lifecycle', ({ domain }) => this.#read.delete(domain.uuid.toLowerCase())),
      libvirt.onConnection(() => this.#clear()),
    );
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
    const last = this.#read.get(guest);
    const description = last?.xml === xml ? last.description : read(xml, guest);
    this.#read.set(guest, { xml, description });
    this.#devices.set(guest, description);
    return description;
  }

  /** What was known of the guest's devices holds no longer: they were just changed. */
  forget(guest: GuestId): void {
    this.#devices.delete(guest);
  }

  /** Which devices the guest has: as `describe`, but limits, and sizes other than of memory devices, may be old. */
  async devices(guest: GuestId): Promise<DomainDescription> {
    return this.#devices.get(guest) ?? this.describe(guest);
  }

  close(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#clear();
  }

  #clear(): void {
    this.#devices.clear();
    this.#read.clear();
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
