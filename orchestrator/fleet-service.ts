import { ForeshadeClient } from '../integrations/client-node/client.ts';
import type { HostReport } from './core/host-report.ts';
import type { HostReporter } from './core/ports.ts';
import { wireReport } from './service/placement-answers.ts';

/** A report that was not taken within this is late: the next one is under way before the last expires. */
const REPORT_TIMEOUT_MS = 2_000;

/** Another service that ranks this host beside others. */
export class FleetService implements HostReporter {
  readonly #client: ForeshadeClient;

  /** @param address path of its unix socket, or `host:port` */
  constructor(address: string) {
    this.#client = new ForeshadeClient(address);
  }

  /** @throws {ClientError} when it does not take the report, or does not answer */
  async report(report: HostReport): Promise<void> {
    const { placement } = this.#client;
    const request = { report: wireReport(report) };
    await this.#client.ask(placement, placement.reportHost, request, { timeoutMs: REPORT_TIMEOUT_MS });
  }

  close(): void {
    this.#client.close();
  }
}
