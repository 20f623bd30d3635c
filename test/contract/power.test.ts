// Goal: a guest is started, asked to shut down and told of alike by every hypervisor behind the adapter, and what cannot be
// done is an error of the core's. Method: the same cases over the fake and over libvirt's own test driver by the addon.
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { createLibvirtAdapter } from '../../libvirt-adapter/adapter.ts';
import { FakeLibvirt } from '../../libvirt-adapter/fake/fake-libvirt.ts';
import { FakeReadings } from '../../libvirt-adapter/fake/fake-readings.ts';
import { ManualClock, settle } from '../../libvirt-adapter/fake/manual-clock.ts';
import type { Libvirt } from '../../libvirt-adapter/libvirt.ts';
import { NativeLibvirt } from '../../libvirt-adapter/native/connection.ts';
import type { GuestEvent, Hypervisor } from '../../orchestrator/core/ports.ts';
import { addonUnavailableReason } from '../bench/libvirt-shim.ts';

const UUID = 'c7a5fdbd-edaf-9455-926a-d65c16db1810';
const GUEST_XML = `<domain type='test'><name>stand-by</name><uuid>${UUID}</uuid><memory unit='KiB'>204800</memory>
  <vcpu>2</vcpu><os><type>hvm</type></os></domain>`;
/** Longest wait for what comes after a call, times 20 ms. */
const LOOKS_MAX = 100;

/** @param guest one that is shut off @param wait lets time pass */
async function powerCases(
  t: Test,
  hypervisor: Hypervisor,
  guest: string,
  wait: (ms: number) => Promise<void>,
): Promise<void> {
  const told: GuestEvent['kind'][] = [];
  const stop = hypervisor.onGuestEvent((event) => {
    if (event.guest === guest) told.push(event.kind);
  });
  const becomes = async (state: string): Promise<void> => {
    for (let i = 0; i < LOOKS_MAX && (await hypervisor.inspect(guest)).state !== state; i += 1)
      await wait(20);
    t.equal((await hypervisor.inspect(guest)).state, state);
  };
  t.equal((await hypervisor.inspect(guest)).state, 'shut-off');
  await t.rejects(hypervisor.shutDown(guest), { message: /not running/ });
  await hypervisor.start(guest);
  await becomes('running');
  await t.rejects(hypervisor.start(guest), { code: 'ACTUATION_REFUSED' }, 'one that runs is not started');
  await hypervisor.shutDown(guest);
  await becomes('shut-off');
  for (let i = 0; i < LOOKS_MAX && told.length < 2; i += 1) await wait(20);
  t.strictSame(told, ['started', 'stopped']);
  const nobody = '00000000-0000-4000-8000-000000000000';
  await t.rejects(hypervisor.start(nobody), { code: 'GUEST_NOT_FOUND' });
  await t.rejects(hypervisor.shutDown(nobody), { code: 'GUEST_NOT_FOUND' });
  stop();
}

function adapterOver(t: Test, libvirt: Libvirt, clock?: ManualClock): Hypervisor {
  const readings = new FakeReadings(new FakeLibvirt());
  const adapter = createLibvirtAdapter(libvirt, readings, clock === undefined ? {} : { clock });
  t.teardown(() => adapter.close());
  return adapter.hypervisor;
}

t.test('the fake', async (t) => {
  const clock = new ManualClock();
  const libvirt = new FakeLibvirt({ clock });
  libvirt.addGuest({ name: 'stand-by', uuid: UUID, state: 'shutoff' });
  await powerCases(t, adapterOver(t, libvirt, clock), UUID, (ms) => clock.advance(ms));
});

t.test('the fake, a guest that does not listen', async (t) => {
  const clock = new ManualClock();
  const libvirt = new FakeLibvirt({ clock });
  libvirt.addGuest({ name: 'stand-by', uuid: UUID, ignoresShutdown: true });
  const hypervisor = adapterOver(t, libvirt, clock);
  await settle(clock, hypervisor.shutDown(UUID));
  await clock.advance(60_000);
  t.equal((await hypervisor.inspect(UUID)).state, 'running');
});

t.test("libvirt's test driver", { skip: addonUnavailableReason() ?? false }, async (t) => {
  const libvirt = await NativeLibvirt.open('test:///default').catch(() => undefined);
  if (libvirt === undefined) return t.comment('no libvirt here');
  t.teardown(() => libvirt.close());
  await libvirt.defineDomain(GUEST_XML);
  await powerCases(t, adapterOver(t, libvirt), UUID, (ms) => sleep(ms));
});
