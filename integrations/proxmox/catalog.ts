import { AllocatorError } from '../../orchestrator/core/errors.ts';
import type { GuestId } from '../../orchestrator/core/guest.ts';
import { type Fields, fieldsOf, listOf, numberIn } from './answers.ts';
import type { ProxmoxApi } from './api.ts';
import { isMissing } from './errors.ts';
import { type GuestConfig, guestIdOf, readGuestConfig } from './guest-config.ts';
import { stateOf } from './guest-status.ts';

const LIST_CALL = '/nodes/{node}/qemu';
const CONFIG_CALL = '/nodes/{node}/qemu/{vmid}/config';
const STATUS_CALL = '/nodes/{node}/qemu/{vmid}/status/current';
/** Configurations read at once: as many as the agent has sockets for. */
export const READ_AT_ONCE = 8;

/** One line of the node's list of guests. */
export interface ListedGuest {
  readonly vmid: number;
  readonly fields: Fields;
}

/** Guests of one node, by the UUID in their `smbios1`: a VMID is given anew once its guest is gone. */
export class GuestCatalog {
  readonly #api: ProxmoxApi;
  readonly node: string;
  readonly #vmids = new Map<GuestId, number>();
  readonly #ids = new Map<number, GuestId>();

  constructor(api: ProxmoxApi, node: string) {
    this.#api = api;
    this.node = node;
  }

  /** @throws {ProxmoxError} */
  async list(): Promise<ListedGuest[]> {
    const lines = listOf(await this.#api.get(LIST_CALL, { node: this.node }), LIST_CALL);
    return lines.flatMap((fields) => {
      const vmid = numberIn(fields, 'vmid');
      return vmid === undefined || numberIn(fields, 'template') === 1 ? [] : { vmid, fields };
    });
  }

  /**
   * The guest's configuration as it is in force: without what waits for a reboot.
   * @throws {AllocatorError} GUEST_NOT_FOUND
   * @throws {ProxmoxError}
   */
  async config(guest: GuestId): Promise<GuestConfig> {
    const known = this.#vmids.get(guest);
    const config = known === undefined ? undefined : await this.configOf(known).catch(absent);
    if (config !== undefined && known !== undefined && guestIdOf(config, known) === guest) return config;
    // Never seen, gone, or its VMID is another's by now.
    await this.scan();
    const vmid = this.#vmids.get(guest);
    if (vmid === undefined)
      throw new AllocatorError('GUEST_NOT_FOUND', `no guest on node ${this.node} has this UUID`, { guest });
    return this.configOf(vmid);
  }

  /** As `config`, of a VMID. @throws {ProxmoxError} */
  async configOf(vmid: number): Promise<GuestConfig> {
    const answer = await this.#api.get(CONFIG_CALL, { node: this.node, vmid, current: true });
    return readGuestConfig(fieldsOf(answer, CONFIG_CALL));
  }

  /** What `status/current` says. @throws {ProxmoxError} */
  async status(vmid: number): Promise<Fields> {
    return fieldsOf(await this.#api.get(STATUS_CALL, { node: this.node, vmid }), STATUS_CALL);
  }

  /** Whether a guest runs, paused or not. @throws {AllocatorError} GUEST_NOT_FOUND @throws {ProxmoxError} */
  async isRunning(guest: GuestId): Promise<boolean> {
    return stateOf(await this.status(await this.vmid(guest))) !== 'shut-off';
  }

  /** The VMID of a guest that was seen before. @throws {AllocatorError} GUEST_NOT_FOUND */
  async vmid(guest: GuestId): Promise<number> {
    if (!this.#vmids.has(guest)) await this.config(guest);
    return this.#vmids.get(guest) as number;
  }

  /** The guest of a VMID, where it was seen. */
  guestOf(vmid: number): GuestId | undefined {
    return this.#ids.get(vmid);
  }

  /** A guest was seen under a VMID. False where another VMID has the same UUID: neither can be told from the other. */
  note(vmid: number, config: GuestConfig): boolean {
    const id = guestIdOf(config, vmid);
    const other = this.#vmids.get(id);
    if (other !== undefined && other !== vmid && this.#ids.get(other) === id) return false;
    this.forget(vmid);
    this.#vmids.set(id, vmid);
    this.#ids.set(vmid, id);
    return true;
  }

  forget(vmid: number): void {
    const id = this.#ids.get(vmid);
    this.#ids.delete(vmid);
    if (id !== undefined && this.#vmids.get(id) === vmid) this.#vmids.delete(id);
  }

  /** Look at every guest of the node for its UUID. @throws {ProxmoxError} */
  async scan(): Promise<void> {
    const listed = await this.list();
    const present = new Set(listed.map(({ vmid }) => vmid));
    for (const vmid of [...this.#ids.keys()]) if (!present.has(vmid)) this.forget(vmid);
    for (let i = 0; i < listed.length; i += READ_AT_ONCE) {
      await Promise.all(
        listed.slice(i, i + READ_AT_ONCE).map(async ({ vmid }) => {
          const config = await this.configOf(vmid).catch(absent);
          if (config !== undefined) this.note(vmid, config);
        }),
      );
    }
  }
}

function absent(cause: unknown): undefined {
  if (!isMissing(cause)) throw cause;
  return undefined;
}
