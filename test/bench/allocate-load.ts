// What the benches of Allocate share: processes of their own for server and client, and the requests that are sent.
import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { AllocateRequest } from '../../proto/gen/foreshade/v1/allocation.ts';

/** Start a program of this folder. */
export function start(program: string, args: readonly string[] = []): ChildProcess {
  return fork(fileURLToPath(new URL(`./${program}.js`, import.meta.url)), args);
}

/** Send an order and wait for its answer. */
export async function ask<T>(child: ChildProcess, order: unknown): Promise<T> {
  const answer = once(child, 'message');
  child.send(order as string);
  return (await answer)[0] as T;
}

/** End a server; resolves when its process is gone. */
export async function stop(server: ChildProcess): Promise<void> {
  const ended = once(server, 'exit');
  server.send('stop');
  await ended;
}

/** An ordinary request for a guest in base64: three parameters, a priority and a time to live. */
export function allocateRequest(guest: number): string {
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
