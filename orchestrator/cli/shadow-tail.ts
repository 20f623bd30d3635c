import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LOG_FOLDER } from '../store/layout.ts';
import { LogReader } from '../store/log-reader.ts';
import { ROW_COLUMNS } from '../store/log-rows.ts';
import { readManifest } from '../store/manifest.ts';
import { type Io, printAnswer } from './io.ts';
import { localTime, NONE } from './quantities.ts';

/** How often a followed log is looked at. */
const LOOK_EVERY_MS = 200;

interface TailOptions {
  readonly lines: number;
  readonly follow?: boolean;
  readonly guest?: string;
  readonly json?: boolean;
}

/** One sample of the log: what is known of it, by column. */
interface TailRow {
  readonly time: number;
  readonly guest: string;
  readonly request_id?: string;
  readonly metrics: Readonly<Record<string, number>>;
}

/** Print the latest samples of a log, and with `follow` each new one. Reads the log itself: nothing to wait for, no lock. */
export async function shadowTail(io: Io, directory: string, options: TailOptions): Promise<void> {
  const tail = new Tail(directory);
  const isWanted = ({ guest }: TailRow): boolean => options.guest === undefined || guest === options.guest;
  const latest = tail.read().filter(isWanted).slice(-options.lines);
  if (!options.follow) {
    const text =
      latest.length === 0 ? 'The log is empty: what was in it is sealed.' : latest.map(lineOf).join('\n');
    printAnswer(io, options.json, { document: { samples: latest }, text });
    return;
  }
  for (let rows = latest; !io.signal.aborted; rows = tail.read().filter(isWanted)) {
    for (const row of rows) io.out(`${lineOf(row)}\n`);
    await sleep(LOOK_EVERY_MS, undefined, { signal: io.signal }).catch(() => {});
  }
}

function lineOf({ time, guest, request_id, metrics }: TailRow): string {
  const values = Object.entries(metrics).map(([name, value]) => `${name}=${value}`);
  return [localTime(time), guest, request_id ?? NONE, ...values].join('  ');
}

/** Reads what the log gained. Segments that are sealed meanwhile were read before. */
class Tail {
  readonly #directory: string;
  readonly #contexts = new Map<string, { guest: string; requestId: string | null }>();
  #reader: LogReader;

  constructor(directory: string) {
    this.#directory = directory;
    const { sealedSegment, sealedSequence } = readManifest(directory);
    this.#reader = new LogReader({
      directory: join(this.#directory, LOG_FOLDER),
      afterSegment: sealedSegment,
      afterSequence: sealedSequence,
    });
  }

  read(): TailRow[] {
    const rows: TailRow[] = [];
    for (const { segment, kind, table } of this.#reader.read()) {
      const column = (name: string) => table.getChild(name);
      for (let i = 0; i < table.numRows; i += 1) {
        if (kind === 'contexts') {
          const facts = {
            guest: String(column('guest')?.get(i)),
            requestId: column('request_id')?.get(i) as string | null,
          };
          this.#contexts.set(`${segment} ${column('id')?.get(i)}`, facts);
        }
        if (kind !== 'rows') continue;
        const context = this.#contexts.get(`${segment} ${column('context')?.get(i)}`);
        if (context === undefined) continue;
        const metrics = table.schema.names
          .map(String)
          .slice(ROW_COLUMNS.length)
          .map((name): [string, number] => [name, column(name)?.get(i) as number])
          .filter(([, value]) => !Number.isNaN(value));
        rows.push({
          time: column('at_ms')?.get(i) as number,
          guest: context.guest,
          ...(context.requestId !== null && { request_id: context.requestId }),
          metrics: Object.fromEntries(metrics),
        });
      }
    }
    return rows;
  }
}
