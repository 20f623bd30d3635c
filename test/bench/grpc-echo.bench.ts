// Server CPU of Allocate over an engine that does nothing, beside a bare @grpc/grpc-js echo of the same message, in
// interleaved rounds: what the service itself adds to a call. Prints one JSON document.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AllocateRequest } from '../../proto/gen/foreshade/v1/allocation.ts';
import { leaseOf } from '../contract/engine-double.ts';
import { startFixture } from '../contract/service-fixture.ts';
import { cpuPerCall, startEcho } from './grpc-cpu.ts';

const CALLS = 20_000;
const ROUNDS = 3;

/** One request of an ordinary shape: three parameters, a priority and a time to live. */
export function ordinaryRequest(requestId: string): Buffer {
  return Buffer.from(
    AllocateRequest.encode({
      requestId,
      tenant: 'acme',
      workload: 'encode',
      guest: 'alpha',
      params: {
        input_mib: { kind: { $case: 'number', number: 64 } },
        level: { kind: { $case: 'number', number: 9 } },
        mode: { kind: { $case: 'category', category: 'fast' } },
      },
      priority: 2,
      ttlMs: 60_000,
    }).finish(),
  );
}

async function main(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'foreshade-echo-'));
  const echo = await startEcho(join(folder, 'echo.sock'));
  const service = await startFixture();
  service.engine.allocate = async (request) => leaseOf(request);
  const requests = [ordinaryRequest('11111111-2222-4333-8444-555555555555')];
  const address = `unix:${service.config.service.socket}`;
  const path = '/foreshade.v1.AllocationService/Allocate';
  const rounds: {
    echoCpuUs: number;
    allocateCpuUs: number;
    ratio: number;
    echoPerS: number;
    allocatePerS: number;
  }[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const bare = await cpuPerCall({ ...echo.target, requests }, CALLS);
    const allocate = await cpuPerCall({ address, path, requests }, CALLS);
    if (bare.failed + allocate.failed > 0) throw new Error('a call failed');
    rounds.push({
      echoCpuUs: bare.cpuUs,
      allocateCpuUs: allocate.cpuUs,
      ratio: allocate.cpuUs / bare.cpuUs,
      echoPerS: bare.callsPerS,
      allocatePerS: allocate.callsPerS,
    });
  }
  echo.stop();
  await service.close();
  rmSync(folder, { recursive: true, force: true });
  process.stdout.write(`${JSON.stringify({ calls: CALLS, rounds }, null, 2)}\n`);
}

await main();
