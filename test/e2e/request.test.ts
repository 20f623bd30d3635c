// Goal: one true request travels the whole way on a real guest: forecast, in place before the work starts as read inside the
// guest, corrected when it departs, given back, learned. Method: the demonstration's own stage with one guest, the service behind
// its socket; what the guest has is read through libvirt and its agent, not from the service.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { tableFromIPC } from 'apache-arrow';
import t from 'tap';
import { ClientError } from '../../integrations/client-node/client-error.ts';
import { labUnavailableReason } from '../../libvirt-adapter/lab/requirements.ts';
import { MEMORY_RESERVE_BYTES } from '../../orchestrator/core/needs.ts';
import type { PlannedRun } from '../../orchestrator/demo/plan.ts';
import { type RequestRecord, runRequest, toParams } from '../../orchestrator/demo/request.ts';
import { setStage } from '../../orchestrator/demo/stage.ts';
import { Mode } from '../../proto/gen/foreshade/v1/resources.ts';
import { recordFigure } from '../figures.ts';

const unavailable = labUnavailableReason();
if (unavailable !== undefined) {
  t.plan(0, `no request travels on a real guest here: ${unavailable}`);
  process.exit(0);
}
/** Boot and idle take 15 s, five requests 40; a loaded machine takes three times as long. */
t.setTimeout(240_000);

const MIB = 1024 * 1024;
const stateDir = mkdtempSync(join(tmpdir(), 'fs-request-'));
const stage = await setStage({ stateDir, guests: 1, ablate: false, onProgress: (line) => t.comment(line) });
t.teardown(async () => {
  await stage.close();
  rmSync(stateDir, { recursive: true, force: true });
});
const { client, lab, libvirt } = stage;
const guest = lab.guest('lab-1');
const ref = await libvirt.lookupByName(guest.name);
const run = (input_mib: number, level: number, seed: number): PlannedRun => ({
  params: { input_mib, level, mode: 'balanced' },
  seed,
});

/** Rows of the answer to a question over the record. */
async function rowsOf(sql: string): Promise<Record<string, unknown>[]> {
  const pieces: Uint8Array[] = [];
  for await (const { arrow } of client.shadow.query({ sql })) pieces.push(arrow);
  const rows = tableFromIPC(Buffer.concat(pieces)).toArray();
  return rows.map((row: { toJSON(): Record<string, unknown> }) => row.toJSON());
}

async function heldMib(): Promise<number> {
  return ((await libvirt.memoryStats(ref)).actualBalloonKib ?? Number.NaN) / 1024;
}

t.test('requests are in place before their work, seen inside the guest, and given back', async (t) => {
  const baselineMib = await heldMib();
  const records: RequestRecord[] = [];
  for (const [i, planned] of [run(60, 4, 1), run(140, 6, 2), run(90, 8, 3), run(100, 5, 4)].entries()) {
    const record = await runRequest(client, guest, planned);
    records.push(record);
    const name = `request ${i + 1}`;
    t.equal(record.workload_status, 'done', `${name}: its work was done`);
    t.ok(record.in_place_at < record.workload_started_at, `${name}: in place before the work started`);
    t.ok(
      record.requested_at <= record.in_place_at && record.in_place_at <= record.answered_at,
      `${name}: in order`,
    );
    t.ok(
      (record.guest_seen?.vcpus_online ?? 0) >= (record.granted.vcpu_count ?? 99),
      `${name}: vCPUs online inside`,
    );
    const totalMib = (record.guest_seen?.mem_total_bytes ?? 0) / MIB;
    // The kernel keeps some 43 MiB of what it is given to itself.
    t.ok(totalMib > (record.granted.memory ?? 0) / MIB - 64, `${name}: ${totalMib} MiB inside`);
    t.ok((record.granted.memory ?? 0) >= (record.used.memory ?? 1e18), `${name}: memory was enough`);
    t.ok(record.baseline_restored, `${name}: back at the baseline`);
    t.ok(Math.abs((await heldMib()) - baselineMib) <= 2, `${name}: also as libvirt sees it`);
  }
  const error = (i: number): number => {
    const record = records[i];
    const used = record?.used.memory ?? Number.NaN;
    return Math.abs((record?.predicted.memory?.q50 ?? Number.NaN) - used) / used;
  };
  t.ok(
    error(3) < error(0),
    `the memory forecast improves: off by ${error(0).toFixed(2)}, then ${error(3).toFixed(2)}`,
  );
});

t.test('a run that departs from its parameters is followed, and moves the next forecast', async (t) => {
  const record = await runRequest(client, guest, {
    ...run(95, 9, 5),
    departure: { at_fraction: 0.3, memory_factor: 1.2, cpu_factor: 1.6 },
  });
  const grown = record.adjustments.filter(({ from, to }) => to > from);
  const shrunk = record.adjustments.filter(({ from, to }) => to < from);
  t.comment(JSON.stringify(record.adjustments));
  t.ok(grown.length > 0 || record.used.cpu !== undefined, 'it was watched');
  t.ok(shrunk.length > 0, 'it shrinks once the work is over');
  t.not(
    record.relearned?.after.memory,
    record.relearned?.before.memory,
    'the forecast for these parameters moved',
  );
  t.ok(record.baseline_restored);
});

t.test('what the guest did is on record, under the request that caused it', async (t) => {
  const ask = { timeoutMs: 10_000 };
  const { leases } = await client.ask(
    client.allocation,
    client.allocation.listLeases,
    { guest: guest.name, states: [] },
    ask,
  );
  const lease = leases[0];
  if (guest.icountFile !== undefined) {
    const total = lease?.executedInstructions ?? 0;
    t.ok(total > 1e8, `${total} instructions were executed under the lease`);
    const ofClasses = Object.values(lease?.executedByClass ?? {}).reduce((sum, count) => sum + count, 0);
    t.ok(Math.abs(ofClasses / total - 1) < 0.01, 'the classes make up the total');
  }
  const [found] = await rowsOf("SELECT request_id FROM inputs WHERE name = 'input_mib' AND number = 95");
  t.equal(found?.request_id, lease?.requestId, 'found by a field of its production input');
  const [seen] = await rowsOf(
    `SELECT count(*)::INTEGER AS samples, max(cpu_millicores) AS cpu, max(memory_bytes) AS memory,
       max(granted_memory_bytes) AS granted, sum(instructions_memory) AS loads
     FROM shadow WHERE request_id = '${lease?.requestId}'`,
  );
  t.ok(Number(seen?.samples) > 20, `${seen?.samples} samples of it`);
  t.ok(Number(seen?.cpu) > 500, 'it worked');
  t.ok(Number(seen?.granted) >= Number(seen?.memory), 'within what it was granted');
  if (guest.icountFile !== undefined) t.ok(Number(seen?.loads) > 1e6, 'loads and stores were told apart');
});

t.test('a guest is sampled by what it executes, when told to', async (t) => {
  if (guest.icountFile === undefined) {
    t.pass('this QEMU takes no plugin: nothing is cut');
    return;
  }
  const step = 20_000_000;
  const set = async (instructionStep: number): Promise<void> => {
    const request = { guest: guest.name, sampling: { instructionStep } };
    await client.ask(client.admin, client.admin.setGuestSampling, request, { timeoutMs: 10_000 });
  };
  await set(step);
  const record = await runRequest(client, guest, run(80, 5, 6));
  await set(0);
  t.equal(record.workload_status, 'done');
  const [seen] = await rowsOf(
    `SELECT count(*)::INTEGER AS samples, min(executed) AS least, max(executed) AS most, min(period_ms) AS shortest,
       count(DISTINCT instructions_at)::INTEGER AS places
     FROM (SELECT *, instructions_branch + instructions_memory + instructions_vector + instructions_crypto
         + instructions_system + instructions_other AS executed
       FROM shadow WHERE axis = 'instructions')`,
  );
  t.comment(JSON.stringify(seen));
  t.ok(Number(seen?.samples) > 10, `${seen?.samples} samples on the axis of instructions`);
  t.equal(seen?.places, seen?.samples, 'each further on that axis');
  t.ok(Number(seen?.least) >= 0.99 * step, 'no step is shorter than asked');
  t.ok(Number(seen?.most) <= 1.2 * step, 'nor longer than the cuts of all vCPUs allow');
});

t.test('memory that outgrows its forecast is answered in time', async (t) => {
  const request = {
    tenant: 'demo',
    workload: 'encode',
    guest: guest.name,
    params: toParams(run(60, 4, 7).params),
  };
  const ask = { timeoutMs: 30_000 };
  const lease = await client.ask(client.allocation, client.allocation.allocate, request, ask);
  const grantedMib = await heldMib();
  // At some 5 MiB a second the last twentieth lasts for more than one reading.
  const hog = 'while [ ! -e /stop ]; do head -c 2097152 /dev/zero > /hog/$i; i=$((i+1)); sleep 0.25; done';
  const setUp = 'rm -f /stop; mkdir -p /hog; mount -t tmpfs -o size=90% tmpfs /hog';
  t.equal((await guest.exec('/bin/sh', '-c', `${setUp} && { (i=0; ${hog}) >/dev/null 2>&1 & }`)).exitCode, 0);
  let lowestMib = grantedMib;
  let grownAtMs = Number.NaN;
  const giveUpMs = Date.now() + 40_000;
  while (Number.isNaN(grownAtMs) && Date.now() < giveUpMs) {
    const held = await heldMib();
    if (held > lowestMib + 4) grownAtMs = Date.now();
    else await sleep(50);
    lowestMib = Math.min(lowestMib, held);
  }
  await guest.exec('/bin/sh', '-c', 'touch /stop; sleep 1; umount /hog');
  const released = await client.ask(
    client.allocation,
    client.allocation.releaseLease,
    { leaseId: lease.id },
    ask,
  );
  const [shown] = await rowsOf(
    `SELECT epoch_ms(min(time))::DOUBLE AS at FROM shadow
     WHERE request_id = '${lease.requestId}' AND memory_bytes >= granted_memory_bytes - ${MEMORY_RESERVE_BYTES}`,
  );
  const answeredMs = grownAtMs - Number(shown?.at);
  t.comment(JSON.stringify({ grantedMib, answeredMs, adjustments: released.adjustments }));
  recordFigure({
    bar: 'emergency-answered-ms',
    value: answeredMs,
    limit: '<= 1,500 ms from the first sample that shows it to the first look that finds more memory',
    met: answeredMs <= 1500,
  });
  t.ok(answeredMs <= 1500, `${answeredMs} ms from the sample at its limit to more memory in the guest`);
  t.ok(
    released.adjustments.some(({ resource, from = 0, to = 0 }) => resource === 'memory' && to > from),
    'it is on record as an adjustment',
  );
});

t.test('what is refused is refused precisely, and the guest stays as it is', async (t) => {
  const before = await heldMib();
  const ask = { timeoutMs: 10_000 };
  const request = {
    tenant: 't',
    workload: 'encode',
    guest: guest.name,
    params: toParams(run(60, 4, 1).params),
  };
  for (const { name, change, reason } of [
    { name: 'an unknown guest', change: { guest: 'nobody' }, reason: 'GUEST_NOT_FOUND' },
    {
      name: 'NaN',
      change: { params: { x: { kind: { $case: 'number' as const, number: Number.NaN } } } },
      reason: 'INVALID_REQUEST',
    },
    {
      name: 'a text of a MiB',
      change: { params: { x: { kind: { $case: 'text' as const, text: 'x'.repeat(MIB) } } } },
      reason: 'INVALID_REQUEST',
    },
    { name: 'a time to live of a second', change: { ttlMs: 1000 }, reason: 'INVALID_REQUEST' },
  ]) {
    const answer = client.ask(client.allocation, client.allocation.allocate, { ...request, ...change }, ask);
    const error = await answer.then(
      () => undefined,
      (cause: unknown) => cause,
    );
    t.ok(error instanceof ClientError, `${name}: refused`);
    if (!(error instanceof ClientError)) continue;
    t.equal(error.reason, reason, name);
    const said = [error.message, ...error.violations.map(({ rule }) => rule)].join(' ');
    t.ok(said.length > 20, `${name}: says the rule: ${said.slice(0, 120)}`);
  }
  t.equal(await heldMib(), before);
});

t.test('shadow touches nothing on a real guest', async (t) => {
  const ask = { timeoutMs: 30_000 };
  await client.ask(
    client.admin,
    client.admin.setGuestMode,
    { guest: guest.name, mode: Mode.MODE_SHADOW },
    ask,
  );
  const settings = async (): Promise<unknown> => [
    Math.round(await heldMib()),
    await libvirt.getSchedulerParameters(ref, { live: true }),
    await libvirt.getVcpus(ref, { guest: true }),
    await libvirt.getBlockIoTune(ref, 'vda', { live: true }),
  ];
  const before = await settings();
  const record = await runRequest(client, guest, run(40, 3, 6));
  t.strictSame(await settings(), before);
  t.match(record.granted, { vcpu_count: 1 });
});

t.test('the log holds no error', async (t) => {
  const records = readFileSync(stage.logFile, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { level: number; msg: string });
  t.strictSame(
    records.filter(({ level }) => level >= 50),
    [],
  );
});
