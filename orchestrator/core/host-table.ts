import { AllocatorError } from './errors.ts';
import { HOSTS_MAX, type HostReport, type KnownHost, REPORT_LIFE_MS } from './host-report.ts';
import type { Clock, HostDirectory } from './ports.ts';

/** A silent host is remembered for so long, so that who asks is told since when. */
const MEMORY_MS = 600_000;

interface Row {
  readonly report: HostReport;
  readonly reportedAtMs: number;
  readonly monotonicMs: number;
}

/** Hosts' latest reports, in memory: after a restart every agent has reported again within one period. */
export class HostTable implements HostDirectory {
  readonly #clock: Clock;
  readonly #hostsMax: number;
  readonly #rows = new Map<string, Row>();

  constructor(clock: Clock, hostsMax: number = HOSTS_MAX) {
    this.#clock = clock;
    this.#hostsMax = hostsMax;
  }

  async report(report: HostReport): Promise<void> {
    // Set anew, so that the rows stay in the order of their reports.
    const isNew = !this.#rows.delete(report.host);
    if (isNew && this.#rows.size >= this.#hostsMax) this.#makeRoom();
    const { nowMs, monotonicMs } = { nowMs: this.#clock.nowMs(), monotonicMs: this.#clock.monotonicMs() };
    this.#rows.set(report.host, { report, reportedAtMs: nowMs, monotonicMs });
  }

  find(host: string): KnownHost | undefined {
    const row = this.#rows.get(host);
    return row && this.#known(row);
  }

  list(): KnownHost[] {
    return [...this.#rows.values()]
      .flatMap((row) => this.#known(row) ?? [])
      .sort((a, b) => (a.report.host < b.report.host ? -1 : 1));
  }

  #known({ report, reportedAtMs, monotonicMs }: Row): KnownHost | undefined {
    const ageMs = this.#clock.monotonicMs() - monotonicMs;
    if (ageMs > MEMORY_MS) return undefined;
    return { report, reportedAtMs, silent: ageMs > REPORT_LIFE_MS };
  }

  /** @throws {AllocatorError} DIRECTORY_FULL when every host in it is alive */
  #makeRoom(): void {
    const [oldest] = this.#rows.values();
    if (oldest !== undefined && this.#clock.monotonicMs() - oldest.monotonicMs > REPORT_LIFE_MS) {
      this.#rows.delete(oldest.report.host);
      return;
    }
    throw new AllocatorError('DIRECTORY_FULL', `${this.#hostsMax} hosts report already, and no more may`, {
      hostsMax: this.#hostsMax,
    });
  }
}
