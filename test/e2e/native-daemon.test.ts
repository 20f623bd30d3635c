/**
 * Goal: a daemon that stops or dies takes nothing of ours with it. Stopped under load, no process crashes; killed and
 * started again, the connection comes back with its events, sampling goes on within 2 s, and the guest never notices.
 * Method: a private libvirtd with one small paused TCG guest and some defined ones; signals to the daemon; the load runs in
 * a child process, whose crash would be seen as its signal. FORESHADE_DAEMON_STOPS sets how often the daemon is stopped.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import t from 'tap';

import { LIBVIRT_ERROR, LibvirtError, type LibvirtEvent } from '../../libvirt-adapter/libvirt.ts';
import { NativeLibvirt } from '../../libvirt-adapter/native/connection.ts';
import { addonUnavailableReason } from '../bench/libvirt-shim.ts';
import { daemonUnavailableReason, PrivateDaemon } from './private-daemon.ts';

const STOPS = Number(process.env.FORESHADE_DAEMON_STOPS ?? 3);
const RESUME_MS_MAX = 2_000;
const SAMPLE_EVERY_MS = 100;
const GUEST = 'native-guest';

/** Defined guests that the load asks about: enough of them that every lane has one. */
const IDLE_GUESTS = 12;

function guestXml(name: string): string {
  return `<domain type='qemu'><name>${name}</name><memory unit='MiB'>64</memory><vcpu current='1'>2</vcpu>
    <os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
    <devices><controller type='usb' model='none'/><memballoon model='virtio'><stats period='1'/></memballoon></devices>
  </domain>`;
}

/** A guest with what can be tuned. It is never started: its disk does not exist. */
function tunedXml(): string {
  return guestXml('native-tuned')
    .replace("<vcpu current='1'>2</vcpu>", "<vcpu current='2'>2</vcpu><iothreads>1</iothreads>")
    .replace(
      '</devices>',
      `<disk type='file' device='disk'><source file='/nowhere.img'/><target dev='vda' bus='virtio'/></disk>
      <interface type='bridge'><source bridge='none'/><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>
      </devices>`,
    );
}

/** Which process it is: its pid and start time. */
function identity(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return `${pid} ${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]}`;
}

async function until(
  what: string,
  isDone: () => boolean | Promise<boolean>,
  timeoutMs = 20_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await isDone())) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`);
    await sleep(5);
  }
}

/** Starting and killing take 30 s on a loaded machine; a stop takes 3 s, a loaded machine's more. */
t.setTimeout(60_000 + STOPS * 10_000);

const unavailable = addonUnavailableReason() ?? daemonUnavailableReason();

t.test('the daemon stops and dies', { skip: unavailable ?? false }, async (t) => {
  const daemon = new PrivateDaemon();
  t.teardown(() => daemon.remove([GUEST]));
  await daemon.start();

  const libvirt = await NativeLibvirt.open(daemon.uri, { keepalive: { intervalS: 1, count: 3 } });
  t.teardown(() => libvirt.close());
  const events: LibvirtEvent[] = [];
  libvirt.on('lifecycle', (event) => void events.push(event));
  libvirt.on('balloon-change', (event) => void events.push(event));
  libvirt.on('tunable', (event) => void events.push(event));
  const seen = (name: string): number =>
    events.filter((event) => event.kind === 'lifecycle' && event.event === name).length;

  const guest = await libvirt.createDomainFromXml(guestXml(GUEST), { paused: true });
  for (let i = 0; i < IDLE_GUESTS; ++i) await libvirt.defineDomain(guestXml(`idle-${i}`));

  await t.test('a real guest answers', async (t) => {
    t.match(await libvirt.domainState(guest), { state: 'paused' });
    await libvirt.resumeDomain(guest);
    await until('the events of a start', () => seen('started') === 1 && seen('resumed') >= 1);
    t.match(JSON.parse(await libvirt.qemuMonitorCommand(guest, '{"execute":"query-status"}')), {
      return: { running: true },
    });
    await libvirt.setVcpus(guest, 2, { live: true });
    t.equal(await libvirt.getVcpus(guest, { live: true }), 2);
    t.equal((await libvirt.memoryStats(guest)).actualBalloonKib, 65_536);
    await libvirt.setMemory(guest, 61_440n, { live: true });
    const stats = await libvirt.allDomainStats(['state', 'vcpu', 'balloon'], { domains: [guest] });
    t.strictSame(stats.domains, [guest]);
    const current = [...stats.keyIds].findIndex((id) => stats.keys[id] === 'vcpu.current');
    t.equal(stats.values[current], 2n);
    t.strictSame(
      (await libvirt.listDomains({ active: true })).map(({ name }) => name),
      [GUEST],
    );
  });

  await t.test('the driver takes every parameter with the type it is given', async (t) => {
    const tuned = await libvirt.defineDomain(tunedXml());
    const config = { config: true };
    const scheduler = {
      cpu_shares: 512n,
      vcpu_period: 100_000n,
      vcpu_quota: 20_000n,
      emulator_period: 100_000n,
      emulator_quota: -1n,
      global_period: 50_000n,
      global_quota: 30_000n,
      iothread_period: 100_000n,
      iothread_quota: 40_000n,
    };
    await libvirt.setSchedulerParameters(tuned, scheduler, config);
    t.match(await libvirt.getSchedulerParameters(tuned, config), scheduler);

    const disk = {
      read_bytes_sec: 10n ** 15n - 1n,
      write_iops_sec: 100n,
      write_iops_sec_max: 200n,
      group_name: 'g',
    };
    await libvirt.setBlockIoTune(tuned, 'vda', disk, config);
    t.match(await libvirt.getBlockIoTune(tuned, 'vda', config), disk);

    const mac = '52:54:00:00:00:01';
    const net = {
      'inbound.average': 1_000,
      'inbound.burst': 64,
      'outbound.average': 500,
      'outbound.peak': 800,
    };
    await libvirt.setInterfaceParameters(tuned, mac, net, config);
    t.match(await libvirt.getInterfaceParameters(tuned, mac, config), net);

    await libvirt.setPerfEvents(tuned, { cpu_clock: true, instructions: false }, config);
    t.match(await libvirt.getPerfEvents(tuned, config), { cpu_clock: true, instructions: false });

    await libvirt.pinVcpu(tuned, 0, new Uint8Array([1]), config);
    await libvirt.pinEmulator(tuned, new Uint8Array([1]), config);
    await libvirt.setMemoryStatsPeriod(tuned, 7, config);
    await libvirt.setMemory(tuned, 49_152n, config);
    await libvirt.setMemory(tuned, 98_304n, { config: true, maximum: true });
    await libvirt.setVcpus(tuned, 4, { config: true, maximum: true });
    await libvirt.setVcpu(tuned, '1', false, config);
    const iface = (link: string): string =>
      `<interface type='user'><mac address='52:54:00:00:00:02'/><model type='virtio'/><link state='${link}'/></interface>`;
    await libvirt.attachDevice(tuned, iface('up'), config);
    await libvirt.updateDevice(tuned, iface('down'), config);
    const xml = await libvirt.domainXml(tuned, { inactive: true });
    for (const part of [
      "<vcpupin vcpu='0' cpuset='0'/>",
      "<emulatorpin cpuset='0'/>",
      "<stats period='7'/>",
      "<memory unit='KiB'>98304</memory>",
      "<currentMemory unit='KiB'>49152</currentMemory>",
      '>4</vcpu>',
      "<vcpu id='1' enabled='no'",
      "<link state='down'/>",
    ]) {
      t.match(xml, part, part);
    }
    await libvirt.detachDevice(tuned, iface('down'), config);
    t.notMatch(await libvirt.domainXml(tuned), '52:54:00:00:00:02');
    const refusal = await libvirt
      .migrateToUri3(tuned, 'qemu+tcp://0.0.0.0/system', { bandwidth: 1 }, 1)
      .catch((e) => e);
    t.match(refusal, { call: 'virDomainMigrateToURI3', notStarted: false });
    await libvirt.undefineDomain(tuned);
  });

  await t.test('killed and started again', async (t) => {
    const before = identity(daemon.guestPid(GUEST));
    const states: string[] = [];
    libvirt.onConnection(({ state }) => void states.push(state));
    let lastSampleAt = 0;
    let isSampling = true;
    const sampling = (async () => {
      while (isSampling) {
        try {
          await libvirt.allDomainStats(['state', 'cpuTotal']);
          lastSampleAt = performance.now();
        } catch (error) {
          if (!(error instanceof LibvirtError)) throw error;
        }
        await sleep(SAMPLE_EVERY_MS);
      }
    })();
    await until('a first sample', () => lastSampleAt > 0);

    daemon.signal('SIGKILL');
    await until('the loss to be noticed', () => libvirt.connection.state === 'disconnected');
    await sleep(1_500); // long enough for the pauses between attempts to grow to their longest
    const refusal = await libvirt.nodeInfo().catch((error: unknown) => error);
    t.match(refusal, { code: LIBVIRT_ERROR.disconnected, notStarted: true });
    const backAt = await daemon.start();
    await until('a sample after the return', () => lastSampleAt > backAt);
    const resumedMs = lastSampleAt - backAt;
    t.ok(resumedMs <= RESUME_MS_MAX, `sampling went on ${resumedMs.toFixed(0)} ms after the socket's return`);
    await until('the connection', () => libvirt.connection.state === 'connected');
    t.strictSame(states, ['connected', 'disconnected', 'connected']);

    const suspendedBefore = seen('suspended');
    await libvirt.suspendDomain(guest);
    await until('an event after the return', () => seen('suspended') > suspendedBefore);
    await sleep(200);
    t.equal(seen('suspended'), suspendedBefore + 1, 'delivered once: registered once');
    await libvirt.resumeDomain(guest);
    t.equal(identity(daemon.guestPid(GUEST)), before, 'the same QEMU process');
    t.match(await libvirt.domainState(guest), { state: 'running' });
    isSampling = false;
    await sampling;
  });

  await t.test(`stopped ${STOPS} times with every lane busy`, async (t) => {
    const program = fileURLToPath(new URL('./native-load.js', import.meta.url));
    const child = spawn(process.execPath, [program, daemon.uri], { stdio: ['pipe', 'pipe', 'inherit'] });
    const ended = new Promise<string>((resolve) => {
      child.once('exit', (code, signal) => resolve(signal ?? `exit ${code}`));
    });
    let end: string | undefined;
    void ended.then((how) => {
      end = how;
    });
    const lines: string[] = [];
    createInterface({ input: child.stdout }).on('line', (line) => void lines.push(line));
    const wait = (line: string): Promise<void> =>
      until(`"${line}" from the load`, () => {
        if (end !== undefined) throw new Error(`the load ended: ${end}`);
        return lines.includes(line);
      });

    await wait('sampled');
    for (let stop = 0; stop < STOPS; ++stop) {
      lines.length = 0;
      daemon.signal('SIGSTOP');
      await wait('disconnected');
      await sleep(500); // every lane has noticed, and waits for the daemon to take its new connection
      daemon.signal('SIGCONT');
      await wait('connected');
      await wait('sampled');
    }
    child.stdin.end();
    t.equal(await ended, 'exit 0');
    t.match(await libvirt.domainState(guest), { state: 'running' }, 'the guest runs on');
  });

  await libvirt.destroyDomain(guest);
});
