import { chmodSync } from 'node:fs';
import fastify, { type FastifyInstance } from 'fastify';
import type { Health } from './health.ts';
import type { Metrics } from './metrics.ts';
import { claimSocketPath, SOCKET_MODE } from './socket.ts';

/** The only address HTTP listens on beside a unix socket. */
const LOOPBACK = '127.0.0.1';
/** Longest request: these pages take no body. */
const BODY_BYTES_MAX = 1024;
/** Longest wait for a request to arrive, so that half-open connections do not pile up. */
const REQUEST_TIMEOUT_MS = 5000;

/** Where /metrics, /healthz and /readyz are served; both, one or none. */
export interface HttpListen {
  readonly httpSocket?: string | undefined;
  readonly httpPort?: number | undefined;
}

/** Serve the operator's pages. @returns one server for each place to listen on */
export async function startHttp(
  listen: HttpListen,
  metrics: Metrics,
  health: Health,
): Promise<FastifyInstance[]> {
  const servers: FastifyInstance[] = [];
  if (listen.httpSocket !== undefined) {
    await claimSocketPath(listen.httpSocket);
    const server = pages(metrics, health);
    await server.listen({ path: listen.httpSocket });
    chmodSync(listen.httpSocket, SOCKET_MODE);
    servers.push(server);
  }
  if (listen.httpPort !== undefined) {
    const server = pages(metrics, health);
    await server.listen({ host: LOOPBACK, port: listen.httpPort });
    servers.push(server);
  }
  return servers;
}

function pages(metrics: Metrics, health: Health): FastifyInstance {
  const server = fastify({
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionTimeout: REQUEST_TIMEOUT_MS,
    forceCloseConnections: true,
  });
  server.get('/metrics', async (_request, reply) => {
    reply.type(metrics.contentType);
    return metrics.page();
  });
  // Alive as long as the event loop turns: nothing that a restart would not mend is asked here.
  server.get('/healthz', async () => ({ status: 'ok' }));
  server.get('/readyz', async (_request, reply) => {
    if (health.isReady) return { status: 'ready' };
    reply.code(503);
    return { status: health.isDraining ? 'draining' : 'hypervisor unavailable' };
  });
  return server;
}
