import { chmodSync } from 'node:fs';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { AdminServiceService } from '../../proto/gen/foreshade/v1/admin.ts';
import { AllocationServiceService } from '../../proto/gen/foreshade/v1/allocation.ts';
import { HookServiceService } from '../../proto/gen/foreshade/v1/hook.ts';
import { PlacementServiceService } from '../../proto/gen/foreshade/v1/placement.ts';
import { ShadowServiceService } from '../../proto/gen/foreshade/v1/shadow.ts';
import type { Config } from '../config.ts';
import type { AllocationEngine } from '../core/engine.ts';
import { AllocatorError } from '../core/errors.ts';
import type { HostDirectory } from '../core/ports.ts';
import type { ShadowStore } from '../core/shadow.ts';
import { adminHandlers } from './admin.ts';
import { allocationHandlers } from './allocation.ts';
import type { Caller } from './caller.ts';
import { Contract } from './contract.ts';
import { Health } from './health.ts';
import { type HookParts, hookHandlers } from './hook.ts';
import { type HttpServer, startHttp } from './http.ts';
import type { ServiceLogger } from './logger.ts';
import { Metrics } from './metrics.ts';
import { placementHandlers } from './placement.ts';
import { addReflection } from './reflection.ts';
import { addRoutes, type Door, type Route } from './route.ts';
import { shadowHandlers } from './shadow.ts';
import { claimSocketPath, SOCKET_MODE } from './socket.ts';

/** Largest message taken. 64 parameters of 4,096 characters, four bytes each, fit four times. */
export const MESSAGE_BYTES_MAX = 4 * 1024 * 1024;
/** Calls that one connection may have open: grpc's usual bound. */
const STREAMS_PER_CONNECTION_MAX = 1000;
/** A connection that carries no call is closed after this; clients reconnect by themselves. */
const IDLE_CONNECTION_MS_MAX = 300_000;
/** A silent peer is probed and dropped, so that a dead client's stream ends. */
const KEEPALIVE_PERIOD_MS = 60_000;
const KEEPALIVE_TIMEOUT_MS = 20_000;

/** What a service is made of. */
export interface ServiceParts {
  readonly engine: AllocationEngine;
  /** The hosts that are ranked. */
  readonly hosts: HostDirectory;
  readonly config: Pick<Config, 'service' | 'host' | 'engine'>;
  readonly version: string;
  readonly logger: ServiceLogger;
  /** Absent: no record is kept, and questions about it are refused. */
  readonly shadow?: ShadowStore;
  /** Absent: there is no hook to listen to. */
  readonly hook?: HookParts;
}

/** The gRPC face of an engine, and the same in JSON over HTTP, with the operator's pages beside it. */
export class Service implements Door {
  readonly metrics: Metrics;
  readonly #parts: ServiceParts;
  readonly #server: Server;
  readonly #health: Health;
  readonly #callers = new Set<Caller>();
  readonly #routes: readonly Route[];
  readonly #contract = Contract.load();
  #http: HttpServer[] = [];
  #whenIdle: (() => void) | undefined;
  #isClosing = false;
  readonly #addresses: string[] = [];
  #stopped: Promise<void> | undefined;

  private constructor(parts: ServiceParts) {
    const { engine, hosts, config, version, shadow, hook } = parts;
    this.#parts = parts;
    this.metrics = new Metrics(engine, version, shadow);
    this.#server = new Server({
      'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
      'grpc.max_concurrent_streams': STREAMS_PER_CONNECTION_MAX,
      'grpc.max_connection_idle_ms': IDLE_CONNECTION_MS_MAX,
      'grpc.keepalive_time_ms': KEEPALIVE_PERIOD_MS,
      'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
      'grpc.enable_channelz': 0,
    });
    this.#health = new Health(this.#server, engine);
    const about = { version, hostName: config.host.name, hostMode: config.host.mode };
    const onDrain = (): void => this.#health.drain();
    const { host, engine: policy } = config;
    this.#routes = [
      ...addRoutes(
        this.#server,
        AllocationServiceService,
        allocationHandlers(engine, policy.leaseTtlMs),
        this,
      ),
      ...addRoutes(this.#server, AdminServiceService, adminHandlers(engine, about, shadow, onDrain), this),
      ...addRoutes(this.#server, PlacementServiceService, placementHandlers(engine, hosts), this),
      ...addRoutes(this.#server, ShadowServiceService, shadowHandlers(engine, shadow, host.name), this),
      ...(hook === undefined
        ? []
        : addRoutes(this.#server, HookServiceService, hookHandlers(hook, parts.logger), this)),
    ];
    addReflection(this.#server, this.#contract);
  }

  /**
   * Listen on the unix socket, on loopback TCP when configured, and serve.
   * @throws {AllocatorError} STATE_CONFLICT when another live server owns a socket
   */
  static async start(parts: ServiceParts): Promise<Service> {
    const service = new Service(parts);
    try {
      await service.#listen();
    } catch (error) {
      await service.stop();
      throw error;
    }
    return service;
  }

  /**
   * Refuse new calls, end streams, wait at most `deadlineMs` for calls in flight, then close. A call that is still in
   * flight then has its signal aborted and a moment to answer with what it has.
   */
  async drain(deadlineMs: number): Promise<void> {
    this.#health.drain();
    this.#isClosing = true;
    for (const caller of this.#callers) if (caller.isStream) caller.abort(draining());
    await this.#idle(deadlineMs);
    for (const caller of this.#callers) caller.abort(draining());
    await this.#idle(CLOSE_GRACE_MS);
    await this.stop();
  }

  /** Close at once; calls in flight are cut. */
  stop(): Promise<void> {
    this.#stopped ??= this.#close();
    return this.#stopped;
  }

  enter(caller: Caller): void {
    if (this.#isClosing) throw draining();
    this.#callers.add(caller);
  }

  leave(caller: Caller): void {
    this.#callers.delete(caller);
    if (this.#callers.size === 0) this.#whenIdle?.();
  }

  logFault(error: unknown, errorId: string, method: string): void {
    this.#parts.logger.error(
      { err: error, errorId, method },
      'A call failed for a reason that is not in the table.',
    );
  }

  async #close(): Promise<void> {
    this.#isClosing = true;
    this.#health.stop();
    await Promise.all(this.#http.map((server) => server.close()));
    await this.#closeServer();
  }

  async #listen(): Promise<void> {
    const { config, logger, version } = this.#parts;
    const { socket, tcp } = config.service;
    await claimSocketPath(socket);
    await this.#bind(`unix:${socket}`);
    chmodSync(socket, SOCKET_MODE);
    if (tcp !== undefined) await this.#bind(tcp);
    this.#http = await startHttp(config.service, {
      metrics: this.metrics,
      health: this.#health,
      api: {
        routes: this.#routes,
        contract: this.#contract,
        door: this,
        version,
        bodyBytesMax: MESSAGE_BYTES_MAX,
      },
    });
    await this.#health.look();
    logger.info({ socket, tcp, http: this.#http.map(({ address }) => address) }, 'Listening.');
  }

  #bind(address: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.bindAsync(address, ServerCredentials.createInsecure(), (error) => {
        if (error) reject(new Error(`Cannot listen on ${address}: ${error.message}`, { cause: error }));
        else {
          this.#addresses.push(address);
          resolve();
        }
      });
    });
  }

  /** Resolves when no call is in flight, or after `deadlineMs`. */
  #idle(deadlineMs: number): Promise<void> {
    if (this.#callers.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, deadlineMs);
      this.#whenIdle = () => {
        clearTimeout(timer);
        // One turn for the last answer to be written before the connections close.
        setImmediate(resolve);
      };
    });
  }

  /**
   * Let written answers leave, then cut what remains: idle connections and health watches never end by themselves.
   * Not forceShutdown: without channelz grpc-js 1.14 keeps no list of sessions for it and destroys none.
   */
  #closeServer(): Promise<void> {
    for (const address of this.#addresses) this.#server.drain(address, CLOSE_GRACE_MS);
    return new Promise((resolve) => this.#server.tryShutdown(() => resolve()));
  }
}

/** How long connections may take to close in order. One round trip on the same host fits many times. */
const CLOSE_GRACE_MS = 200;

function draining(): AllocatorError {
  return new AllocatorError('DRAINING', 'The service is shutting down and takes no new work.');
}
