import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { ForeshadeClient } from '../../integrations/client-node/client.ts';
import { Lab } from '../../libvirt-adapter/lab/lab.ts';
import { virsh } from '../../libvirt-adapter/lab/virsh.ts';
import { installHook, uninstallHook } from '../../orchestrator/cli/hook-files.ts';
import { parseConfig } from '../../orchestrator/config.ts';
import { MIB } from '../../orchestrator/core/profile.ts';
import { ParametricForecaster } from '../../orchestrator/forecast/parametric-forecaster.ts';
import { type Running, serve } from '../../orchestrator/main.ts';

/** The hook's own default. */
const DEADLINE_MS = 200;

/** A lab without guests whose libvirtd runs our hook, and a service that may come and go behind it. */
export class HookStage {
  readonly lab: Lab;
  readonly folder: string;
  readonly httpSocket: string;
  readonly #socket: string;
  readonly #root: string;
  #learned = 0;
  #running: Running | undefined;
  #client: ForeshadeClient | undefined;

  private constructor(lab: Lab, folder: string) {
    this.lab = lab;
    this.folder = folder;
    this.#socket = join(folder, 'foreshade.sock');
    this.httpSocket = join(folder, 'foreshade.http.sock');
    this.#root = join(folder, 'root');
    mkdirSync(join(this.#root, 'etc'), { recursive: true });
    symlinkSync(join(lab.stateDir, 'etc'), join(this.#root, 'etc', 'libvirt'));
  }

  static async set(onProgress: (line: string) => void): Promise<HookStage> {
    const folder = mkdtempSync(join(tmpdir(), 'fs-hook-'));
    const lab = await Lab.up({ guests: 0, stateDir: join(folder, 'lab'), onProgress });
    return new HookStage(lab, folder);
  }

  get client(): ForeshadeClient {
    if (this.#client === undefined) throw new Error('no service runs');
    return this.#client;
  }

  /** Put the hook in place. The lab's libvirtd looks for hooks when it starts: restart it after the first time. */
  install(): void {
    const rest = { deadlineMs: DEADLINE_MS, policy: 'prefer', requireWaitMs: 2000 } as const;
    installHook(this.#root, { socket: this.httpSocket, ...rest });
  }

  uninstall(): void {
    uninstallHook(this.#root);
  }

  /** Another hook in ours' place, or none any more. */
  replaceBy(script: string | undefined): void {
    const path = join(this.#root, 'etc/libvirt/hooks/qemu.d/50-foreshade');
    rmSync(path, { force: true });
    if (script !== undefined) writeFileSync(path, script, { mode: 0o755 });
  }

  /** Start the service; runs of `render` took 2.4 cores and 190 MiB. */
  async serve(): Promise<void> {
    const text = `state_dir = ${JSON.stringify(join(this.folder, 'service'))}
[libvirt]
uri = ${JSON.stringify(this.lab.uri)}
[service]
socket = ${JSON.stringify(this.#socket)}
[host]
mode = "enforce"
[host.overcommit]
cpu = 16.0
admit_by = "promises"
[host.reserved]
cpu_millicores = 200
memory_mib = 512
`;
    const forecaster = await ParametricForecaster.create();
    for (let run = 0; run < 8; run += 1) {
      forecaster.learn({
        leaseId: `taught-${run}`,
        guest: 'taught',
        tenant: 'studio',
        workload: 'render',
        params: { frames: { kind: 'number', value: 100 + run } },
        startedAtMs: 0,
        finishedAtMs: 60_000,
        before: { cpuMillicores: 0, memoryBytes: 0 },
        peak: { cpuMillicores: 2400 + 10 * (run % 2), memoryBytes: (190 + (run % 3)) * MIB },
        censored: [],
        completed: true,
      });
    }
    const learn = forecaster.learn.bind(forecaster);
    forecaster.learn = (outcome) => {
      this.#learned += 1;
      learn(outcome);
    };
    const logger = pino(
      { level: 'debug' },
      pino.destination({ dest: join(this.folder, 'service.log'), sync: true }),
    );
    this.#running = await serve(parseConfig(text, 'the test'), { logger, forecaster });
    this.#client = new ForeshadeClient(this.#socket);
  }

  /** Runs that the service has learned from. */
  outcomes(): number {
    return this.#learned;
  }

  async stopService(): Promise<void> {
    this.#client?.close();
    await this.#running?.stop();
    this.#client = undefined;
    this.#running = undefined;
  }

  /** Define a guest that boots nothing: its firmware finds no disk. */
  async define(name: string, metadata = requestXml(`workload='render' tenant='studio'`)): Promise<void> {
    const path = join(this.folder, `${name}.xml`);
    writeFileSync(
      path,
      `<domain type='qemu'><name>${name}</name><uuid>${randomUUID()}</uuid><metadata>${metadata}</metadata>
      <memory unit='MiB'>96</memory><currentMemory unit='MiB'>64</currentMemory><vcpu current='1'>2</vcpu>
      <os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
      <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='usb' model='none'/>
      <memballoon model='virtio'/></devices></domain>`,
    );
    await virsh(this.lab.uri, ['define', path]);
  }

  /** `virsh start`, as an operator runs it. @returns how long it took, ms */
  async start(name: string): Promise<number> {
    const beganAt = performance.now();
    await virsh(this.lab.uri, ['start', name]);
    return performance.now() - beganAt;
  }

  async destroy(name: string): Promise<void> {
    await virsh(this.lab.uri, ['destroy', name]);
  }

  async close(): Promise<void> {
    await this.stopService();
    const running = (await virsh(this.lab.uri, ['list', '--name'])).split('\n').filter(Boolean);
    await Promise.all(running.map((name) => this.destroy(name)));
    await this.lab.down();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function requestXml(attributes: string): string {
  return `<foreshade:request xmlns:foreshade='urn:foreshade:request:1' ${attributes}><foreshade:param name='frames' number='104'/></foreshade:request>`;
}
