// Goal: the adapter does to a real QEMU guest what it does to the fake one, and sees there what it sees here.
// Method: the contract's cases over a guest of the lab, through the native binding, procfs and the plugin's counter;
// what a guest has is read inside it through its agent.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { createLibvirtAdapter } from '../../libvirt-adapter/adapter.ts';
import { systemClock } from '../../libvirt-adapter/clock.ts';
import { type DomainDescription, readDomainXml } from '../../libvirt-adapter/domain-xml.ts';
import { openIcountCounter } from '../../libvirt-adapter/icount-counter.ts';
import { Lab } from '../../libvirt-adapter/lab/lab.ts';
import { labUnavailableReason } from '../../libvirt-adapter/lab/requirements.ts';
import { NativeLibvirt } from '../../libvirt-adapter/native/connection.ts';
import { ProcessReadings } from '../../libvirt-adapter/process-readings.ts';
import { MIB } from '../../orchestrator/core/profile.ts';
import type { GuestSample } from '../../orchestrator/core/sample.ts';
import { hypervisorContract } from '../contract/hypervisor-contract.ts';
import { libvirtHarness } from '../contract/libvirt-harness.ts';

const unavailable = labUnavailableReason();
if (unavailable !== undefined) {
  t.plan(0, `the adapter is not tested on a real guest here: ${unavailable}`);
  process.exit(0);
}

/** The cases take 40 s beside a boot of 4 to 10 s; a loaded machine takes three times as long. */
t.setTimeout(180_000);

/** A guest has booted when libvirt knows its agent and its balloon has come to rest. */
async function atRest(read: () => Promise<DomainDescription>, baselineMib: number): Promise<void> {
  for (let i = 0; i < 100; i += 1) {
    const { agent, currentMemoryKib } = await read();
    if (agent === 'connected' && currentMemoryKib === baselineMib * 1024) return;
    await sleep(200);
  }
  throw new Error('the guest did not come to rest within 20 s of its boot');
}

const stateDir = mkdtempSync(join(tmpdir(), 'fs-guest-'));
const lab = await Lab.up({ guests: 1, stateDir, onProgress: (line) => t.comment(line) });
const libvirt = await NativeLibvirt.open(lab.uri);
t.teardown(async () => {
  await libvirt.close();
  await Lab.remove(stateDir);
  rmSync(stateDir, { recursive: true, force: true });
});

const [guest] = lab.guests;
if (guest === undefined) throw new Error('the lab has no guest');

const ref = { uuid: guest.uuid, name: guest.name, id: -1 };
await atRest(async () => readDomainXml(await libvirt.domainXml(ref)), guest.state.baselineMib);

hypervisorContract(
  libvirtHarness(libvirt, {
    readings: new ProcessReadings(),
    ...(guest.icountFile !== undefined && { openCounter: openIcountCounter }),
    guest: guest.uuid,
    memoryBase: guest.state.baselineMib * MIB,
    clock: systemClock,
    settle: (work) => work,
    wait: (ms) => sleep(ms),
    async makeBusy(forMs) {
      const seconds = Math.ceil(forMs / 1000);
      await guest.exec('/bin/sh', '-c', `(timeout ${seconds} sh -c 'while :; do :; done' >/dev/null 2>&1 &)`);
    },
  }),
);

/** Samples of the guest while `during` runs. */
async function sampled(during: (samples: readonly GuestSample[]) => Promise<void>): Promise<GuestSample[]> {
  const adapter = createLibvirtAdapter(libvirt, new ProcessReadings());
  const samples: GuestSample[] = [];
  adapter.telemetry.onSample((sample) => samples.push(sample));
  adapter.telemetry.watch(ref.uuid, 'fast');
  await during(samples);
  await adapter.close();
  return samples;
}

t.test('the daemon dies and returns: the guest lives on, sampling resumes, events come again', async (t) => {
  let backMs = 0;
  const events: string[] = [];
  const pid = guest.pid;
  const samples = await sampled(async () => {
    await sleep(2_500);
    await lab.restartDaemon();
    backMs = Date.now();
    await sleep(4_000);
    libvirt.on('tunable', ({ kind }) => events.push(kind));
    await libvirt.setSchedulerParameters(ref, { global_quota: 60_000n }, { live: true });
    await sleep(500);
    await libvirt.setSchedulerParameters(ref, { global_quota: -1n }, { live: true });
  });
  t.equal(guest.pid, pid, 'the same process');
  const first = samples.find(({ cadence, atMs }) => cadence === 'full' && atMs > backMs);
  t.ok(
    (first?.atMs ?? Number.POSITIVE_INFINITY) - backMs < 2_000,
    `resumed after ${(first?.atMs ?? 0) - backMs} ms`,
  );
  t.ok(events.length > 0, 'events are registered again');
});

t.test('a reboot of the guest: rates of the host stay, nothing negative comes of it', async (t) => {
  const samples = await sampled(async () => {
    await sleep(2_500);
    await libvirt.resetDomain(ref);
    await sleep(4_000);
  });
  const full = samples.filter(({ cadence }) => cadence === 'full');
  t.ok(full.length >= 4, `${full.length} samples`);
  const rates = samples.flatMap(({ usage }) => Object.values(usage));
  t.ok(rates.every((rate) => Number.isFinite(rate) && rate >= 0));
  t.ok((full.at(-1)?.usage.cpuMillicores ?? 0) > 0, 'the booting guest is seen to work');
});
