import { chmodSync } from 'node:fs';
import fastify, { type FastifyInstance } from 'fastify';
import { type Api, addGateway } from './gateway.ts';
import type { Health } from './health.ts';
import type { Metrics } from './metrics.ts';
import { claimSocketPath, httpSocketBeside, SOCKET_MODE } from './socket.ts';

/** The only address HTTP listens on beside a unix socket. */
const LOOPBACK = '127.0.0.1';
/** Longest body of the operator's pages: they take none. */
const BODY_BYTES_MAX = 1024;
/** Longest wait for a request to arrive, so that half-open connections do not pile up. */
const REQUEST_TIMEOUT_MS = 5000;

/** Where HTTP is served: on a unix socket, and on loopback when told to. */
export interface HttpListen {
  /** The gRPC socket. */
  readonly socket: string;
  /** Absent: beside the gRPC socket. */
  readonly httpSocket?: string | undefined;
  readonly httpPort?: number | undefined;
  /** Serve the gateway on the port too. */
  readonly httpPortApi: boolean;
}

/** What HTTP serves: the operator's pages, and the gateway where it is let in. */
export interface HttpParts {
  readonly metrics: Metrics;
  readonly health: Health;
  readonly api: Api;
}

/** A running server and where it listens. */
export interface HttpServer {
  readonly address: string;
  close(): Promise<void>;
}

/** Serve HTTP. @returns one server for each place to listen on */
export async function startHttp(listen: HttpListen, parts: HttpParts): Promise<HttpServer[]> {
  const path = listen.httpSocket ?? httpSocketBeside(listen.socket);
  await claimSocketPath(path);
  const local = pages(parts);
  addGateway(local, parts.api, false);
  await local.listen({ path });
  chmodSync(path, SOCKET_MODE);
  const servers: HttpServer[] = [{ address: path, close: () => local.close() }];
  if (listen.httpPort !== undefined) {
    const server = pages(parts);
    if (listen.httpPortApi) addGateway(server, parts.api, true);
    const address = await server.listen({ host: LOOPBACK, port: listen.httpPort });
    servers.push({ address, close: () => server.close() });
  }
  return servers;
}

function pages({ metrics, health }: HttpParts): FastifyInstance {
  const server = fastify({
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_TIMEOUT_MS,
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
