import { readFileSync } from 'node:fs';
import type { Server } from '@grpc/grpc-js';
import { loadFileDescriptorSetFromBuffer } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { packagePath } from '../package-path.ts';
import { DESCRIPTORS_PATH } from './contract.ts';
import { SERVICE_NAMES } from './health.ts';

/**
 * Server reflection v1 and v1alpha. From the one descriptor set:
 * loading .proto files one by one leaves references between them unresolved.
 */
export function addReflection(server: Server): void {
  const descriptors = loadFileDescriptorSetFromBuffer(readFileSync(packagePath(DESCRIPTORS_PATH)));
  new ReflectionService(descriptors as never, { services: Object.values(SERVICE_NAMES) }).addToServer(server);
}
