import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import type { TimerClock } from '../../../orchestrator/core/timer-clock.ts';
import type { Certificate } from './certificate.ts';
import { MockGuest } from './mock-guest.ts';
import { answerProblems, loadSchema, type MethodSchema, matchPath, requestProblems } from './schema.ts';

const MIB = 1024 * 1024;
const DISK_READ_PER_S = 50_000;
const NET_PER_S = 10_000;
/** The privilege that each key of a configuration takes. */
const PRIVILEGE_OF: readonly (readonly [RegExp, string])[] = [
  [/^(?:cpu.*|vcpus|cores|sockets|affinity)$/, 'VM.Config.CPU'],
  [/^(?:memory|balloon|shares)$/, 'VM.Config.Memory'],
  [/^net\d+$/, 'VM.Config.Network'],
  [/^(?:scsi|virtio|sata|ide)\d+$/, 'VM.Config.Disk'],
];

/** An answer that is given instead of the right one. */
export interface Misbehaviour {
  /** Beginning of `METHOD /path`. */
  readonly at: string;
  /** How often; absent: always. */
  times?: number;
  readonly status?: number;
  readonly reason?: string;
  readonly body?: string | Buffer;
  /** The connection is cut before the answer, or in the middle of it. */
  readonly cut?: 'before' | 'middle';
  /** Wait so long before anything, ms of the mock's clock. */
  readonly delayMs?: number;
}

interface Task {
  readonly id: string;
  exitstatus?: string;
}

interface Refusal {
  readonly status: number;
  readonly message: string;
  readonly errors?: Readonly<Record<string, string>>;
}

class Refused extends Error {
  readonly refusal: Refusal;
  constructor(status: number, message: string, errors?: Readonly<Record<string, string>>) {
    super(message);
    this.refusal = { status, message, ...(errors && { errors }) };
  }
}

/** What a token may do, by the path it was given for. */
export type Privileges = Readonly<Record<string, readonly string[]>>;

/**
 * A node of Proxmox VE behind HTTPS that takes nothing its schema does not have and answers nothing that it has not:
 * whatever breaks that is kept in `violations`.
 */
export class MockProxmox {
  readonly node = 'pve1';
  readonly guests = new Map<number, MockGuest>();
  readonly violations: string[] = [];
  /** `METHOD /path key=value ...` of every call. */
  readonly calls: string[] = [];
  readonly misbehaviours: Misbehaviour[] = [];
  /** Damages the bodies of right answers. */
  spoil: ((body: string) => Buffer) | undefined;
  /** Changes that were refused because a guest's lock was not to be had. */
  lockTimeouts = 0;
  readonly schemaOrigin: 'official' | 'minimum';
  token = `foreshade@pve!test=${randomUUID()}`;
  privileges: Privileges = {};
  /** How tasks of a kind end instead: `WARNINGS: 1`, or a failure without a reason. */
  readonly taskEndings = new Map<string, string>();
  /** Run by each start, as the guest's hookscript. @returns its exit status */
  hook: (vmid: number, phase: string) => Promise<number> = async () => 0;
  readonly #clock: TimerClock;
  readonly #schema;
  readonly #server: Server;
  readonly #tasks = new Map<string, Task>();
  /** What pvestatd has collected: generations of metrics. */
  readonly #generations: { atS: number; points: unknown[] }[] = [];

  constructor(clock: TimerClock, certificate: Certificate) {
    this.#clock = clock;
    const { schema, origin } = loadSchema();
    this.#schema = schema;
    this.schemaOrigin = origin;
    this.#server = createServer({ cert: certificate.cert, key: certificate.key }, (request, response) => {
      this.#serve(request, response).catch((cause: unknown) => {
        this.violations.push(`the mock failed: ${String(cause)}`);
        response.destroy();
      });
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, 'localhost', resolve));
    return `https://localhost:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  addGuest(vmid: number, config: Readonly<Record<string, string | number>>): MockGuest {
    const guest = new MockGuest(vmid, { name: `vm-${vmid}`, ...config }, this.#clock);
    this.guests.set(vmid, guest);
    return guest;
  }

  guest(vmid: number): MockGuest {
    const guest = this.guests.get(vmid);
    if (guest === undefined)
      throw new Refused(
        500,
        `Configuration file 'nodes/${this.node}/qemu-server/${vmid}.conf' does not exist`,
      );
    return guest;
  }

  /** What another manager of the guest does. */
  async changeConfig(vmid: number, changes: Readonly<Record<string, string | number>>): Promise<void> {
    const guest = this.guest(vmid);
    const unlock = await guest.lock();
    if (unlock === undefined) throw new Error('locked');
    guest.stage(
      Object.fromEntries(Object.entries(changes).map(([key, value]) => [key, String(value)])),
      [],
      [],
    );
    await guest.bringIntoForce();
    unlock();
  }

  /** Start a guest as `qm start` does. @returns how the task ends */
  startGuest(vmid: number): Promise<string> {
    return this.guest(vmid).start((phase) => this.hook(vmid, phase));
  }

  /** pvestatd's round. */
  collectMetrics(): void {
    const atS = Math.floor(this.#clock.nowMs() / 1000);
    const points = [...this.guests.values()].flatMap((guest) => {
      const id = `qemu/${guest.vmid}`;
      const gauge = (metric: string, value: number) => ({ id, metric, timestamp: atS, type: 'gauge', value });
      const derive = (metric: string, value: number) => ({
        id,
        metric,
        timestamp: atS,
        type: 'derive',
        value,
      });
      const status = this.#status(guest, true) as Record<string, number>;
      const always = [gauge('uptime', guest.uptimeS), gauge('cpu_max', status.cpus ?? 0)];
      if (!guest.isRunning) return always;
      return [
        ...always,
        gauge('cpu_current', status.cpu ?? 0),
        gauge('mem_used', status.mem ?? 0),
        derive('disk_read', status.diskread ?? 0),
        derive('disk_write', status.diskwrite ?? 0),
        derive('net_in', status.netin ?? 0),
        derive('net_out', status.netout ?? 0),
      ];
    });
    this.#generations.push({ atS, points });
  }

  /** Begin a task; what it resolves to is its exit status. */
  #begin(kind: string, vmid: number, work: () => Promise<string>): string {
    const stamp = Math.floor(this.#clock.nowMs() / 1000)
      .toString(16)
      .toUpperCase()
      .padStart(8, '0');
    const serial = (this.#tasks.size + 1).toString(16).toUpperCase().padStart(8, '0');
    const upid = `UPID:${this.node}:${serial}:00F1E2D3:${stamp}:${kind}:${vmid}:foreshade@pve!test:`;
    const task: Task = { id: String(vmid) };
    this.#tasks.set(upid, task);
    work().then(
      (status) => {
        task.exitstatus = this.taskEndings.get(kind) ?? status;
      },
      (cause: unknown) => {
        this.violations.push(`task ${kind}: ${String(cause)}`);
        task.exitstatus = 'it broke';
      },
    );
    return upid;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '', 'https://localhost');
    const form = (await buffer(request)).toString();
    const parameters = Object.fromEntries([...url.searchParams, ...new URLSearchParams(form)]);
    const path = url.pathname.replace(/^\/api2\/json/, '');
    const call = `${request.method} ${path}`;
    const shown = Object.entries(parameters).map(([key, value]) => ` ${key}=${value}`);
    this.calls.push(call + shown.join(''));
    if (await this.#misbehave(call, response)) return;
    try {
      const data = await this.#answer(request, path, parameters);
      const body = JSON.stringify({ data });
      reply(response, 200, 'OK', this.spoil?.(body) ?? body);
    } catch (cause) {
      if (!(cause instanceof Refused)) throw cause;
      const { status, message, errors } = cause.refusal;
      const body = { data: null, message: `${message}\n`, ...(errors && { errors }) };
      reply(response, status, message.split('\n')[0] ?? '', JSON.stringify(body));
    }
  }

  async #answer(request: IncomingMessage, path: string, given: Record<string, string>): Promise<unknown> {
    if (request.headers.authorization !== `PVEAPIToken=${this.token}`)
      throw new Refused(401, 'no such token or it has expired');
    const found = matchPath(this.#schema, path);
    const method = found && this.#schema[found.template]?.[request.method ?? ''];
    if (found === undefined || method === undefined) {
      this.violations.push(`${request.method} ${path}: not in the schema`);
      throw new Refused(501, `Method '${request.method} ${path}' not implemented`);
    }
    const call = `${request.method} ${found.template}`;
    const parameters = { ...given, ...found.values };
    const problems = requestProblems(method, parameters);
    if (Object.keys(problems).length > 0) {
      this.violations.push(`${call}: ${JSON.stringify(problems)}`);
      throw new Refused(400, 'Parameter verification failed.', problems);
    }
    this.#assertAllowed(method, parameters);
    const data = await this.#carryOut(call, parameters);
    for (const problem of answerProblems(method, data)) this.violations.push(`answer of ${call}: ${problem}`);
    return data;
  }

  #holds(path: string, privilege: string): boolean {
    return Object.entries(this.privileges).some(
      ([granted, all]) =>
        (granted === path || granted === '/' || path.startsWith(`${granted}/`)) && all.includes(privilege),
    );
  }

  #assertAllowed(method: MethodSchema, parameters: Readonly<Record<string, string>>): void {
    const [kind, pattern, privileges, mode] = method.permissions ?? [];
    if (kind !== 'perm') return;
    const path = String(pattern).replace(/\{(\w+)\}/g, (_, name: string) => parameters[name] ?? '');
    const all = privileges as string[];
    const held = all.filter((privilege) => this.#holds(path, privilege));
    const isEnough = mode === 'any' ? held.length > 0 : held.length === all.length;
    if (!isEnough) throw new Refused(403, `Permission check failed (${path}, ${all.join('|')})`);
  }

  #assertMayChange(vmid: number, keys: readonly string[]): void {
    for (const key of keys) {
      const privilege = PRIVILEGE_OF.find(([pattern]) => pattern.test(key))?.[1] ?? 'VM.Config.Options';
      if (!this.#holds(`/vms/${vmid}`, privilege))
        throw new Refused(403, `Permission check failed (/vms/${vmid}, ${privilege})`);
    }
  }

  async #carryOut(call: string, parameters: Readonly<Record<string, string>>): Promise<unknown> {
    const vmid = Number(parameters.vmid);
    switch (call) {
      case 'GET /version':
        return { version: '9.1.3', release: '9.1', repoid: '5d8b3e21' };
      case 'GET /nodes/{node}/status':
        return { cpuinfo: { cpus: 8 }, memory: { total: 16_384 * MIB, used: 0 }, cpu: 0.1 };
      case 'GET /nodes/{node}/qemu':
        return [...this.guests.values()]
          .filter((guest) => this.#holds(`/vms/${guest.vmid}`, 'VM.Audit'))
          .map((guest) => this.#status(guest, false));
      case 'GET /nodes/{node}/qemu/{vmid}/status/current':
        return this.#status(this.guest(vmid), true);
      case 'GET /nodes/{node}/qemu/{vmid}/config':
        return this.#config(this.guest(vmid), parameters.current === '1');
      case 'GET /nodes/{node}/qemu/{vmid}/pending':
        return this.#pending(this.guest(vmid));
      case 'POST /nodes/{node}/qemu/{vmid}/config':
        return this.#change(this.guest(vmid), parameters);
      case 'POST /nodes/{node}/qemu/{vmid}/status/start':
        return this.#begin('qmstart', vmid, () => this.guest(vmid).start((phase) => this.hook(vmid, phase)));
      case 'POST /nodes/{node}/qemu/{vmid}/status/shutdown':
        return this.#begin('qmshutdown', vmid, async () => {
          await new Promise<void>((resolve) => this.#clock.after(300, resolve));
          this.guest(vmid).stop();
          await this.hook(vmid, 'post-stop');
          return 'OK';
        });
      case 'GET /nodes/{node}/qemu/{vmid}/agent/get-vcpus':
        return this.#vcpus(this.guest(vmid));
      case 'GET /nodes/{node}/tasks/{upid}/status':
        return this.#task(parameters.upid ?? '');
      case 'GET /cluster/metrics/export':
        return this.#export(parameters);
      default:
        throw new Error(`the mock does not play ${call}`);
    }
  }

  #status(guest: MockGuest, isFull: boolean): Record<string, unknown> {
    const { isRunning, memory, running } = guest;
    const cpus = guest.number('vcpus', guest.vcpusMax);
    const base = {
      vmid: guest.vmid,
      name: guest.config.get('name'),
      status: isRunning ? 'running' : 'stopped',
      qmpstatus: isFull && isRunning ? guest.qmpStatus : isRunning ? 'running' : 'stopped',
      cpus,
      maxmem: guest.number('memory', 512) * MIB,
      uptime: guest.uptimeS,
      cpu: guest.usageMillicores / 1000 / cpus,
      diskread: 0,
      diskwrite: 0,
      netin: 0,
      netout: 0,
      mem: 0,
    };
    if (!isRunning) return base;
    const listed = {
      ...base,
      pid: guest.pid,
      netin: guest.counted(NET_PER_S),
      netout: guest.counted(NET_PER_S),
      memhost: running.memoryMib * MIB,
      pressurecpusome: 12.5,
      pressurememorysome: 0,
      pressureiosome: 1,
    };
    if (!isFull) return listed;
    return {
      ...listed,
      diskread: guest.counted(DISK_READ_PER_S),
      diskwrite: guest.counted(DISK_READ_PER_S),
      ...(guest.config.get('agent') && { agent: 1 }),
      ...(guest.config.get('balloon') === '0'
        ? { mem: 300 * MIB }
        : {
            mem: memory.usedBytes,
            freemem: memory.freeBytes,
            balloon: guest.balloonBytes,
            ballooninfo: {
              actual: guest.balloonBytes,
              max_mem: running.memoryMib * MIB,
              total_mem: memory.totalBytes,
              free_mem: memory.freeBytes,
              last_update: Math.floor(this.#clock.nowMs() / 1000),
              major_page_faults: 100,
              mem_swapped_in: 0,
              mem_swapped_out: 0,
            },
          }),
    };
  }

  #config(guest: MockGuest, isCurrent: boolean): unknown {
    const config = new Map(guest.config);
    if (!isCurrent) {
      for (const [key, value] of guest.pending) config.set(key, value);
      for (const key of guest.pendingDeletes) config.delete(key);
    }
    return { ...Object.fromEntries([...config].map(typed)), digest: guest.digest };
  }

  #pending(guest: MockGuest): unknown {
    const keys = new Set([...guest.config.keys(), ...guest.pending.keys()]);
    return [...keys].map((key) => ({
      key,
      ...(guest.config.has(key) && { value: guest.config.get(key) }),
      ...(guest.pending.has(key) && { pending: guest.pending.get(key) }),
      ...(guest.pendingDeletes.has(key) && { delete: 1 }),
    }));
  }

  async #change(guest: MockGuest, parameters: Readonly<Record<string, string>>): Promise<string> {
    const { node: _, vmid: __, digest, delete: deleted = '', revert = '', ...changes } = parameters;
    const [deletes, reverts] = [deleted, revert].map((list) => list.split(',').filter((key) => key !== ''));
    this.#assertMayChange(guest.vmid, [...Object.keys(changes), ...(deletes ?? []), ...(reverts ?? [])]);
    const unlock = await guest.lock();
    if (unlock === undefined) {
      this.lockTimeouts += 1;
      throw new Refused(500, `can't lock file '/var/lock/qemu-server/lock-${guest.vmid}.conf' - got timeout`);
    }
    const held = guest.config.get('lock');
    if (held !== undefined || (digest !== undefined && digest !== guest.digest)) {
      unlock();
      if (held !== undefined) throw new Refused(500, `VM is locked (${held})`);
      throw new Refused(500, 'detected modified configuration - file changed by other user? Try again.');
    }
    guest.stage(changes, deletes ?? [], reverts ?? []);
    return this.#begin('qmconfig', guest.vmid, async () => {
      try {
        const complaints = await guest.bringIntoForce();
        return Object.keys(complaints).length === 0 ? 'OK' : 'Parameter verification failed.';
      } finally {
        unlock();
      }
    });
  }

  #vcpus(guest: MockGuest): unknown {
    if (!guest.isRunning) throw new Refused(500, `VM ${guest.vmid} is not running`);
    if (!guest.config.get('agent')) throw new Refused(500, 'No QEMU guest agent configured');
    if (guest.faults.agentIsSilent) throw new Refused(500, 'QEMU guest agent is not running');
    const result = Array.from({ length: guest.running.vcpus }, (_, i) => ({
      'logical-id': i,
      online: true,
      'can-offline': i > 0,
    }));
    return { result };
  }

  #task(upid: string): unknown {
    const task = this.#tasks.get(upid);
    if (task === undefined) throw new Refused(500, 'no such task');
    const [, node, pid, , , type, id, user] = upid.split(':');
    return {
      upid,
      node,
      pid: Number.parseInt(pid ?? '', 16),
      pstart: 15_852_243,
      starttime: Math.floor(this.#clock.nowMs() / 1000),
      type,
      id,
      user,
      status: task.exitstatus === undefined ? 'running' : 'stopped',
      ...(task.exitstatus !== undefined && { exitstatus: task.exitstatus }),
    };
  }

  #export(parameters: Readonly<Record<string, string>>): unknown {
    const since = Number(parameters['start-time'] ?? 0);
    const wanted = parameters.history === '1' ? this.#generations : this.#generations.slice(-1);
    return { data: wanted.filter(({ atS }) => atS > since).flatMap(({ points }) => points) };
  }

  /** @returns true when the call has been answered, in its way */
  async #misbehave(call: string, response: ServerResponse): Promise<boolean> {
    const found = this.misbehaviours.find(({ at, times }) => call.startsWith(at) && times !== 0);
    if (found === undefined) return false;
    if (found.times !== undefined) found.times -= 1;
    if (found.delayMs !== undefined) {
      await new Promise<void>((resolve) => this.#clock.after(found.delayMs ?? 0, resolve));
    }
    if (found.cut === 'before') {
      response.destroy();
      return true;
    }
    if (found.status === undefined && found.body === undefined) return false;
    const body = Buffer.from(found.body ?? '{"data":null}');
    response.writeHead(found.status ?? 200, found.reason ?? '', { 'content-length': body.length });
    if (found.cut === 'middle') {
      response.write(body.subarray(0, body.length / 2), () => response.destroy());
    } else {
      response.end(body);
    }
    return true;
  }
}

function reply(response: ServerResponse, status: number, reason: string, body: string | Buffer): void {
  response.writeHead(status, reason.replace(/[^\x20-\x7e]/g, '?'), {
    'content-type': 'application/json;charset=UTF-8',
  });
  response.end(body);
}

/** Proxmox VE writes whole numbers of some keys as numbers and others as text. */
function typed([key, value]: [string, string]): [string, unknown] {
  const isNumber = ['cores', 'sockets', 'vcpus', 'balloon', 'shares', 'numa', 'cpuunits'].includes(key);
  return [key, isNumber ? Number(value) : value];
}
