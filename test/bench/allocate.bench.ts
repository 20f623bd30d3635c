// Server CPU of a true Allocate (forecast, admission, durable journal, moves, answer) over a fake hypervisor and a real
// ledger, beside a bare @grpc/grpc-js echo of the same message, in interleaved rounds from one client process with 16 calls
// in flight. CPU is user + system of the server's process, all threads. Every call has a request_id of its own; releases
// happen between rounds and are not measured. A service samples its guests whether it is called or not: that idle CPU, with the
// round's leases in force, is measured after each round and taken off; the figures with it are printed too. Prints one JSON document.
import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { AllocateRequest } from '../../proto/gen/foreshade/v1/allocation.ts';
import { recordFigure } from '../figures.ts';
import type { LoadOrder, LoadReport } from './grpc-load.ts';

const GUEST_COUNTS = (process.env.FORESHADE_BENCH_GUESTS ?? '100,1000').split(',').map(Number);
const ROUNDS = Number(process.env.FORESHADE_BENCH_ROUNDS ?? 5);
const CALLS = Number(process.env.FORESHADE_BENCH_CALLS ?? 2000);
/** As many calls again before measuring: enough for the compiler to have settled. */
const WARM_UP_CALLS = CALLS;
const IN_FLIGHT = 16;
const IDLE_MS = 2_000;
const RATIO_MAX = 3;

const program = (name: string): string => fileURLToPath(new URL(`./${name}.js`, import.meta.url));

interface Server {
  readonly process: ChildProcess;
  readonly address: string;
  readonly path: string;
}

interface Round {
  readonly cpuUs: number;
  /** Idle CPU taken off. */
  readonly netCpuUs: number;
  readonly callsPerS: number;
}

async function ask<T>(child: ChildProcess, order: unknown): Promise<T> {
  const answer = once(child, 'message');
  child.send(order as string);
  return (await answer)[0] as T;
}

async function start(kind: string, guests: number): Promise<Server> {
  const execArgv =
    kind === 'service' ? (process.env.FORESHADE_BENCH_NODE ?? '').split(' ').filter(Boolean) : [];
  const child = fork(program('allocate-server'), [kind, String(guests)], { execArgv });
  const [served] = (await once(child, 'message')) as [{ address: string; path: string }];
  return { process: child, ...served };
}

/** An ordinary request: three parameters, a priority and a time to live. */
function request(guest: number): string {
  const message = AllocateRequest.encode({
    requestId: randomUUID(),
    tenant: 'acme',
    workload: 'encode',
    guest: `guest-${guest}`,
    params: {
      input_mib: { kind: { $case: 'number', number: 64 } },
      level: { kind: { $case: 'number', number: 9 } },
      mode: { kind: { $case: 'category', category: 'fast' } },
    },
    priority: 2,
    ttlMs: 600_000,
  }).finish();
  return Buffer.from(message).toString('base64');
}

async function cpuUsOf(server: Server): Promise<number> {
  const { user, system } = await ask<NodeJS.CpuUsage>(server.process, 'usage');
  return user + system;
}

async function round(client: ChildProcess, server: Server, guests: number, calls: number): Promise<Round> {
  const requests = Array.from({ length: calls }, (_, i) => request(i % guests));
  const { address, path } = server;
  const order: LoadOrder = { address, path, requests, calls, inFlight: IN_FLIGHT };
  const before = await cpuUsOf(server);
  const { seconds, failed } = await ask<LoadReport>(client, order);
  const usedUs = (await cpuUsOf(server)) - before;
  if (failed > 0) throw new Error(`${failed} of ${calls} calls failed`);
  // With its leases in force, since a guest that has one is sampled faster.
  const idleFrom = await cpuUsOf(server);
  await sleep(IDLE_MS);
  const idleUs = (((await cpuUsOf(server)) - idleFrom) / IDLE_MS) * seconds * 1000;
  await ask(server.process, 'release');
  return { cpuUs: usedUs / calls, netCpuUs: (usedUs - idleUs) / calls, callsPerS: calls / seconds };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

async function compare(client: ChildProcess, guests: number) {
  const servers = { echo: await start('echo', 0), allocate: await start('service', guests) };
  try {
    const rounds: { readonly echo: Round; readonly allocate: Round }[] = [];
    await round(client, servers.echo, guests, WARM_UP_CALLS);
    await round(client, servers.allocate, guests, WARM_UP_CALLS);
    for (let i = 0; i < ROUNDS; i += 1) {
      rounds.push({
        echo: await round(client, servers.echo, guests, CALLS),
        allocate: await round(client, servers.allocate, guests, CALLS),
      });
    }
    const ratio = median(rounds.map(({ echo, allocate }) => allocate.netCpuUs / echo.netCpuUs));
    const grossRatio = median(rounds.map(({ echo, allocate }) => allocate.cpuUs / echo.cpuUs));
    recordFigure({
      bar: `allocate-cpu-over-echo-${guests}-guests`,
      value: Number(ratio.toFixed(2)),
      limit: `at most ${RATIO_MAX} times the server CPU of a bare gRPC echo, idle CPU taken off`,
      met: ratio <= RATIO_MAX,
    });
    return { guests, ratio, grossRatio, rounds };
  } finally {
    for (const { process } of Object.values(servers)) {
      const ended = once(process, 'exit');
      process.send('stop');
      await ended;
    }
  }
}

const client = fork(program('grpc-load'));
const results: Awaited<ReturnType<typeof compare>>[] = [];
for (const guests of GUEST_COUNTS) results.push(await compare(client, guests));
client.kill();
process.stdout.write(`${JSON.stringify({ calls: CALLS, inFlight: IN_FLIGHT, results }, null, 2)}\n`);
