// Goal: every client that the documentation names takes a lease on a real guest, renews it and gives it back. Method: one
// guest of the lab, `foreshade serve` in a process of its own, and one after another the Node client, the Python one, curl
// as documented, and a client that knows the contract by reflection alone; what the guest has is asked of libvirt.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { Lab } from '../../libvirt-adapter/lab/lab.ts';
import { labUnavailableReason } from '../../libvirt-adapter/lab/requirements.ts';
import { labServiceConfig } from '../../libvirt-adapter/lab/service-config.ts';
import { LeaseState } from '../../proto/gen/foreshade/v1/allocation.ts';
import { Mode } from '../../proto/gen/foreshade/v1/resources.ts';
import { PYTHON, pythonClientEnv, pythonClientUnavailableReason } from '../python-client.ts';
import { ReflectionClient } from '../reflection-client.ts';
import { readSizes, sameSize } from './guest-sizes.ts';
import { ServiceProcess } from './service-process.ts';

const unavailable = labUnavailableReason();
if (unavailable !== undefined) {
  t.plan(0, `no client meets a real guest here: ${unavailable}`);
  process.exit(0);
}
/** The lab takes 10 s and each client 1 to 3; a loaded machine takes several times as long. */
t.setTimeout(180_000);

const run = promisify(execFile);
const GUEST = 'lab-1';
const ALLOCATION = 'foreshade.v1.AllocationService';
const folder = mkdtempSync(join(tmpdir(), 'fs-clients-'));
const place = {
  config: join(folder, 'foreshade.toml'),
  socket: join(folder, 'foreshade.sock'),
  log: join(folder, 'service.log'),
};
const lab = await Lab.up({
  guests: 1,
  guest: { memoryMib: 224, baselineMib: 128, virtioMemMib: 0, maxVcpus: 2, icount: false },
  stateDir: join(folder, 'lab'),
  onProgress: (line) => t.comment(line),
});
let service: ServiceProcess | undefined;
t.teardown(async () => {
  await service?.kill();
  await lab.down();
  rmSync(folder, { recursive: true, force: true });
});
const own = `state_dir = ${JSON.stringify(join(folder, 'state'))}
[service]
socket = ${JSON.stringify(place.socket)}
[host]
mode = "enforce"
`;
writeFileSync(place.config, own + labServiceConfig(lab.uri));
service = await ServiceProcess.start(place);
const { client } = service;
await client.ask(client.admin, client.admin.adoptGuest, { guest: GUEST, mode: Mode.MODE_ENFORCE });
const baseline = await readSizes(lab.uri, GUEST);

/** What each client's lease was, once the client is done, and the guest after it. */
async function judge(t: Test, leaseId: string): Promise<void> {
  const lease = await client.ask(client.allocation, client.allocation.getLease, { leaseId });
  t.equal(lease.state, LeaseState.LEASE_STATE_RELEASED);
  t.ok((lease.inPlaceAtMs ?? 0) > 0, 'it was in place');
  t.ok((lease.granted?.memoryBytes ?? 0) > 0, 'with what was granted');
  t.ok(
    (lease.expiresAtMs ?? 0) > (lease.startMs ?? 0) + (lease.ttlMs ?? 0),
    'and renewed: it would have lived longer than at first',
  );
  const after = await readSizes(lab.uri, GUEST);
  for (const field of ['cpuMillicores', 'memoryBytes'] as const)
    t.ok(sameSize(field, after[field], baseline[field]), `${field} is back: ${after[field]}`);
}

t.test('Node', async (t) => {
  const held = await client.hold({ guest: GUEST, workload: 'node' });
  await held.inPlace();
  t.ok((await readSizes(lab.uri, GUEST)).memoryBytes > baseline.memoryBytes, 'libvirt has given it memory');
  await held.renew();
  await held.release();
  await judge(t, held.lease.id ?? '');
});

const noPython = pythonClientUnavailableReason();
t.test('Python', { skip: noPython ?? false }, async (t) => {
  const program = `
import sys
from foreshade.client import Client
with Client(sys.argv[1]) as client, client.lease(sys.argv[2], 'python', {'rows': 7}) as held:
    held.renew()
print(held.lease.id)
`;
  const env = pythonClientEnv(join(folder, 'python'));
  const { stdout } = await run(PYTHON, ['-c', program, place.socket, GUEST], { env });
  await judge(t, stdout.trim());
});

t.test('curl', async (t) => {
  const socket = join(folder, 'foreshade.http.sock');
  const call = async (method: string, body: object): Promise<{ id: string }> => {
    const { stdout } = await run('curl', [
      ...['-sS', '--fail-with-body', '--unix-socket', socket, '-H', 'content-type: application/json'],
      ...['-d', JSON.stringify(body), `http://localhost/${ALLOCATION}/${method}`],
    ]);
    return JSON.parse(stdout);
  };
  const { id } = await call('Allocate', { guest: GUEST, workload: 'curl', params: { rows: { number: 7 } } });
  await call('RenewLease', { lease_id: id });
  await call('ReleaseLease', { lease_id: id });
  await judge(t, id);
});

t.test('reflection', async (t) => {
  const generic = await ReflectionClient.of(`unix:${place.socket}`, ALLOCATION);
  const { id = '' } = await generic.call(ALLOCATION, 'Allocate', { guest: GUEST, workload: 'reflection' });
  await generic.call(ALLOCATION, 'RenewLease', { leaseId: id });
  await generic.call(ALLOCATION, 'ReleaseLease', { leaseId: id });
  await judge(t, String(id));
});
