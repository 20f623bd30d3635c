import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { Duplex } from 'node:stream';
import {
  create,
  createFileRegistry,
  type FileRegistry,
  fromBinary,
  fromJson,
  type JsonValue,
  toBinary,
  toJson,
} from '@bufbuild/protobuf';
import {
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
} from '@bufbuild/protobuf/wkt';
import {
  type Client,
  credentials,
  loadPackageDefinition,
  makeGenericClientConstructor,
  type ServiceError,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

interface Reflected {
  readonly fileDescriptorResponse?: { readonly fileDescriptorProto: Buffer[] };
}

/**
 * A gRPC client that knows nothing but the server's address: services and messages are what reflection tells, as in grpcurl.
 * Requests and answers are proto JSON.
 */
export class ReflectionClient {
  readonly #address: string;
  readonly #registry: FileRegistry;

  private constructor(address: string, registry: FileRegistry) {
    this.#address = address;
    this.#registry = registry;
  }

  /** @param symbol a service whose file, and all that it refers to, is asked for */
  static async of(address: string, symbol: string): Promise<ReflectionClient> {
    const { fileDescriptorResponse } = await reflect(address, symbol);
    const files = fileDescriptorResponse?.fileDescriptorProto ?? [];
    const protos = files.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
    const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: ordered(protos) }));
    return new ReflectionClient(address, registry);
  }

  /** Call a unary method. */
  async call(service: string, name: string, request: JsonValue): Promise<Record<string, JsonValue>> {
    const method = this.#registry.getService(service)?.methods.find((each) => each.name === name);
    if (method === undefined) throw new Error(`reflection knows no ${service}/${name}`);
    const raw = (bytes: Buffer) => bytes;
    const Raw = makeGenericClientConstructor(
      {
        call: {
          path: `/${service}/${name}`,
          requestStream: false,
          responseStream: false,
          requestSerialize: raw,
          requestDeserialize: raw,
          responseSerialize: raw,
          responseDeserialize: raw,
        },
      },
      'Raw',
    );
    const client = new Raw(this.#address, credentials.createInsecure()) as never as {
      call(bytes: Buffer, done: (error: ServiceError | null, bytes: Buffer) => void): void;
      close(): void;
    };
    const bytes = Buffer.from(toBinary(method.input, fromJson(method.input, request)));
    try {
      return await new Promise((resolve, reject) => {
        client.call(bytes, (error, answer) => {
          if (error) reject(error);
          else resolve(toJson(method.output, fromBinary(method.output, answer)) as Record<string, JsonValue>);
        });
      });
    } finally {
      client.close();
    }
  }
}

/** Files after those they import, each once, as a registry reads them. */
function ordered(files: readonly FileDescriptorProto[]): FileDescriptorProto[] {
  const byName = new Map(files.map((file) => [file.name, file]));
  const placed = new Set<FileDescriptorProto>();
  const place = (file: FileDescriptorProto | undefined): void => {
    if (file === undefined || placed.has(file)) return;
    for (const dependency of file.dependency) place(byName.get(dependency));
    placed.add(file);
  };
  for (const file of byName.values()) place(file);
  return [...placed];
}

function reflect(address: string, symbol: string): Promise<Reflected> {
  const folder = dirname(createRequire(import.meta.url).resolve('@grpc/reflection/package.json'));
  const file = join(folder, 'build/proto/grpc/reflection/v1/reflection.proto');
  const loaded = loadPackageDefinition(loadSync(file, { longs: String, oneofs: true })) as never as {
    grpc: { reflection: { v1: { ServerReflection: new (...args: unknown[]) => Client } } };
  };
  const client = new loaded.grpc.reflection.v1.ServerReflection(address, credentials.createInsecure());
  return new Promise<Reflected>((resolve, reject) => {
    const stream = (client as never as { ServerReflectionInfo(): Duplex }).ServerReflectionInfo();
    stream.on('data', (answer: Reflected) => {
      stream.end();
      resolve(answer);
    });
    stream.on('error', reject);
    stream.write({ fileContainingSymbol: symbol });
  }).finally(() => client.close());
}
