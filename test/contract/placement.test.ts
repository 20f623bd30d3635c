// Goal: PlacementService ranks the hosts that report, over gRPC, JSON and the command line, and refuses what is not sound.
// Method: the real service over an engine double; hosts are registered through ReportHost as a fleet's agents would. The
// service over the real engine reports its own host and foresees a guest from what it learned.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import t from 'tap';
import { ForeshadeClient } from '../../integrations/client-node/client.ts';
import { type HostReport, HostVerdict, type PlacementGoal } from '../../proto/gen/foreshade/v1/placement.ts';
import type { ResourceProfile } from '../../proto/gen/foreshade/v1/resources.ts';
import { runCaptured } from '../run-cli.ts';
import { FAKE_GUEST, FAKE_SERVICE, socketIn } from './fake-service.ts';
import { call, detailsOf, type Fixture, failureOf, startFixture } from './service-fixture.ts';

const GIB = 1024 ** 3;
const room = (cpuMillicores: number | undefined, memoryBytes: number | undefined): ResourceProfile =>
  ({ cpuMillicores, memoryBytes }) as ResourceProfile;

/** A host of 16 cores and 64 GiB whose guests always use a share of it. */
function reportOf(host: string, share: number, changes: Partial<HostReport> = {}): HostReport {
  const cpu = 16_000 * share;
  const memory = 64 * GIB * share;
  return {
    host,
    physical: room(16_000, 64 * GIB),
    capacity: room(16_000, 64 * GIB),
    committed: room(cpu, Math.round(memory)),
    cpu: { mean: cpu, size: cpu },
    memory: { mean: memory, size: memory },
    cpuByHour: [],
    tenantGuests: { acme: 2 },
    guests: 3,
    ...changes,
  };
}

const ASK = { hosts: [], params: {}, ceiling: room(4000, 8 * GIB), tenantGuests: {}, guests: {} };

async function fixtureOf(t: { teardown(fn: () => unknown): void }): Promise<Fixture> {
  const fixture = await startFixture();
  t.teardown(() => fixture.close());
  return fixture;
}

t.test('hosts report, are listed and are ranked', async (t) => {
  const { placement, engine } = await fixtureOf(t);
  for (const [host, share] of [
    ['b', 0.5],
    ['a', 0.1],
    ['c', 0.95],
  ] as const) {
    const answer = await call(placement, placement.reportHost, { report: reportOf(host, share) });
    t.ok((answer.reportAgainMs ?? 0) > 0 && (answer.reportAgainMs ?? 0) < (answer.expiresAfterMs ?? 0));
  }
  const { hosts: listed } = await call(placement, placement.listHosts, {});
  t.strictSame(
    listed.map(({ report }) => report?.host),
    ['a', 'b', 'c'],
  );
  t.match(listed[1]?.report, { guests: 3, tenantGuests: { acme: 2 }, cpu: { mean: 8000 } });

  const all = await call(placement, placement.rankHosts, { ...ASK, workload: 'encode', tenant: 'acme' });
  t.strictSame(
    all.hosts.map(({ host }) => host),
    ['a', 'b', 'c'],
  );
  t.match(engine.calls.at(-1)?.args[0], { workload: 'encode', tenant: 'acme', priority: 'normal' });
  t.match(all.demand, { peak: { cpuMillicores: 2000 }, runs: 14 });
  // The new guest may use its whole ceiling, whatever is expected of it.
  t.match(all.hosts[0], {
    verdict: HostVerdict.HOST_VERDICT_PASS,
    outlook: { tail: { cpuMillicores: 1600 + 4000 }, tenantSpread: 1 / 3 },
  });
  t.match(all.hosts[2], { verdict: HostVerdict.HOST_VERDICT_VETO, score: 0, reasons: [/short of cpu/] });

  const some = await call(placement, placement.rankHosts, {
    ...ASK,
    tenant: 'acme',
    hosts: ['z', 'b', 'a'],
    tenantGuests: { b: 0, a: 9 },
  });
  t.strictSame(some.hosts.map(({ host }) => host).sort(), ['a', 'b', 'z'], 'those asked for, and no other');
  t.match(
    some.hosts.find(({ host }) => host === 'z'),
    { outlook: undefined, reasons: [/^unknown/] },
  );
  const since = await call(placement, placement.rankHosts, {
    ...ASK,
    guests: { a: 8, b: 3, z: 9 },
    hosts: ['a', 'b'],
  });
  t.strictSame(
    since.hosts.map(({ host, outlook }) => `${host} ${outlook?.placedSince}`),
    ['b 0', 'a 5'],
    'a has five guests that its report does not count, so b comes first',
  );
  t.match(
    some.hosts.find(({ host }) => host === 'b'),
    { outlook: { tenantSpread: 1 } },
    'the caller knows better',
  );
});

t.test('what is not sound is refused, all of it at once', async (t) => {
  const { placement } = await fixtureOf(t);
  const failure = await failureOf(
    call(placement, placement.rankHosts, {
      ...ASK,
      ceiling: { ...room(0, undefined), vcpuCount: 2 },
      hosts: ['a', '', 'a'],
      goal: 9 as PlacementGoal,
    }),
  );
  t.equal(failure.code, status.INVALID_ARGUMENT);
  const { fieldViolations } = detailsOf(failure).BadRequest as { fieldViolations: { field: string }[] };
  t.strictSame(
    fieldViolations.map(({ field }) => field),
    ['ceiling.vcpu_count', 'ceiling.cpu_millicores', 'ceiling.memory_bytes', 'hosts', 'hosts', 'goal'],
  );
  const names = Array.from({ length: 1001 }, (_, i) => `h${i}`);
  t.match(await failureOf(call(placement, placement.rankHosts, { ...ASK, hosts: names })), /at most 1,000/);
  for (const { name, changes } of [
    { name: 'no name', changes: { host: '' } },
    { name: 'a NaN', changes: { cpu: { mean: Number.NaN } } },
    { name: 'a negative', changes: { memory: { mean: -1 } } },
    { name: 'an infinity', changes: { cpuByHour: Array(24).fill(Number.POSITIVE_INFINITY) } },
    { name: '23 hours', changes: { cpuByHour: Array(23).fill(1) } },
    { name: 'more mean than size', changes: { cpu: { mean: 2, size: 1 } } },
    { name: 'squares that no rises have', changes: { cpu: { rise: 2, riseSquares: 5, size: 9 } } },
    { name: 'no capacity', changes: { capacity: undefined } },
    { name: 'too much', changes: { physical: room(1e300, 1) } },
  ] as { name: string; changes: Partial<HostReport> }[]) {
    const refused = await failureOf(
      call(placement, placement.reportHost, { report: reportOf('h', 0.5, changes) }),
    );
    t.equal(refused.code, status.INVALID_ARGUMENT, name);
  }
  t.equal(
    (await failureOf(call(placement, placement.reportHost, { report: undefined }))).code,
    status.INVALID_ARGUMENT,
  );
  t.strictSame((await call(placement, placement.listHosts, {})).hosts, [], 'nothing of it was kept');
});

t.test('300 hosts in one call over JSON', async (t) => {
  const { placement, config } = await fixtureOf(t);
  const hosts = Array.from({ length: 300 }, (_, i) => `node-${i}`);
  const hours = Array.from({ length: 24 }, (_, hour) => 100 + hour);
  for (const [i, host] of hosts.entries())
    await call(placement, placement.reportHost, {
      report: reportOf(host, (i % 90) / 100, { cpuByHour: hours }),
    });
  const body = JSON.stringify({
    hosts,
    ceiling: { cpu_millicores: 2000, memory_bytes: String(GIB) },
    workload: 'w',
  });
  const ask = (): Promise<{ hosts: { host: string; score: number; verdict: string }[] }> =>
    new Promise((resolve, reject) => {
      const request = httpRequest(
        {
          socketPath: config.service.httpSocket,
          path: '/foreshade.v1.PlacementService/RankHosts',
          method: 'POST',
          headers: { 'content-type': 'application/json' },
        },
        async (response) => {
          const chunks: Buffer[] = [];
          for await (const chunk of response) chunks.push(chunk as Buffer);
          resolve(JSON.parse(Buffer.concat(chunks).toString()));
        },
      );
      request.on('error', reject);
      request.end(body);
    });
  const times: number[] = [];
  for (let i = 0; i < 30; i += 1) {
    const begunMs = performance.now();
    const answer = await ask();
    times.push(performance.now() - begunMs);
    if (i === 0) {
      t.equal(answer.hosts.length, 300);
      t.match(answer.hosts[0], { verdict: 'HOST_VERDICT_PASS' });
      t.ok(answer.hosts.every(({ score = 0 }) => score >= 0 && score <= 1));
    }
  }
  times.sort((a, b) => a - b);
  t.comment(`300 hosts, JSON over a unix socket: median ${times[15]?.toFixed(1)} ms`);
});

t.test('foreshade host', async (t) => {
  const { placement, config } = await fixtureOf(t);
  const run = (...args: string[]) => runCaptured(args, { env: { FORESHADE_SOCKET: config.service.socket } });
  t.match(await run('host', 'list'), { code: 0, out: 'no host has reported\n' });
  t.match(await run('host', 'rank', '--cpu', '4', '--memory', '8GiB'), { code: 0, out: /no host reports/ });
  await call(placement, placement.reportHost, { report: reportOf('node-1', 0.25) });
  await call(placement, placement.reportHost, { report: reportOf('node-2', 1, { draining: true }) });
  t.match(
    (await run('host', 'list')).out,
    /^node-1 +reports .* 3 +4\.00 cores of 16\.00 cores +16 GiB of 64 GiB/m,
  );
  t.match((await run('host', 'list')).out, /^node-2 +draining/m);
  const ranked = await run(
    'host',
    'rank',
    '--cpu',
    '4',
    '--memory',
    '8GiB',
    '--goal',
    'pack',
    'node-1',
    'node-2',
  );
  t.match(ranked.out, /^promised +2\.00 cores, 4,096 MiB$/m);
  t.match(ranked.out, /^node-1 +0\.\d{3} +/m);
  t.match(ranked.out, /^node-2 +VETO +it drains/m);
  const json = JSON.parse((await run('host', 'rank', '--cpu', '4', '--memory', '8GiB', '--json')).out);
  t.match(json, { demand: { runs: 14 }, hosts: [{ host: 'node-1', verdict: 'pass' }, { verdict: 'veto' }] });
  t.match(JSON.parse((await run('host', 'list', '--json')).out), {
    hosts: [{ host: 'node-1', silent: false }, {}],
  });
  t.equal((await run('host', 'rank', '--cpu', 'many', '--memory', '8GiB')).code, 2);
});

t.test('a service reports its own host, and foresees a guest from what it learned', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'foreshade-placement-'));
  const service = spawn(process.execPath, [FAKE_SERVICE, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
  const client = new ForeshadeClient(socketIn(folder));
  t.teardown(() => {
    client.close();
    service.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });
  await once(service.stdout, 'data');
  const { hosts } = await client.ask(client.placement, client.placement.listHosts, {});
  t.match(hosts, [{ report: { guests: 1, physical: { cpuMillicores: 7500 } }, silent: false }]);
  const ask = { ...ASK, ceiling: room(2000, GIB), workload: 'encode', params: {} };
  const cold = await client.ask(client.placement, client.placement.rankHosts, ask);
  t.match(cold.demand, {
    peak: { cpuMillicores: 2000, memoryBytes: GIB },
    reason: /no run of this workload/,
  });
  t.match(cold.hosts, [{ host: hosts[0]?.report?.host, verdict: HostVerdict.HOST_VERDICT_PASS }]);
  const large = await client.ask(client.placement, client.placement.rankHosts, {
    ...ask,
    ceiling: room(9000, GIB),
  });
  t.match(large.hosts, [{ verdict: HostVerdict.HOST_VERDICT_VETO, reasons: [/short of cpu/] }]);

  // Two minutes of work by night, ten times, that use what they were given: then such a guest is known.
  for (let run = 0; run < 10; run += 1) {
    const lease = await client.ask(client.allocation, client.allocation.allocate, {
      guest: FAKE_GUEST,
      workload: 'encode',
      params: {},
    });
    await client.ask(client.allocation, client.allocation.releaseLease, {
      leaseId: lease.id,
      workStartedAtMs: Date.UTC(2026, 0, 1 + run, 2),
      workFinishedAtMs: Date.UTC(2026, 0, 1 + run, 3),
    });
  }
  const warm = await client.ask(client.placement, client.placement.rankHosts, ask);
  t.equal(warm.demand?.runs, 10);
  t.match(warm.demand?.reason, /^parameters of 10 runs/);
  t.ok((warm.demand?.peak?.memoryBytes ?? 0) > 0 && (warm.demand?.peak?.memoryBytes ?? 0) <= GIB);
  const { cpuByHour = [] } = warm.demand ?? {};
  t.ok((cpuByHour[2] ?? 0) > 0 && cpuByHour.every((value, hour) => hour === 2 || value === 0), 'by night');
  t.type(warm.hosts[0]?.outlook?.complement, 'number');
  const single = await client.ask(client.placement, client.placement.rankHosts, {
    ...ask,
    startMs: Math.ceil(Date.now() / 86_400_000) * 86_400_000 + 5 * 3_600_000,
    durationMs: 3_600_000,
  });
  t.ok(
    (single.demand?.cpuByHour[5] ?? 0) > 0 && single.demand?.cpuByHour[2] === 0,
    'one run has its own hours',
  );
});

t.test('hosts of a fleet report to one service, and again after it was gone', async (t) => {
  const folders = ['central', 'other'].map((name) => mkdtempSync(join(tmpdir(), `foreshade-${name}-`)));
  const [central = '', other = ''] = folders;
  const running: ChildProcess[] = [];
  const serve = async (...args: string[]): Promise<ChildProcess> => {
    const child = spawn(process.execPath, [FAKE_SERVICE, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    running.push(child);
    await once(child.stdout as Readable, 'data');
    return child;
  };
  const client = new ForeshadeClient(socketIn(central));
  t.teardown(() => {
    client.close();
    for (const child of running) child.kill('SIGKILL');
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });
  const hosts = async (): Promise<string> => {
    const answer = await client.ask(client.placement, client.placement.listHosts, {});
    return answer.hosts.map(({ report, silent }) => `${report?.host}${silent ? ' silent' : ''}`).join(' ');
  };
  const first = await serve(central, 'node-1');
  await serve(other, 'node-2', socketIn(central));
  t.equal(await hosts(), 'node-1 node-2', 'at its start already');
  first.kill('SIGKILL');
  await once(first, 'exit');
  await serve(central, 'node-1');
  for (let tries = 0; tries < 300 && (await hosts()) !== 'node-1 node-2'; tries += 1) await sleep(100);
  t.equal(await hosts(), 'node-1 node-2');
});
