// Server CPU of a true Allocate (forecast, admission, durable journal, moves, answer) over a fake hypervisor and a real
// ledger, beside a bare @grpc/grpc-js echo of the same message, in interleaved rounds from one client process with 16 calls
// in flight. CPU is user + system of the server's process, all threads, the fake hypervisor's own work included. A round asks once
// for each guest, every call with a request_id of its own; releases happen between rounds and are not measured. Sampling is a
// cost by the guest and the second, and set as slow as it goes. Prints one JSON document.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { recordFigure } from '../figures.ts';
import { allocateRequest, ask, start, stop } from './allocate-load.ts';
import type { LoadOrder, LoadReport } from './grpc-load.ts';

const GUESTS = Number(process.env.FORESHADE_BENCH_GUESTS ?? 1000);
const ROUNDS = Number(process.env.FORESHADE_BENCH_ROUNDS ?? 5);
/** Rounds before measuring: the compiler goes on optimizing for some 10,000 calls, and as many ended leases fill their book. */
const WARM_UP_ROUNDS = 12;
const IN_FLIGHT = 16;
const RATIO_MAX = 3;

interface Server {
  readonly process: ChildProcess;
  readonly address: string;
  readonly path: string;
}

interface Round {
  readonly cpuUs: number;
  readonly callsPerS: number;
}

async function startServer(kind: string, guests: number): Promise<Server> {
  const child = start('allocate-server', [kind, String(guests)]);
  const [served] = (await once(child, 'message')) as [{ address: string; path: string }];
  return { process: child, ...served };
}

async function cpuUsAt(server: Server, moment: 'begin' | 'end'): Promise<number> {
  const { user, system } = await ask<NodeJS.CpuUsage>(server.process, moment);
  return user + system;
}

async function round(client: ChildProcess, server: Server): Promise<Round> {
  const requests = Array.from({ length: GUESTS }, (_, i) => allocateRequest(i));
  const { address, path } = server;
  const order: LoadOrder = { address, path, requests, calls: GUESTS, inFlight: IN_FLIGHT };
  const before = await cpuUsAt(server, 'begin');
  const { seconds, failed } = await ask<LoadReport>(client, order);
  const usedUs = (await cpuUsAt(server, 'end')) - before;
  if (failed > 0) throw new Error(`${failed} of ${GUESTS} calls failed`);
  await ask(server.process, 'release');
  return { cpuUs: usedUs / GUESTS, callsPerS: GUESTS / seconds };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

async function compare(client: ChildProcess) {
  const servers = { echo: await startServer('echo', 0), allocate: await startServer('service', GUESTS) };
  try {
    const rounds: { readonly echo: Round; readonly allocate: Round }[] = [];
    for (let i = -WARM_UP_ROUNDS; i < ROUNDS; i += 1) {
      const measured = {
        echo: await round(client, servers.echo),
        allocate: await round(client, servers.allocate),
      };
      if (i >= 0) rounds.push(measured);
    }
    const ratio = median(rounds.map(({ echo, allocate }) => allocate.cpuUs / echo.cpuUs));
    recordFigure({
      bar: 'allocate-cpu-over-echo',
      value: Number(ratio.toFixed(2)),
      limit: `at most ${RATIO_MAX} times the server CPU of a bare gRPC echo`,
      met: ratio <= RATIO_MAX,
    });
    return { guests: GUESTS, inFlight: IN_FLIGHT, ratio, rounds };
  } finally {
    for (const { process } of Object.values(servers)) await stop(process);
  }
}

const client = start('grpc-load');
const result = await compare(client);
client.kill();
process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
