// Goal: what goes wrong on a node of Proxmox VE is a result or a named refusal, never a setting that waits for the next start;
// and the traps of its API are not walked into. Method: a mocked node whose guests refuse, stall and are changed by others.
import { randomUUID } from 'node:crypto';
import t from 'tap';
import { createProxmoxAdapter } from '../../integrations/proxmox/adapter.ts';
import type { Actuated, GuestEvent } from '../../orchestrator/core/ports.ts';
import { type Entitlement, MIB } from '../../orchestrator/core/profile.ts';
import type { MockGuest } from './proxmox/mock-guest.ts';
import { LEAST_PRIVILEGES, startMockNode } from './proxmox/mock-node.ts';

const { mock, api, clock } = await startMockNode({ speed: 20 });
const failures: unknown[] = [];
const { hypervisor, actuators, close } = createProxmoxAdapter(api, {
  node: mock.node,
  clock,
  sampling: { fullMs: 2_000, fastMs: 1_000, instructionStep: 0 },
  unplugIsSafe: true,
  plugToMib: 2_048,
  onFailure: (cause) => failures.push(cause),
});
t.teardown(close);

const NEVER = new AbortController().signal;
const BASE = { cores: 4, vcpus: 1, memory: 1024, numa: 1, hotplug: 'network,disk,usb,cpu,memory' };
const WHOLE: Entitlement = { cpuMillicores: 1000, vcpuCount: 1, memoryBytes: 1024 * MIB };
let lastVmid = 100;

interface Given {
  readonly id: string;
  readonly vmid: number;
  readonly guest: MockGuest;
}

/** A guest, running unless told otherwise. */
function given(config: Readonly<Record<string, string | number>> = {}, isRunning = true): Given {
  lastVmid += 1;
  const id = randomUUID();
  const guest = mock.addGuest(lastVmid, { ...BASE, smbios1: `uuid=${id}`, ...config });
  if (isRunning) guest.boot();
  return { id, vmid: lastVmid, guest };
}

function apply(resource: Actuated, { id }: Given, target: Partial<Entitlement>, signal = NEVER) {
  return actuators[resource].apply(id, { ...WHOLE, ...target }, signal);
}

function restore(resource: Actuated, { id }: Given, cpuLimited = false) {
  return actuators[resource].restore(id, { entitlement: WHOLE, cpuLimited }, NEVER);
}

/** Changes of a guest's configuration that were asked for since. */
function changesSince(from: number, { vmid }: Given): string[] {
  return mock.calls.slice(from).filter((call) => call.startsWith(`POST /nodes/pve1/qemu/${vmid}/config`));
}

function waits({ guest }: Given): string[] {
  return [...guest.pending.keys(), ...guest.pendingDeletes];
}

t.test('trap: a balloon moves only without shares', async (t) => {
  const one = given();
  t.strictSame(await apply('memory', one, { memoryBytes: 512 * MIB }), { memoryBytes: 512 * MIB });
  t.equal(one.guest.balloonBytes, 512 * MIB, 'QEMU was told, not the configuration alone');
  await restore('memory', one);
  t.equal(one.guest.balloonBytes, 1024 * MIB);
  t.notOk(one.guest.config.has('balloon') || one.guest.config.has('shares'), 'and nothing of ours is left');
});

t.test('a balloon that the host moves is left to it, and said so', async (t) => {
  const one = given({ balloon: 512 });
  const { capabilities } = await hypervisor.inspect(one.id);
  t.equal(capabilities.balloon, false);
  const from = mock.calls.length;
  await t.rejects(apply('memory', one, { memoryBytes: 700 * MIB }), {
    code: 'NOT_SUPPORTED',
    message: /shares to 0/,
  });
  t.strictSame(changesSince(from, one), []);
});

t.test('trap: what is to shape a start is written before it', async (t) => {
  const one = given({}, false);
  t.match(await apply('cpu', one, { cpuMillicores: 2_500, vcpuCount: 3 }), {
    cpuMillicores: 2_500,
    vcpuCount: 3,
  });
  await apply('memory', one, { memoryBytes: 768 * MIB });
  await hypervisor.start(one.id);
  t.match(one.guest.running, { vcpus: 3, cpuLimit: 2.5 });
  t.equal(one.guest.balloonBytes, 768 * MIB);

  const late = given({}, false);
  mock.hook = async (vmid, phase) => {
    // Another hookscript, which writes the file itself: the guest was read before.
    if (phase === 'pre-start') mock.guest(vmid).config.set('vcpus', '4');
    return 0;
  };
  await hypervisor.start(late.id);
  mock.hook = async () => 0;
  t.equal(late.guest.running.vcpus, 1, 'the mock walks into it as Proxmox VE does');
});

t.test(
  'trap: the lock of a start is waited for, and a change from inside it does not hang for ever',
  async (t) => {
    const one = given({}, false);
    let inside: Promise<unknown> | undefined;
    mock.hook = async (_, phase) => {
      if (phase === 'post-start') {
        inside = apply('cpu', one, { cpuMillicores: 2_000, vcpuCount: 2 });
        await clock.wait(3_000); // a hookscript that is slow, but does not wait for its own change
      }
      return 0;
    };
    await hypervisor.start(one.id);
    t.match(
      await inside,
      { cpuMillicores: 2_000, vcpuCount: 2 },
      'handed over, it comes into force afterwards',
    );

    const hung = given({}, false);
    let outcome: unknown;
    mock.hook = async (_, phase) => {
      if (phase === 'pre-start')
        outcome = await apply('cpu', hung, { cpuMillicores: 500 }).catch((e: unknown) => e);
      return 0;
    };
    await hypervisor.start(hung.id);
    mock.hook = async () => 0;
    t.match(outcome, { code: 'GUEST_BUSY' });
    t.match(hung.guest.running, { cpuLimit: 0 });
    t.strictSame(waits(hung), []);
  },
);

t.test('vCPUs that stop half way are what is there, and the rest does not wait for a reboot', async (t) => {
  const one = given();
  one.guest.faults.vcpusAtMost = 2;
  t.match(await apply('cpu', one, { cpuMillicores: 3_500, vcpuCount: 4 }), {
    vcpuCount: 2,
    cpuMillicores: 2_000,
  });
  t.equal(one.guest.config.get('cpulimit'), '3.5');
  t.strictSame(waits(one), []);

  const none = given();
  none.guest.faults.vcpusAtMost = 1;
  await t.rejects(apply('cpu', none, { cpuMillicores: 4_000, vcpuCount: 4 }), { code: 'ACTUATION_REFUSED' });
  t.strictSame(waits(none), [], 'a refusal leaves nothing behind');
  t.equal(none.guest.config.get('vcpus'), '1');
});

t.test('a vCPU that does not come back stays, held by the limit, and is not asked for again', async (t) => {
  const one = given();
  await apply('cpu', one, { cpuMillicores: 2_000, vcpuCount: 2 });
  one.guest.faults.keepsWhatItHas = true;
  t.match(await restore('cpu', one), { cpuMillicores: 1_000, vcpuCount: 2 });
  t.match(one.guest.running, { vcpus: 2, cpuLimit: 1 });
  t.strictSame(waits(one), []);
  const from = mock.calls.length;
  t.match(await restore('cpu', one), { cpuMillicores: 1_000, vcpuCount: 2 });
  t.notOk(changesSince(from, one).some((call) => call.includes('vcpus=')));
});

t.test('a DIMM that does not come back is covered by the balloon', async (t) => {
  const one = given();
  t.strictSame(await apply('memory', one, { memoryBytes: 2048 * MIB }), { memoryBytes: 2048 * MIB });
  t.equal(one.guest.running.memoryMib, 2048, 'two DIMMs were plugged');
  one.guest.faults.keepsWhatItHas = true;
  t.strictSame(await restore('memory', one), { memoryBytes: 1024 * MIB });
  t.match(one.guest.running, { memoryMib: 2048 });
  t.strictSame(waits(one), []);
});

t.test('a balloon that stalls is told as far as it came', async (t) => {
  const one = given();
  one.guest.faults.balloonStuckBytes = 800 * MIB;
  t.strictSame(await apply('memory', one, { memoryBytes: 512 * MIB }), { memoryBytes: 800 * MIB });
});

t.test('what somebody else changed meanwhile is kept', async (t) => {
  const one = given({ scsi0: 'local-lvm:vm-1-disk-0,iothread=1,size=8G' });
  await hypervisor.inspect(one.id);
  const from = mock.calls.length;
  // Our change is held up on its way: theirs is first.
  mock.misbehaviours.push({ at: `POST /nodes/pve1/qemu/${one.vmid}/config`, times: 1, delayMs: 2_000 });
  const ours = apply('disk', one, { diskReadBytesPerS: MIB });
  await clock.wait(1_000);
  one.guest.config.set('scsi0', 'local-lvm:vm-1-disk-0,iothread=0,size=8G');
  t.strictSame(await ours, { diskReadBytesPerS: MIB });
  t.equal(one.guest.config.get('scsi0'), 'local-lvm:vm-1-disk-0,iothread=0,size=8G,mbps_rd=1');
  t.equal(changesSince(from, one).length, 2, 'refused once by its digest, and made anew');

  const message = 'detected modified configuration - file changed by other user? Try again.';
  const body = JSON.stringify({ data: null, message });
  mock.misbehaviours.push({ at: 'POST', status: 500, body });
  await t.rejects(apply('disk', one, {}), { code: 'STATE_CONFLICT' });
  mock.misbehaviours.length = 0;
});

t.test('a guest that is being backed up is busy, at once', async (t) => {
  const one = given({ lock: 'backup' });
  const from = mock.calls.length;
  await t.rejects(apply('cpu', one, { cpuMillicores: 500 }), { code: 'GUEST_BUSY' });
  t.equal(changesSince(from, one).length, 1);
});

t.test(
  'a task that warns has done its work, one that takes long is not waited for beyond the signal',
  async (t) => {
    const one = given();
    mock.taskEndings.set('qmconfig', 'WARNINGS: 1');
    t.match(await apply('cpu', one, { cpuMillicores: 300 }), { cpuMillicores: 300 });
    mock.taskEndings.clear();
    one.guest.faults.vcpusAtMost = 1;
    const startMs = clock.monotonicMs();
    const abort = new AbortController();
    clock.after(500, () => abort.abort());
    t.match(await apply('cpu', one, { cpuMillicores: 800, vcpuCount: 4 }, abort.signal), { vcpuCount: 1 });
    // The node itself tries for ten seconds.
    t.ok(clock.monotonicMs() - startMs < 9_000);
    await restore('cpu', one);
    t.strictSame(waits(one), [], 'what went on behind was taken back all the same');
  },
);

t.test('a change that may or may not have arrived is not made twice', async (t) => {
  const one = given();
  const at = `POST /nodes/pve1/qemu/${one.vmid}/config`;
  for (const how of [
    { at, status: 595, reason: 'Connection timed out' },
    { at, cut: 'before' },
  ] as const) {
    const from = mock.calls.length;
    mock.misbehaviours.push(how);
    await t.rejects(apply('cpu', one, { cpuMillicores: 400 }), { code: 'HYPERVISOR_UNAVAILABLE' });
    mock.misbehaviours.length = 0;
    t.equal(changesSince(from, one).length, 1);
  }
});

t.test('what a lost change left waiting is taken back with the next one', async (t) => {
  const one = given();
  one.guest.faults.vcpusAtMost = 1;
  // The task goes on, and its end is not seen.
  mock.misbehaviours.push({ at: 'GET /nodes/pve1/tasks', status: 595, reason: 'No route to host' });
  await t.rejects(apply('cpu', one, { cpuMillicores: 4_000, vcpuCount: 4 }), {
    code: 'HYPERVISOR_UNAVAILABLE',
  });
  mock.misbehaviours.length = 0;
  await clock.wait(6_000);
  t.strictSame(waits(one), ['vcpus']);
  await apply('cpu', one, {});
  t.strictSame(waits(one), []);
});

t.test('changes of one guest at once come one after another', async (t) => {
  const one = given({ scsi0: 'local-lvm:vm-1-disk-0', net0: 'virtio=BC:24:11:2E:00:02,bridge=vmbr0' });
  const from = mock.calls.length;
  const limits = { diskReadBytesPerS: 5 * MIB, netRxBytesPerS: 3 * MIB, netTxBytesPerS: 2 * MIB };
  const target = { cpuMillicores: 1_500, vcpuCount: 2, memoryBytes: 600 * MIB, ...limits };
  const held = await Promise.all(
    (['cpu', 'memory', 'disk', 'net'] as const).map((one_) => apply(one_, one, target)),
  );
  t.match(held, [
    { cpuMillicores: 1_500 },
    { memoryBytes: 600 * MIB },
    { diskReadBytesPerS: 5 * MIB },
    // One rate holds both directions: the higher one's.
    { netRxBytesPerS: 3 * MIB, netTxBytesPerS: 3 * MIB },
  ]);
  t.equal(changesSince(from, one).length, 4, 'none was refused by another');
  t.strictSame(
    await apply('net', one, { netRxBytesPerS: MIB }),
    {},
    'a direction without a limit frees both',
  );
});

t.test('disks with limits on totals or bursts are left as they are', async (t) => {
  for (const own of ['mbps=10', 'iops_rd_max=100', 'bps_wr=1000000', 'mbps_wr_max=5']) {
    const one = given({ scsi0: `local-lvm:vm-1-disk-0,${own}` });
    t.equal((await hypervisor.inspect(one.id)).capabilities.diskLimits, false, own);
    await t.rejects(apply('disk', one, { diskReadBytesPerS: MIB }), { code: 'NOT_SUPPORTED' });
    t.equal(one.guest.config.get('scsi0'), `local-lvm:vm-1-disk-0,${own}`);
  }
  await t.rejects(
    apply('disk', given(), { diskReadBytesPerS: MIB }),
    { code: 'NOT_SUPPORTED' },
    'no disk at all',
  );
});

t.test('a guest that cannot be plugged is limited only', async (t) => {
  const one = given({ hotplug: 'network,disk,usb', numa: 0 });
  t.match((await hypervisor.inspect(one.id)).capabilities, {
    vcpuPlug: false,
    vcpuUnplug: false,
    virtioMem: false,
  });
  t.match(await apply('cpu', one, { cpuMillicores: 800, vcpuCount: 4 }), {
    cpuMillicores: 800,
    vcpuCount: 1,
  });
  t.strictSame(await apply('memory', one, { memoryBytes: 2048 * MIB }), { memoryBytes: 1024 * MIB });
  t.notOk(one.guest.config.get('vcpus') !== '1');
});

t.test('an agent that is silent, or not ours to ask, costs the count alone', async (t) => {
  const one = given({ agent: '1' });
  one.guest.faults.agentIsSilent = true;
  t.match(await apply('cpu', one, { cpuMillicores: 2_000, vcpuCount: 2 }), { vcpuCount: 2 }, 'as plugged');
});

t.test('a missing privilege is named', async (t) => {
  const one = given({ net0: 'virtio=BC:24:11:2E:00:03,bridge=vmbr0' });
  const all = LEAST_PRIVILEGES['/vms'] ?? [];
  mock.privileges = { ...LEAST_PRIVILEGES, '/vms': all.filter((name) => name !== 'VM.Config.Network') };
  const limits = { netRxBytesPerS: MIB, netTxBytesPerS: MIB };
  await t.rejects(apply('net', one, limits), { code: 'ACTUATION_REFUSED', message: /VM\.Config\.Network/ });
  mock.privileges = LEAST_PRIVILEGES;
  t.strictSame(await apply('net', one, limits), limits);
});

t.test('guests are known by UUID, without one by VMID, and never two by one', async (t) => {
  const bare = given({ smbios1: 'manufacturer=Acme' });
  const [one] = (await hypervisor.guests()).filter(({ name }) => name === `vm-${bare.vmid}`);
  t.match(one?.id, new RegExp(`-0*${bare.vmid}$`));
  t.equal((await hypervisor.inspect(one?.id ?? '')).name, `vm-${bare.vmid}`);

  const first = given();
  const twin = given({ smbios1: `uuid=${first.id}` });
  failures.length = 0;
  const names = (await hypervisor.guests()).filter(({ id }) => id === first.id).map(({ name }) => name);
  t.equal(names.length, 1, 'one of the two');
  t.match(String(failures), /another guest of the node has the same UUID/);
  mock.guests.delete(twin.vmid);

  // A VMID is given anew.
  const gone = given();
  await hypervisor.inspect(gone.id);
  const next = randomUUID();
  mock.addGuest(gone.vmid, { ...BASE, smbios1: `uuid=${next}` }).boot();
  await t.rejects(apply('cpu', gone, { cpuMillicores: 500 }), { code: 'GUEST_NOT_FOUND' });
  t.equal((await hypervisor.inspect(next)).state, 'running');
});

t.test('starts, stops, restarts and removals are told, and a guest is asked to go', async (t) => {
  const events: GuestEvent[] = [];
  const stop = hypervisor.onGuestEvent((event) => events.push(event));
  const one = given({}, false);
  await clock.wait(4_500);
  const mine = () => events.filter(({ guest, kind }) => guest === one.id && kind !== 'tuned');
  const told = async (kinds: readonly string[], note: string) => {
    for (let i = 0; i < 40 && mine().length < kinds.length; i += 1) await clock.wait(250);
    const seen = mine().map(({ kind }) => kind);
    t.strictSame(seen, kinds, note);
    events.length = 0;
  };
  await hypervisor.start(one.id);
  await told(['started'], 'a start');
  await t.rejects(hypervisor.start(one.id), { code: 'ACTUATION_REFUSED' });
  one.guest.stop();
  one.guest.boot();
  await told(['stopped', 'started'], 'a restart between two looks');
  await hypervisor.shutDown(one.id);
  await told(['stopped'], 'a stop');
  await t.rejects(hypervisor.shutDown(one.id), { code: 'GUEST_NOT_RUNNING' });
  mock.guests.delete(one.vmid);
  await told(['removed'], 'a removal');
  await t.rejects(hypervisor.start(one.id), { code: 'GUEST_NOT_FOUND' });
  stop();
});

t.test('a node that does not answer is unavailable until it does', async (t) => {
  const told: boolean[] = [];
  failures.length = 0;
  const stop = hypervisor.onAvailability((available) => told.push(available));
  mock.misbehaviours.push({ at: 'GET /nodes/pve1/qemu', status: 595, reason: 'No route to host' });
  // Reads are tried again in the machine's own time.
  for (let i = 0; i < 100 && told.length < 1; i += 1) await clock.wait(500);
  t.equal(hypervisor.available, false);
  await clock.wait(20_000);
  t.equal(failures.length, 1, 'said once');
  await t.rejects(hypervisor.guests(), { code: 'HYPERVISOR_UNAVAILABLE' });
  mock.misbehaviours.length = 0;
  for (let i = 0; i < 100 && told.length < 2; i += 1) await clock.wait(500);
  t.strictSame(told, [false, true]);
  t.equal(hypervisor.available, true);
  stop();
});

t.test('nothing was asked or answered outside the schema', async (t) => {
  t.strictSame(mock.violations, []);
});
