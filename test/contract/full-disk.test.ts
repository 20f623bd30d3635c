// Goal: a service whose disk fills up goes on giving leases; what it acknowledged stays; recording resumes when there is
// room. Method: a real service, ledger and store on a tmpfs of a few MiB over the fake hypervisor; a filler takes the room.
// It needs root.
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { tableFromIPC } from 'apache-arrow';
import t from 'tap';
import { ForeshadeClient } from '../../integrations/client-node/client.ts';
import { FakeLibvirt } from '../../libvirt-adapter/fake/fake-libvirt.ts';
import { FakeReadings } from '../../libvirt-adapter/fake/fake-readings.ts';
import { parseConfig } from '../../orchestrator/config.ts';
import { ParametricForecaster } from '../../orchestrator/forecast/parametric-forecaster.ts';
import { LmdbLedger } from '../../orchestrator/ledger/lmdb-ledger.ts';
import { serveOn } from '../../orchestrator/main.ts';
import { DiskShadowStore } from '../../orchestrator/store/store.ts';
import { storeOptions } from '../../orchestrator/store-options.ts';
import { LeaseState } from '../../proto/gen/foreshade/v1/allocation.ts';
import { Mode } from '../../proto/gen/foreshade/v1/resources.ts';
import { mountSmallDisk } from '../tmpfs.ts';

const DISK_MIB = 96;
const MIB = 1024 * 1024;
const ask = { timeoutMs: 15_000 };

const { root, path: disk, missing: noDisk } = mountSmallDisk(t, DISK_MIB);

async function startService() {
  const config = parseConfig(
    `state_dir = "${disk}/state"\n[host]\nmode = "enforce"\n[service]\nsocket = "${root}/s.sock"\n[shadow]\nfree_min_mib = 24`,
    'the test',
  );
  const libvirt = new FakeLibvirt({ host: { cpus: 8, memoryKib: 8 * 1024 * 1024 } });
  libvirt.addGuest({ name: 'a', vcpusMax: 4, vcpusPlugged: 1, bootMemoryKib: 2048 * 1024, agent: 'answers' });
  const shadow = DiskShadowStore.open(storeOptions(config));
  const foundation = {
    libvirt,
    readings: new FakeReadings(libvirt),
    forecaster: await ParametricForecaster.create(),
    ledger: LmdbLedger.open(join(config.stateDir, 'ledger')),
    shadow,
  };
  const running = await serveOn(config, foundation, { debug() {}, info() {}, warn() {}, error() {} });
  const client = new ForeshadeClient(config.service.socket);
  const stop = async (): Promise<void> => {
    client.close();
    await running.stop();
    await shadow.close();
    await foundation.ledger.close();
  };
  return { client, stop };
}

/** Leave `freeMib` of the disk, by a file of zeros. @returns a way to give the room back */
function leaveFree(freeMib: number): () => void {
  const { stdout } = spawnSync('df', ['-B1', '--output=avail', disk], { encoding: 'utf8' });
  const bytes = Number(stdout.split('\n')[1]) - freeMib * MIB;
  const filler = join(disk, `filler-${freeMib}`);
  writeFileSync(filler, Buffer.alloc(Math.max(0, bytes)));
  return () => rmSync(filler);
}

t.test('the service answers and leases go on; recording resumes', { skip: noDisk }, async (t) => {
  const { client, stop } = await startService();
  t.teardown(stop);
  const record = async () => (await client.ask(client.admin, client.admin.getStatus, {}, ask)).record;
  const rows = async (): Promise<number> => {
    const sql = 'SELECT count(*)::INTEGER AS n FROM shadow';
    const pieces: Uint8Array[] = [];
    for await (const { arrow } of client.shadow.query({ sql })) pieces.push(arrow);
    return tableFromIPC(Buffer.concat(pieces)).get(0)?.n as number;
  };
  const lease = async (): Promise<number | undefined> => {
    const request = { guest: 'a', workload: 'w', params: {}, ttlMs: 60_000 };
    const { id, state } = await client.ask(client.allocation, client.allocation.allocate, request, ask);
    await client.ask(client.allocation, client.allocation.releaseLease, { leaseId: id }, ask);
    return state;
  };
  await client.ask(client.admin, client.admin.adoptGuest, { guest: 'a', mode: Mode.MODE_ENFORCE }, ask);
  await sleep(2_500);
  t.equal(await lease(), LeaseState.LEASE_STATE_ACTIVE);
  t.match(await record(), { state: 'writing', rowsDropped: 0 });

  const makeRoom = leaveFree(20);
  await sleep(1_500);
  const stalled = await record();
  t.match(stalled, { state: 'stalled', reason: /the last 24 are left to others/ });
  const before = stalled?.rowsWritten ?? 0;
  for (let i = 0; i < 30; i += 1) t.equal(await lease(), LeaseState.LEASE_STATE_ACTIVE, `lease ${i}`);
  t.equal(await rows(), before, 'what was acknowledged is there, and questions are answered');

  makeRoom();
  await sleep(1_500);
  const resumed = await record();
  t.match(resumed, { state: 'writing', rowsDropped: 0 });
  t.ok((resumed?.rowsWritten ?? 0) > before, 'what waited is written');
  t.ok((await rows()) > before);
});
