// Server CPU of a gRPC call, measured in the server's process while a client process sends. Reused by every bench that
// compares a call with the bare echo.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { LoadOrder, LoadReport } from './grpc-load.ts';

/** Calls before measuring: enough for the compiler to have settled. */
const WARM_UP_CALLS = 3000;
/** Calls in flight at once: a busy scheduler, without a queue that hides the cost. */
const IN_FLIGHT = 8;

/** What is called: the server must run in this process. */
export interface Target {
  readonly address: string;
  readonly path: string;
  /** Encoded messages, sent in turn. */
  readonly requests: readonly Buffer[];
}

export interface CpuPerCall {
  /** User and system CPU of this process, us. */
  readonly cpuUs: number;
  readonly callsPerS: number;
  readonly failed: number;
}

/** Server CPU per call of `target`, over `calls` calls after a warm-up. */
export async function cpuPerCall(target: Target, calls: number): Promise<CpuPerCall> {
  const client = fork(fileURLToPath(new URL('./grpc-load.js', import.meta.url)));
  try {
    const requests = target.requests.map((bytes) => bytes.toString('base64'));
    const order: LoadOrder = { ...target, requests, calls: WARM_UP_CALLS, inFlight: IN_FLIGHT };
    await load(client, order);
    const before = process.cpuUsage();
    const { seconds, failed } = await load(client, { ...order, calls });
    const { user, system } = process.cpuUsage(before);
    return { cpuUs: (user + system) / calls, callsPerS: calls / seconds, failed };
  } finally {
    client.kill();
  }
}

async function load(client: ChildProcess, order: LoadOrder): Promise<LoadReport> {
  client.send(order);
  const [report] = (await once(client, 'message')) as [LoadReport];
  return report;
}

/** A bare @grpc/grpc-js server that returns the bytes it got: what any call costs at least. */
export async function startEcho(
  socket: string,
): Promise<{ readonly target: Omit<Target, 'requests'>; stop(): void }> {
  const bytes = (message: Buffer): Buffer => message;
  const path = '/echo.Echo/Echo';
  const server = new Server({ 'grpc.enable_channelz': 0 });
  server.addService(
    {
      echo: {
        path,
        requestStream: false,
        responseStream: false,
        requestSerialize: bytes,
        requestDeserialize: bytes,
        responseSerialize: bytes,
        responseDeserialize: bytes,
      },
    },
    {
      echo: (call: { request: Buffer }, answer: (error: null, message: Buffer) => void) =>
        answer(null, call.request),
    },
  );
  const address = `unix:${socket}`;
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    );
  });
  const stop = (): void => {
    server.drain(address, 0);
    server.forceShutdown();
  };
  return { target: { address, path }, stop };
}
