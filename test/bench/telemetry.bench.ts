/**
 * Goal: what keeping the shadow costs a host: packed statistics of 1,000 guests, 88 parameters each, made into samples and
 * written to the log, once a second.
 * Method: the addon over the shim, the sampler, the recorder and the store of the service, on a real disk, for
 * FORESHADE_BENCH_SECONDS after a warm-up. CPU is user + system of the whole process less what the shim itself took; the
 * event loop's delay and the resident memory are those of the same time. The host's own readings are constants: procfs is
 * read where guests are. A fixed piece of work and a bare fdatasync are timed beside it. Prints one JSON document.
 */
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { DomainCatalog } from '../../libvirt-adapter/domain-catalog.ts';
import type { HostReadings } from '../../libvirt-adapter/host-readings.ts';
import { NativeLibvirt } from '../../libvirt-adapter/native/connection.ts';
import { LibvirtTelemetry } from '../../libvirt-adapter/telemetry.ts';
import { LeaseBook } from '../../orchestrator/engine/lease-book.ts';
import { ManagedGuest } from '../../orchestrator/engine/managed-guest.ts';
import { Recorder } from '../../orchestrator/engine/recorder.ts';
import { DiskShadowStore } from '../../orchestrator/store/store.ts';
import { recordFigure } from '../figures.ts';
import { addonUnavailableReason, buildShim } from './libvirt-shim.ts';

const GUESTS = 1_000;
const SECONDS = Number(process.env.FORESHADE_BENCH_SECONDS ?? 60);
/** The compiler, the buffers and the heap's size have settled by then. */
const WARM_UP_S = 60;
/** The best of so many stretches counts for what other programs disturb. */
const STRETCHES = 5;
const DELAY_RESOLUTION_MS = 5;
const MIB = 1024 * 1024;
const CPU_FRACTION_MAX = 0.12;
const DELAY_P99_MS_MAX = 15;
const GROWTH_MIB_MAX = 20;

const HOST: HostReadings = {
  open: async () => ({ read: () => ({ cpuNs: 0, vcpus: [] }), pressure: () => undefined, close() {} }),
};

/** A guest as the engine knows it, without an engine. */
function managed(id: string): ManagedGuest {
  const entitlement = { cpuMillicores: 4000, vcpuCount: 4, memoryBytes: 2048 * MIB };
  const able = { cpuQuota: true, vcpuPlug: true, vcpuUnplug: true, agent: false, balloon: true };
  return new ManagedGuest(
    {
      id,
      name: id,
      mode: 'shadow',
      adoptedAtMs: 0,
      baseline: { entitlement, cpuLimited: false },
      relinquished: [],
      known: [entitlement],
      moving: false,
    },
    {
      id,
      name: id,
      state: 'running',
      entitlement,
      ceiling: entitlement,
      capabilities: { ...able, virtioMem: false, diskLimits: true, netLimits: false },
      vcpusPlugged: 4,
      cpuLimited: false,
    },
  );
}

/** A fixed piece of work, ms: how fast the machine is at this moment. */
function calibrationMs(): number {
  const started = performance.now();
  let x = 1;
  for (let i = 0; i < 20_000_000; i += 1) x = (x * 1_103_515_245 + 12_345) | 0;
  if (x === 0) throw new Error('the generator never gives 0 here');
  return performance.now() - started;
}

/** One write of 64 KiB and its sync, ms, median of 20. */
function syncMs(folder: string): number {
  const file = openSync(join(folder, 'sync'), 'w');
  const block = Buffer.alloc(64 * 1024, 1);
  const times = Array.from({ length: 20 }, () => {
    const started = performance.now();
    writeSync(file, block);
    fdatasyncSync(file);
    return performance.now() - started;
  });
  closeSync(file);
  return median(times);
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

async function measure(shim: string, folder: string) {
  const libvirt = await NativeLibvirt.open(`shim:///${GUESTS}/guests`, { library: { libvirt: shim } });
  const store = DiskShadowStore.open({ directory: join(folder, 'shadow') });
  const telemetry = new LibvirtTelemetry(libvirt, new DomainCatalog(libvirt), HOST);
  const log = { debug() {}, info() {}, warn() {}, error() {} };
  const recorder = new Recorder({ shadow: store, leases: new LeaseBook(), hostName: () => 'host', log });
  const guests = new Map<string, ManagedGuest>();
  for (const { uuid } of await libvirt.listDomains()) {
    guests.set(uuid, managed(uuid));
    telemetry.watch(uuid, 'full');
  }
  telemetry.onSample((sample) => {
    const guest = guests.get(sample.guest);
    if (guest !== undefined) recorder.sample(sample, guest);
  });
  const first = await libvirt.lookupByName('guest-0');
  const shimMs = async () => Number(await libvirt.qemuMonitorCommand(first, 'shim-total')) / 1e6;
  const rssMib = async (): Promise<number> => {
    const values: number[] = [];
    for (let i = 0; i < 10; i += 1) {
      await sleep(1000);
      values.push(process.memoryUsage.rss() / MIB);
    }
    return median(values);
  };

  await sleep((WARM_UP_S - 10) * 1000);
  const rssBefore = await rssMib();
  const stretches: { cpuFraction: number; delayP99Ms: number; calibrationMs: number }[] = [];
  const rowsBefore = store.status.acknowledged;
  const began = performance.now();
  for (let i = 0; i < STRETCHES; i += 1) {
    const calibration = calibrationMs();
    const delay = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS });
    const [cpu, shimBefore, at] = [process.cpuUsage(), await shimMs(), performance.now()];
    delay.enable();
    await sleep((SECONDS * 1000) / STRETCHES);
    delay.disable();
    const { user, system } = process.cpuUsage(cpu);
    const ours = (user + system) / 1000 - ((await shimMs()) - shimBefore);
    stretches.push({
      cpuFraction: ours / (performance.now() - at),
      delayP99Ms: Math.max(0, delay.percentile(99) / 1e6 - DELAY_RESOLUTION_MS),
      calibrationMs: calibration,
    });
  }
  const seconds = (performance.now() - began) / 1000;
  await store.flush();
  const rowsPerS = (store.status.acknowledged - rowsBefore) / seconds;
  const growthMib = (await rssMib()) - rssBefore;
  await telemetry.close();
  await store.close();
  await libvirt.close();
  return { rowsPerS, dropped: store.status.dropped, rssBeforeMib: rssBefore, growthMib, stretches };
}

const unbuilt = addonUnavailableReason();
const shim = unbuilt ?? buildShim();
if (typeof shim === 'string') {
  process.stderr.write(`telemetry skipped: ${shim}\n`);
  process.stdout.write(`${JSON.stringify({ bench: 'telemetry', skipped: shim })}\n`);
} else {
  const folder = mkdtempSync(join(tmpdir(), 'fs-telemetry-'));
  try {
    const measured = await measure(shim.path, folder);
    const { stretches, rowsPerS, growthMib } = measured;
    const cpuFraction = Math.min(...stretches.map((stretch) => stretch.cpuFraction));
    const delayP99Ms = Math.min(...stretches.map((stretch) => stretch.delayP99Ms));
    const figures = [
      { bar: 'telemetry-cpu-fraction', value: cpuFraction, max: CPU_FRACTION_MAX, of: 'of one core' },
      { bar: 'telemetry-event-loop-p99-ms', value: delayP99Ms, max: DELAY_P99_MS_MAX, of: 'ms' },
      { bar: 'telemetry-rss-growth-mib', value: growthMib, max: GROWTH_MIB_MAX, of: `MiB in ${SECONDS} s` },
    ];
    for (const { bar, value, max, of } of figures)
      recordFigure({
        bar,
        value: Number(value.toFixed(3)),
        limit: `at most ${max} ${of}`,
        met: value <= max,
      });
    const document = {
      bench: 'telemetry',
      guests: GUESTS,
      seconds: SECONDS,
      rowsPerS,
      cpuFraction,
      delayP99Ms,
    };
    process.stdout.write(`${JSON.stringify({ ...document, ...measured, syncMs: syncMs(folder) })}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
    shim.remove();
  }
}
