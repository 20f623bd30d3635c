import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type CallOptions,
  type Client,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import { readDefinition } from '../../libvirt-adapter/definition.ts';
import { type Config, defaultConfig } from '../../orchestrator/config.ts';
import { HostTable } from '../../orchestrator/core/host-table.ts';
import type { ShadowStore } from '../../orchestrator/core/shadow.ts';
import { Service } from '../../orchestrator/service/server.ts';
import { DETAILS_TRAILER } from '../../orchestrator/service/status.ts';
import { AdminServiceClient } from '../../proto/gen/foreshade/v1/admin.ts';
import { AllocationServiceClient } from '../../proto/gen/foreshade/v1/allocation.ts';
import { PlacementServiceClient } from '../../proto/gen/foreshade/v1/placement.ts';
import { ShadowServiceClient } from '../../proto/gen/foreshade/v1/shadow.ts';
import {
  BadRequest,
  ErrorInfo,
  PreconditionFailure,
  QuotaFailure,
  RetryInfo,
  Status,
} from '../../proto/gen/google/rpc/error.ts';
import { EngineDouble } from './engine-double.ts';
import { StartsDouble } from './starts-double.ts';

/** A real service over an engine double, on a unix socket in a folder of its own. */
export interface Fixture {
  readonly engine: EngineDouble;
  readonly starts: StartsDouble;
  readonly service: Service;
  readonly config: Config;
  readonly folder: string;
  readonly faults: { record: object; message: string }[];
  readonly allocation: AllocationServiceClient;
  readonly admin: AdminServiceClient;
  readonly placement: PlacementServiceClient;
  readonly shadow: ShadowServiceClient;
  close(): Promise<void>;
}

export async function startFixture(
  changes: Partial<Config['service']> = {},
  shadowStore?: ShadowStore,
): Promise<Fixture> {
  const folder = mkdtempSync(join(tmpdir(), 'foreshade-service-'));
  const base = defaultConfig();
  const config: Config = {
    ...base,
    service: {
      ...base.service,
      socket: join(folder, 'run', 'grpc.sock'),
      httpSocket: join(folder, 'http.sock'),
      ...changes,
    },
  };
  const engine = new EngineDouble();
  const starts = new StartsDouble();
  const faults: Fixture['faults'] = [];
  const logger = {
    info: () => {},
    warn: () => {},
    error: (record: object, message: string) => void faults.push({ record, message }),
  };
  const service = await Service.start({
    engine,
    hosts: new HostTable({ nowMs: () => Date.now(), monotonicMs: () => performance.now() }),
    config,
    version: '9.9.9',
    logger,
    hook: { starts, readDefinition, adopt: true },
    ...(shadowStore && { shadow: shadowStore }),
  });
  const address = `unix:${config.service.socket}`;
  const insecure = credentials.createInsecure();
  const clients = [
    new AllocationServiceClient(address, insecure),
    new AdminServiceClient(address, insecure),
    new PlacementServiceClient(address, insecure),
    new ShadowServiceClient(address, insecure),
  ] as const;
  const [allocation, admin, placement, shadow] = clients;
  const close = async (): Promise<void> => {
    for (const client of clients) client.close();
    await service.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  return { engine, starts, service, config, folder, faults, allocation, admin, placement, shadow, close };
}

/** Call a unary method and wait for its answer. */
export function call<Request, Response>(
  client: Client,
  method: (
    request: Request,
    metadata: Metadata,
    options: Partial<CallOptions>,
    callback: (error: ServiceError | null, response: Response) => void,
  ) => ClientUnaryCall,
  request: Request,
  options: Partial<CallOptions> = {},
): Promise<Response> {
  return new Promise((resolve, reject) => {
    method.call(client, request, new Metadata(), options, (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });
}

/** The error that a promise rejects with. */
export async function failureOf(promise: Promise<unknown>): Promise<ServiceError> {
  try {
    await promise;
  } catch (error) {
    return error as ServiceError;
  }
  throw new Error('expected a failure');
}

/** An error's details by message name, decoded. */
export function detailsOf(error: ServiceError): Record<string, unknown> {
  const [bytes] = error.metadata.get(DETAILS_TRAILER);
  if (!(bytes instanceof Buffer)) throw new Error(`no details in ${error.message}`);
  const decoders = { ErrorInfo, BadRequest, RetryInfo, PreconditionFailure, QuotaFailure };
  const details: Record<string, unknown> = {};
  for (const { typeUrl = '', value = new Uint8Array() } of Status.decode(bytes).details) {
    const name = typeUrl.replace('type.googleapis.com/google.rpc.', '') as keyof typeof decoders;
    if (name in details) throw new Error(`${name} appears twice`);
    details[name] = decoders[name].decode(value);
  }
  return details;
}
