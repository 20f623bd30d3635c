// A server of the Allocate bench, in a process of its own so that its CPU is its own: `echo`, or `service` over a fake
// hypervisor with its record of samples, in the folder that is named or a new one. Says { address, path } once it serves;
// answers 'begin' and 'end' of a round with its CPU so far, and 'release' once no lease is left. From 'query' or 'compact' on
// until 'rest' the record is questioned, or rewritten, without a pause.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Session } from 'node:inspector/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeLibvirt } from '../../libvirt-adapter/fake/fake-libvirt.ts';
import { FakeReadings } from '../../libvirt-adapter/fake/fake-readings.ts';
import { type Config, defaultConfig } from '../../orchestrator/config.ts';
import { hasEnded } from '../../orchestrator/core/lease.ts';
import { PROFILE_COLUMNS } from '../../orchestrator/core/shadow.ts';
import { ParametricForecaster } from '../../orchestrator/forecast/parametric-forecaster.ts';
import { LmdbLedger } from '../../orchestrator/ledger/lmdb-ledger.ts';
import { serveOn } from '../../orchestrator/main.ts';
import { DiskShadowStore } from '../../orchestrator/store/store.ts';
import { startEcho } from './grpc-cpu.ts';

/** Guests of 1 of 4 vCPUs and 256 MiB of 2 GiB, on a host with room for all of them at their ceilings. */
const MIB_IN_KIB = 1024;
const HOST = { cpus: 8192, memoryKib: 4096 * 1024 * MIB_IN_KIB };
const RELEASES_AT_ONCE = 16;

interface Served {
  readonly address: string;
  readonly path: string;
  release(): Promise<void>;
  readonly shadow?: DiskShadowStore;
}

async function serveEcho(folder: string): Promise<Served> {
  const { target } = await startEcho(join(folder, 'echo.sock'));
  return { ...target, release: async () => {} };
}

async function serveService(folder: string, guests: number): Promise<Served> {
  const libvirt = new FakeLibvirt({ host: HOST });
  for (let i = 0; i < guests; i += 1) {
    libvirt.addGuest({
      name: `guest-${i}`,
      vcpusMax: 4,
      vcpusPlugged: 1,
      bootMemoryKib: 2048 * MIB_IN_KIB,
      balloonKib: 256 * MIB_IN_KIB,
      agent: 'answers',
      onlineDelayMs: 0,
      balloon: { growKibPerS: Number.POSITIVE_INFINITY, shrinkKibPerS: Number.POSITIVE_INFINITY },
    });
  }
  const base = defaultConfig();
  const config: Config = {
    ...base,
    stateDir: folder,
    host: { ...base.host, mode: 'enforce' },
    // Sampling costs by the guest and the second, not by the call: as slow as it goes, so that calls are what is measured.
    telemetry: { ...base.telemetry, fullPeriodMs: 60_000, fastPeriodMs: 10_000, idlePeriodMs: 60_000 },
    service: { ...base.service, socket: join(folder, 'foreshade.sock') },
  };
  const shadow = DiskShadowStore.open({ directory: join(folder, 'shadow') });
  const foundation = {
    libvirt,
    shadow,
    readings: new FakeReadings(libvirt),
    forecaster: await ParametricForecaster.create(),
    ledger: LmdbLedger.open(join(folder, 'ledger')),
  };
  const quiet = { debug() {}, info() {}, warn() {}, error() {} };
  const { engine } = await serveOn(config, foundation, quiet);
  for (let i = 0; i < guests; i += 1) await engine.adopt(`guest-${i}`, 'enforce');
  const release = async (): Promise<void> => {
    const open = engine.listLeases({}).filter(({ state }) => !hasEnded(state));
    const lane = async (): Promise<void> => {
      for (let lease = open.pop(); lease !== undefined; lease = open.pop()) {
        await engine.release(lease.id, { succeeded: true }, { signal: new AbortController().signal });
      }
    };
    await Promise.all(Array.from({ length: RELEASES_AT_ONCE }, lane));
  };
  return {
    address: `unix:${config.service.socket}`,
    path: '/foreshade.v1.AllocationService/Allocate',
    release,
    shadow,
  };
}

/** Quantiles of every guest over all there is: the processor is busy for seconds. */
const HEAVY = `SELECT guest, ${PROFILE_COLUMNS.map((name) => `approx_quantile(${name}, 0.95)`).join(', ')}
  FROM shadow GROUP BY guest`;
/** Rows that are sealed and merged while calls are measured: some seconds of work. */
const COMPACTED_ROWS = 500_000;
/** Appending is not what is measured, but it takes memory until it is written. */
const SLICE_ROWS = 50_000;

/** Keeps the record's own processes busy. */
class Disturbance {
  readonly #shadow: DiskShadowStore;
  #abort = new AbortController();
  #done: Promise<void> = Promise.resolve();

  constructor(shadow: DiskShadowStore) {
    this.#shadow = shadow;
  }

  /** Resolves when the record's process is at work. */
  async begin(kind: 'query' | 'compact'): Promise<void> {
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    if (kind === 'compact') await this.#append();
    const work = kind === 'query' ? this.#ask(signal) : this.#shadow.maintain();
    this.#done = work.catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
  }

  async end(): Promise<void> {
    this.#abort.abort();
    await this.#done;
  }

  async #ask(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) for await (const _ of this.#shadow.query(HEAVY, signal));
  }

  async #append(): Promise<void> {
    const layout = this.#shadow.layout(PROFILE_COLUMNS);
    const context = this.#shadow.context({ guest: 'compacted', host: 'h1', axis: 'seconds' });
    const values = new Float64Array(PROFILE_COLUMNS.length);
    for (let i = 0; i < COMPACTED_ROWS; i += 1) {
      layout.append(context, 1.7e12 + i, 1000, Number.NaN, 0, values.fill(Math.random()));
      if (i % SLICE_ROWS === 0) await this.#shadow.flush();
    }
    await this.#shadow.flush();
  }
}

/** A profile of the last round's calls alone, written to the file that FORESHADE_BENCH_PROFILE names. */
class CallProfile {
  readonly #session = new Session();
  readonly #path: string | undefined;

  constructor(path: string | undefined) {
    this.#path = path;
    if (path !== undefined) this.#session.connect();
  }

  async start(): Promise<void> {
    if (this.#path === undefined) return;
    await this.#session.post('Profiler.enable');
    await this.#session.post('Profiler.setSamplingInterval', { interval: 200 });
    await this.#session.post('Profiler.start');
  }

  async stop(): Promise<void> {
    if (this.#path === undefined) return;
    const { profile } = await this.#session.post('Profiler.stop');
    writeFileSync(this.#path, JSON.stringify(profile));
  }
}

const [, , kind, guests = '0', place] = process.argv;
const profile = new CallProfile(kind === 'service' ? process.env.FORESHADE_BENCH_PROFILE : undefined);
const folder = place ?? mkdtempSync(join(tmpdir(), 'fs-bench-'));
if (place === undefined) process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
const served = kind === 'echo' ? await serveEcho(folder) : await serveService(folder, Number(guests));
const disturbance = served.shadow && new Disturbance(served.shadow);
process.on('message', async (order) => {
  if (order === 'begin') {
    await profile.start();
    process.send?.(process.cpuUsage());
  } else if (order === 'end') {
    const usage = process.cpuUsage();
    await profile.stop();
    process.send?.(usage);
  } else if (order === 'release') {
    await served.release();
    process.send?.('released');
  } else if (order === 'query' || order === 'compact') {
    await disturbance?.begin(order);
    process.send?.('begun');
  } else if (order === 'rest') {
    await disturbance?.end();
    process.send?.('rested');
  } else process.exit(0);
});
process.on('disconnect', () => process.exit(0));
process.send?.({ address: served.address, path: served.path });
