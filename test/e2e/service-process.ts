import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ForeshadeClient } from '../../integrations/client-node/client.ts';

const PROGRAM = fileURLToPath(new URL('../../../bin/foreshade.js', import.meta.url));
/** A start takes about 2 s, with its guests to put back 5 s; a host that others load takes several times as long. */
const START_TIMEOUT_MS = 60_000;
const POLL_MS = 50;

/** How a service process ended. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** The service as an operator runs it: `foreshade serve` in a process of its own, its log appended to a file. */
export class ServiceProcess {
  readonly client: ForeshadeClient;
  /** From the spawn to the first answer, ms. */
  readonly readyMs: number;
  readonly #child: ChildProcess;
  readonly #ended: Promise<Ended>;

  private constructor(child: ChildProcess, ended: Promise<Ended>, client: ForeshadeClient, readyMs: number) {
    this.#child = child;
    this.#ended = ended;
    this.client = client;
    this.readyMs = readyMs;
  }

  /**
   * Start a service and wait until it answers: it does once it has recovered what its ledger knows.
   * @throws {Error} with the log's end when it exits or stays silent
   */
  static async start(place: {
    readonly config: string;
    readonly socket: string;
    readonly log: string;
  }): Promise<ServiceProcess> {
    const begunMs = performance.now();
    const log = openSync(place.log, 'a');
    const child = spawn(process.execPath, [PROGRAM, 'serve', '--config', place.config], {
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    const ended = once(child, 'exit').then(([code, signal]): Ended => ({ code, signal }));
    let exit: Ended | undefined;
    void ended.then((how) => {
      exit = how;
    });
    for (;;) {
      const client = new ForeshadeClient(place.socket);
      try {
        await client.ask(client.admin, client.admin.getStatus, {}, { timeoutMs: 5_000 });
        return new ServiceProcess(child, ended, client, performance.now() - begunMs);
      } catch (cause) {
        client.close();
        const late = performance.now() - begunMs > START_TIMEOUT_MS;
        if (late) child.kill('SIGKILL');
        if (exit !== undefined || late) {
          const tail = readFileSync(place.log, 'utf8').slice(-4_000);
          throw new Error(`the service does not answer (${JSON.stringify(exit)}); its log ends: ${tail}`, {
            cause,
          });
        }
        await sleep(POLL_MS);
      }
    }
  }

  /** End the process at once; resolves when it is gone. Calls in flight fail. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
    this.client.close();
  }

  /** Have it read its configuration again. */
  hangUp(): void {
    this.#child.kill('SIGHUP');
  }

  /** Ask the process to end in order; `ended` says how it did. */
  terminate(): Promise<Ended> {
    this.#child.kill('SIGTERM');
    return this.#ended;
  }
}
