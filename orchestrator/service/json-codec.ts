import { fromBinary, fromJsonString, toBinary, toJson } from '@bufbuild/protobuf';
import { type StatusObject, status } from '@grpc/grpc-js';
import { AllocatorError } from '../core/errors.ts';
import type { Contract } from './contract.ts';
import type { Route } from './route.ts';
import { DETAILS_TRAILER } from './status.ts';

/** Longest part of the parser's sentence about a body it refuses. */
const RULE_CHARS_MAX = 256;

/** HTTP's code of each gRPC status, as google/rpc/code.proto has them. */
export const HTTP_STATUS: Readonly<Record<status, number>> = {
  [status.OK]: 200,
  [status.CANCELLED]: 499,
  [status.UNKNOWN]: 500,
  [status.INVALID_ARGUMENT]: 400,
  [status.DEADLINE_EXCEEDED]: 504,
  [status.NOT_FOUND]: 404,
  [status.ALREADY_EXISTS]: 409,
  [status.PERMISSION_DENIED]: 403,
  [status.RESOURCE_EXHAUSTED]: 429,
  [status.FAILED_PRECONDITION]: 400,
  [status.ABORTED]: 409,
  [status.OUT_OF_RANGE]: 400,
  [status.UNIMPLEMENTED]: 501,
  [status.INTERNAL]: 500,
  [status.UNAVAILABLE]: 503,
  [status.DATA_LOSS]: 500,
  [status.UNAUTHENTICATED]: 401,
};

/** One method's messages in canonical proto JSON, by way of the wire format that its handler's types have. */
export class JsonCodec {
  readonly #route: Route;
  readonly #contract: Contract;

  constructor(route: Route, contract: Contract) {
    this.#route = route;
    this.#contract = contract;
    contract.method(route.path);
  }

  /** @throws {AllocatorError} INVALID_REQUEST when the text is not this method's message */
  request(text: string): unknown {
    const { input } = this.#contract.method(this.#route.path);
    try {
      return this.#route.decode(Buffer.from(toBinary(input, fromJsonString(input, text))));
    } catch (cause) {
      const because = (cause instanceof Error ? cause.message : String(cause)).slice(0, RULE_CHARS_MAX);
      throw new AllocatorError(
        'INVALID_REQUEST',
        `The body must be ${input.typeName} as proto JSON, with no unknown fields: ${because}.`,
        { field: '', rule: `must be ${input.typeName} as proto JSON: ${because}` },
        { cause },
      );
    }
  }

  response(response: unknown): string {
    const { output } = this.#contract.method(this.#route.path);
    return JSON.stringify(toJson(output, fromBinary(output, this.#route.encode(response))));
  }
}

/** A failure as google.rpc.Status in JSON. */
export interface JsonFailure {
  readonly body: string;
  /** Whole seconds before the next try; absent: the server does not advise one. */
  readonly retryAfterS?: number;
}

export function jsonFailure(failure: StatusObject, contract: Contract): JsonFailure {
  const { registry } = contract;
  const [trailer] = failure.metadata.get(DETAILS_TRAILER);
  const schema = contract.message('google.rpc.Status');
  const json = toJson(schema, fromBinary(schema, trailer as Buffer), { registry }) as {
    readonly details?: readonly { readonly '@type': string; readonly retryDelay?: string }[];
  };
  const delay = json.details?.find(({ retryDelay }) => retryDelay !== undefined)?.retryDelay;
  return {
    body: JSON.stringify(json),
    ...(delay !== undefined && { retryAfterS: Math.ceil(Number.parseFloat(delay)) }),
  };
}
