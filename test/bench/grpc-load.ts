// The client of the gRPC benches, in a process of its own so that the server's CPU can be told from it.
// Parent sends { address, path, requests, calls, inFlight }; the answer is { seconds, failed, latencyMs } once all calls are done.
import { credentials, makeGenericClientConstructor, type ServiceError } from '@grpc/grpc-js';

/** One run of unary calls. */
export interface LoadOrder {
  readonly address: string;
  readonly path: string;
  /** Messages in base64, sent in turn. */
  readonly requests: readonly string[];
  readonly calls: number;
  readonly inFlight: number;
}

export interface LoadReport {
  readonly seconds: number;
  readonly failed: number;
  /** Of each call, in the order of their answers. */
  readonly latencyMs: readonly number[];
}

type RawCall = (bytes: Buffer, callback: (error: ServiceError | null) => void) => void;

async function run(order: LoadOrder): Promise<LoadReport> {
  const bytes = (message: Buffer): Buffer => message;
  const Raw = makeGenericClientConstructor(
    {
      send: {
        path: order.path,
        requestStream: false,
        responseStream: false,
        requestSerialize: bytes,
        requestDeserialize: bytes,
        responseSerialize: bytes,
        responseDeserialize: bytes,
      },
    },
    'Raw',
  );
  const client = new Raw(order.address, credentials.createInsecure());
  const send = (client as unknown as { send: RawCall }).send.bind(client);
  const requests = order.requests.map((text) => Buffer.from(text, 'base64'));
  let next = 0;
  let failed = 0;
  const latencyMs: number[] = [];
  const lane = async (): Promise<void> => {
    while (next < order.calls) {
      const request = requests[next % requests.length] ?? Buffer.alloc(0);
      next += 1;
      const sentAt = performance.now();
      await new Promise<void>((resolve) => {
        send(request, (error) => {
          latencyMs.push(performance.now() - sentAt);
          if (error) failed += 1;
          resolve();
        });
      });
    }
  };
  const startedAt = performance.now();
  await Promise.all(Array.from({ length: order.inFlight }, lane));
  const seconds = (performance.now() - startedAt) / 1000;
  client.close();
  return { seconds, failed, latencyMs };
}

process.on('message', async (order: LoadOrder) => process.send?.(await run(order)));
