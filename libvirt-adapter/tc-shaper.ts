import { readlink } from 'node:fs/promises';
import { type DeviceLimits, limited } from '../orchestrator/core/device-limits.ts';
import { AllocatorError } from '../orchestrator/core/errors.ts';
import type { GuestId } from '../orchestrator/core/guest.ts';
import { type RunNetworkCommand, runNetworkCommand } from './network-command.ts';
import type { TapShaper } from './tap-shaper.ts';

/**
 * Handles by which a queueing discipline is known as ours, after a restart too, since they stay in the kernel; and what
 * ours took the place of: the kernel's own choice, or the `noqueue` that libvirt gives taps.
 */
const HANDLE = { default: 'f05d:', noqueue: 'f05e:' } as const;
type Replaced = keyof typeof HANDLE;
/** Handle of a discipline that the kernel chose by itself. */
const HANDLE_NONE = '0:';
/** Start of the name of an interface that is ours; the rest is its tap's index. Names have 15 bytes at most. */
const IFB_PREFIX = 'foreshade-';

const INTERFACE_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/;

/** A reading serves so long: a limit is read, set and read back in one go, and each reading starts two processes. */
const LOOK_MS_MAX = 100;

/** Bytes per second; slower, the bucket's time would leave the 32 bits that tc has for it. */
const RATE_MIN = 1_000;
/** The bucket holds this much of the rate: what a timer that is late on a busy host can catch up with. */
const BURST_S = 0.02;
/** Eleven full packets, or one jumbo packet: a larger one that the guest's offloading made is split by the kernel. */
const BURST_BYTES_MIN = 16 * 1024;
/** Packets wait so long before they are dropped: enough for TCP to fill the rate, little to wait in. */
const QUEUE_S = 0.1;
/** Bound of bucket and queue each, which tc has 32 bits for. */
const QUEUE_BYTES_MAX = 64 * 1024 * 1024;

interface Link {
  readonly ifindex: number;
  readonly ifname: string;
  readonly linkinfo?: { readonly info_kind?: string };
}

interface Qdisc {
  readonly kind: string;
  readonly handle: string;
  readonly dev: string;
  readonly root?: boolean;
  readonly options?: { readonly rate?: number };
}

/** A program and its arguments, none with white space: each becomes a line of a batch. */
type Command = readonly ['tc' | 'ip', ...string[]];

/** Interfaces and queueing disciplines of one network namespace. */
interface Network {
  readonly links: readonly Link[];
  readonly qdiscs: readonly Qdisc[];
}

/** What stands on one tap. */
interface Shaping {
  /** Our interface that the guest's sending is led over, by its name, and whether it is there. */
  readonly ifb: string;
  readonly hasIfb: boolean;
  readonly hasIngress: boolean;
  readonly isRedirected: boolean;
  /** What our bucket stands in place of, or would. */
  readonly replaced: Replaced;
  readonly limits: DeviceLimits;
}

/**
 * Limits taps by the kernel's token bucket (tbf). What a guest receives leaves the host through its tap and is held
 * back there. What it sends arrives, where nothing can be held back: it is redirected to an interface of ours (ifb),
 * which it leaves again. Needs CAP_NET_ADMIN, and CAP_SYS_ADMIN only for taps in another network namespace.
 * Source: tc-tbf(8), tc-mirred(8), "ifb".
 */
export class TcShaper implements TapShaper {
  readonly #pidOf: (guest: GuestId) => Promise<number | undefined>;
  readonly #run: RunNetworkCommand;
  /** The last reading of each namespace: one of a moment ago serves the next caller, unless we changed something since. */
  readonly #looks = new Map<
    string | undefined,
    { readonly atMs: number; readonly network: Promise<Network> }
  >();

  /** @param pidOf the guest's QEMU, which is in the namespace of its taps; undefined: taken to be in ours */
  constructor(
    pidOf: (guest: GuestId) => Promise<number | undefined>,
    run: RunNetworkCommand = runNetworkCommand,
  ) {
    this.#pidOf = pidOf;
    this.#run = run;
  }

  async get(guest: GuestId, tap: string): Promise<DeviceLimits> {
    const network = await this.#networkOf(guest);
    return (await this.#shaping(network, await this.#look(network), tap)).limits;
  }

  async set(guest: GuestId, tap: string, limits: DeviceLimits): Promise<void> {
    const network = await this.#networkOf(guest);
    const seen = await this.#look(network);
    const before = await this.#shaping(network, seen, tap);
    try {
      await this.#change(changes(tap, before, limits), network);
    } catch (cause) {
      await this.#look(network)
        .then((now) => this.#shaping(network, now, tap))
        .then((now) => this.#change(changes(tap, now, before.limits), network))
        .catch(() => {}); // the first failure is the answer, and a reading tells what stands
      throw cause;
    }
    await this.#change(orphans(seen), network);
  }

  /** @throws {AllocatorError} NOT_SUPPORTED where somebody else shapes the tap */
  async #shaping(network: string | undefined, { links, qdiscs }: Network, tap: string): Promise<Shaping> {
    if (!INTERFACE_NAME.test(tap)) throw foreign(tap, 'its name is none that an interface can have here');
    const link = links.find(({ ifname }) => ifname === tap);
    if (link === undefined)
      throw new AllocatorError('GUEST_NOT_RUNNING', `the host has no tap ${tap}`, { tap });
    const ifb = `${IFB_PREFIX}${link.ifindex.toString(36)}`;
    const hasIfb = links.some(({ ifname }) => ifname === ifb);
    const ingress = qdiscs.find(({ dev, kind }) => dev === tap && (kind === 'ingress' || kind === 'clsact'));
    const hasIngress = ingress !== undefined;
    const root = qdiscs.find((qdisc) => qdisc.dev === tap && qdisc.root);
    const isOurs = root?.handle === HANDLE.default || root?.handle === HANDLE.noqueue;
    if (root !== undefined && !isOurs && root.kind !== 'noqueue' && root.handle !== HANDLE_NONE) {
      throw foreign(tap, `somebody else shapes it (${root.kind} ${root.handle})`);
    }
    const filters = hasIngress ? await this.#filters(network, tap) : [];
    const isRedirected = filters.length > 0 && JSON.stringify(filters).includes(`"${ifb}"`);
    // Ours without its filter is what is left when we die between the two.
    if (hasIngress && !isRedirected && !(hasIfb && ingress.kind === 'ingress' && filters.length === 0)) {
      throw foreign(tap, 'somebody else filters what it sends');
    }
    const sent = qdiscs.find(({ dev, handle }) => dev === ifb && handle === HANDLE.default);
    return {
      ifb,
      hasIfb,
      hasIngress,
      isRedirected,
      replaced: root?.kind === 'noqueue' || root?.handle === HANDLE.noqueue ? 'noqueue' : 'default',
      limits: limited({
        netRxBytesPerS: isOurs ? (root.options?.rate ?? 0) : 0,
        netTxBytesPerS: isRedirected ? (sent?.options?.rate ?? 0) : 0,
      }),
    };
  }

  /** What is done with packets that the guest sends, as tc tells it. */
  async #filters(network: string | undefined, tap: string): Promise<unknown[]> {
    const args = ['-json', 'filter', 'show', 'dev', tap, 'parent', 'ffff:'];
    return JSON.parse((await this.#run('tc', args, { network })) || '[]') as unknown[];
  }

  #look(network: string | undefined): Promise<Network> {
    const atMs = performance.now();
    const last = this.#looks.get(network);
    if (last !== undefined && atMs - last.atMs < LOOK_MS_MAX) return last.network;
    const look = this.#readNetwork(network);
    look.catch(() => this.#looks.delete(network));
    this.#looks.set(network, { atMs, network: look });
    return look;
  }

  async #readNetwork(network: string | undefined): Promise<Network> {
    const [links, qdiscs] = await Promise.all([
      this.#run('ip', ['-json', '-details', 'link', 'show'], { network }),
      this.#run('tc', ['-json', 'qdisc', 'show'], { network }),
    ]);
    return { links: JSON.parse(links) as Link[], qdiscs: JSON.parse(qdiscs) as Qdisc[] };
  }

  /** Make changes in their order, up to the first that fails. Those of one program that follow on each other share a process. */
  async #change(commands: readonly Command[], network: string | undefined): Promise<void> {
    try {
      for (let from = 0, to = 0; from < commands.length; from = to) {
        const [program = 'tc'] = commands[from] ?? [];
        while (commands[to]?.[0] === program) to += 1;
        const lines = commands.slice(from, to).map(([, ...args]) => `${args.join(' ')}\n`);
        await this.#run(program, ['-batch', '-'], { network, input: lines.join('') });
      }
    } finally {
      this.#looks.delete(network); // what began before may have seen the old state
    }
  }

  /** File of the namespace that a guest's taps are in; undefined: our own. */
  async #networkOf(guest: GuestId): Promise<string | undefined> {
    const pid = await this.#pidOf(guest);
    if (pid === undefined) return undefined;
    const theirs = `/proc/${pid}/ns/net`;
    const [own, name] = await Promise.all(['/proc/self/ns/net', theirs].map((path) => readlink(path))).catch(
      () => [], // not ours to see, or gone: what is missing will show in our own
    );
    return own === name ? undefined : theirs;
  }
}

/** What brings a tap from what stands on it to other limits. */
function changes(
  tap: string,
  now: Shaping,
  { netRxBytesPerS: rx, netTxBytesPerS: tx }: DeviceLimits,
): Command[] {
  const commands: Command[] = [];
  const root = ['dev', tap, 'root'];
  if (rx !== undefined) commands.push(['tc', 'qdisc', 'replace', ...root, ...bucket(rx, now.replaced)]);
  else if (now.limits.netRxBytesPerS !== undefined) {
    commands.push(
      now.replaced === 'noqueue'
        ? ['tc', 'qdisc', 'replace', ...root, 'noqueue']
        : ['tc', 'qdisc', 'del', ...root],
    );
  }
  if (tx === undefined) {
    // In this order: packets that were led to an interface that is gone would be lost.
    if (now.hasIngress) commands.push(['tc', 'qdisc', 'del', 'dev', tap, 'ingress']);
    if (now.hasIfb) commands.push(['ip', 'link', 'del', 'dev', now.ifb]);
    return commands;
  }
  if (!now.hasIfb) commands.push(['ip', 'link', 'add', 'name', now.ifb, 'type', 'ifb']);
  commands.push(['ip', 'link', 'set', 'dev', now.ifb, 'up']);
  commands.push(['tc', 'qdisc', 'replace', 'dev', now.ifb, 'root', ...bucket(tx, 'default')]);
  if (!now.hasIngress) commands.push(['tc', 'qdisc', 'add', 'dev', tap, 'ingress']);
  if (!now.isRedirected)
    commands.push([
      'tc',
      'filter',
      'add',
      'dev',
      tap,
      'parent',
      'ffff:',
      'protocol',
      'all',
      ...redirect(now.ifb),
    ]);
  return commands;
}

/** What takes away interfaces of ours whose taps went with their guests. */
function orphans({ links }: Network): Command[] {
  const needed = new Set(links.map(({ ifindex }) => `${IFB_PREFIX}${ifindex.toString(36)}`));
  return links
    .filter(({ ifname, linkinfo }) => ifname.startsWith(IFB_PREFIX) && linkinfo?.info_kind === 'ifb')
    .filter(({ ifname }) => !needed.has(ifname))
    .map(({ ifname }) => ['ip', 'link', 'del', 'dev', ifname]);
}

/** A token bucket of ours, as tc's arguments. */
function bucket(bytesPerS: number, replaced: Replaced): string[] {
  const rate = Math.max(RATE_MIN, bytesPerS);
  const burst = Math.min(QUEUE_BYTES_MAX, Math.max(BURST_BYTES_MIN, Math.ceil(rate * BURST_S)));
  const queue = Math.min(QUEUE_BYTES_MAX, burst + Math.ceil(rate * QUEUE_S));
  return [
    'handle',
    HANDLE[replaced],
    'tbf',
    'rate',
    `${rate * 8}bit`,
    'burst',
    `${burst}b`,
    'limit',
    `${queue}b`,
  ];
}

/** A filter that takes every packet and sends it out through `ifb`. */
function redirect(ifb: string): string[] {
  return ['u32', 'match', 'u32', '0', '0', 'action', 'mirred', 'egress', 'redirect', 'dev', ifb];
}

function foreign(tap: string, why: string): AllocatorError {
  return new AllocatorError('NOT_SUPPORTED', `the tap ${tap} is left alone: ${why}`, { tap });
}
