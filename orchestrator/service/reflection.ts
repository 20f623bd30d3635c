import { toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import type { Server } from '@grpc/grpc-js';
import { ReflectionService } from '@grpc/reflection';
import type { Contract } from './contract.ts';
import { SERVICE_NAMES } from './health.ts';

/**
 * Server reflection v1 and v1alpha. It is given the contract's files as the compiler wrote them: the package's own loader makes
 * one file of each package, and calls every message that has a map a map's entry, which no client can read.
 */
export function addReflection(server: Server, contract: Contract): void {
  const fileDescriptorProtos = [...contract.registry.files].map(({ proto }) =>
    Buffer.from(toBinary(FileDescriptorProtoSchema, proto)),
  );
  // Of what a loader makes, nothing but these is read.
  const definition = { contract: { fileDescriptorProtos } };
  new ReflectionService(definition as never, { services: Object.values(SERVICE_NAMES) }).addToServer(server);
}
