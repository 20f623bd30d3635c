import { readFileSync } from 'node:fs';
import {
  createFileRegistry,
  type DescMessage,
  type DescMethod,
  type FileRegistry,
  fromBinary,
} from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { packagePath } from '../package-path.ts';

/** Every service and message of the contract in one descriptor set, made beside the generated code, comments included. */
export const DESCRIPTORS_PATH = 'proto/gen/foreshade.binpb';

/** The contract as data: what JSON and OpenAPI are made from. */
export class Contract {
  readonly registry: FileRegistry;

  private constructor(registry: FileRegistry) {
    this.registry = registry;
  }

  static load(): Contract {
    const bytes = readFileSync(packagePath(DESCRIPTORS_PATH));
    return new Contract(createFileRegistry(fromBinary(FileDescriptorSetSchema, bytes)));
  }

  /** @param path `/foreshade.v1.AllocationService/Allocate` */
  method(path: string): DescMethod {
    const [, service = '', name = ''] = path.split('/');
    const method = this.registry.getService(service)?.methods.find((each) => each.name === name);
    if (method === undefined) throw new Error(`${DESCRIPTORS_PATH} does not know ${path}: generate it anew`);
    return method;
  }

  /** @param name `google.rpc.Status` */
  message(name: string): DescMessage {
    const message = this.registry.getMessage(name);
    if (message === undefined) throw new Error(`${DESCRIPTORS_PATH} does not know ${name}: generate it anew`);
    return message;
  }
}
