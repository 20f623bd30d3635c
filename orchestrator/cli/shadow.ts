import { once } from 'node:events';
import { createWriteStream, existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { finished } from 'node:stream/promises';
import { RecordBatchReader } from 'apache-arrow';
import { Command, Option } from 'commander';
import { ClientError, UNREACHABLE } from '../../integrations/client-node/client-error.ts';
import { ShadowError, type StoreStats } from '../core/shadow.ts';
import { backupStore } from '../store/backup.ts';
import { ShadowReader } from '../store/reader.ts';
import { DiskShadowStore } from '../store/store.ts';
import { type Io, printAnswer } from './io.ts';
import { withClient } from './options.ts';
import { localTime, parseCount, size } from './quantities.ts';
import { addReplay } from './shadow-replay.ts';
import { shadowTail } from './shadow-tail.ts';
import { facts, table } from './table.ts';

/** Environment variable that names the store's folder. */
const STORE_VARIABLE = 'FORESHADE_STORE';
const STORE_DEFAULT = '/var/lib/foreshade/shadow';
/** Rows a terminal is shown unless it asks for more; `export` gives them all. */
const ROWS_DEFAULT = 1000;
/** Every file that holds the tenant is written anew: a terabyte takes hours, and a service that is gone is noticed sooner. */
const ERASE_TIMEOUT_MS = 24 * 3_600_000;

interface ShadowOptions {
  readonly store?: string;
  readonly json?: boolean;
}

/** `foreshade shadow query|stats|export|import|tail|replay|erase|backup`: on a store's folder, whether or not the service runs. */
export function shadowCommand(io: Io): Command {
  const command = new Command('shadow')
    .description('Question and keep the record of what guests used')
    .addHelpText(
      'after',
      `
Views: shadow (every sample), shadow_minute and shadow_hour (min, mean, max, p95 and count), inputs (production inputs, by
request_id). Times are UTC.

Examples:
  $ foreshade shadow query "SELECT guest, max(memory_bytes) FROM shadow WHERE time > now() - INTERVAL 1 DAY GROUP BY guest"
  $ foreshade shadow query "SELECT request_id FROM inputs WHERE name = 'rows' AND number = 2e6"
  $ foreshade shadow export "FROM shadow" --format parquet --out shadow.parquet
  $ foreshade shadow tail --follow`,
    );
  for (const make of [
    queryCommand,
    statsCommand,
    exportCommand,
    importCommand,
    tailCommand,
    replayCommand,
    eraseCommand,
    backupCommand,
  ])
    command.addCommand(make(io));
  return command;
}

function sub(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .addOption(
      new Option(
        '--store <folder>',
        `the store's folder; also ${STORE_VARIABLE} (default: ${STORE_DEFAULT})`,
      ),
    )
    .option('--json', 'print exactly one JSON document on stdout');
}

function folderOf(io: Io, options: ShadowOptions): string {
  return resolve(options.store ?? io.env[STORE_VARIABLE] ?? STORE_DEFAULT);
}

/** Run with a reader of an existing store, and close it whatever happens. */
async function withReader(
  io: Io,
  options: ShadowOptions,
  work: (reader: ShadowReader) => Promise<void>,
): Promise<void> {
  const reader = new ShadowReader(existing(folderOf(io, options)));
  try {
    await work(reader);
  } finally {
    await reader.close();
  }
}

/** Run as the one that writes the store. */
async function withStore(
  io: Io,
  options: ShadowOptions,
  work: (store: DiskShadowStore) => Promise<void>,
): Promise<void> {
  const store = DiskShadowStore.open({ directory: folderOf(io, options) });
  try {
    await work(store);
  } finally {
    await store.close();
  }
}

function existing(directory: string): string {
  if (existsSync(directory)) return directory;
  throw new ShadowError('STORE_UNAVAILABLE', `${directory} does not exist`);
}

function queryCommand(io: Io): Command {
  return sub('query', 'Answer one SELECT over the views shadow, shadow_minute, shadow_hour and inputs')
    .argument('<sql>', 'one SELECT; it changes nothing')
    .option('--rows <count>', 'print at most so many rows', parseCount, ROWS_DEFAULT)
    .action((sql: string, options: ShadowOptions & { rows: number }) =>
      withReader(io, options, async (reader) => {
        const batches = await RecordBatchReader.from(reader.query(sql, io.signal));
        const rows: Cell[][] = [];
        let columns: string[] = [];
        let isCut = false;
        for await (const batch of batches) {
          const { fields } = batch.schema;
          columns = fields.map(({ name }) => name);
          for (const row of batch) {
            isCut = rows.length === options.rows;
            if (isCut) break;
            rows.push(fields.map(({ name, type }) => cell(row[name], type)));
          }
          if (isCut) break;
        }
        printAnswer(io, options.json, {
          document: { columns, rows, truncated: isCut },
          text:
            rows.length === 0
              ? 'No rows.'
              : table(
                  columns,
                  rows.map((row) => row.map((value) => String(value ?? ''))),
                ),
        });
        if (isCut)
          io.err(`There are more than ${options.rows} rows: see --rows, or foreshade shadow export
`);
      }),
    );
}

type Cell = string | number | boolean | null;

/** A value as JSON has it: times in ISO 8601, whole numbers as numbers as long as they are exact. */
function cell(value: unknown, type: unknown): Cell {
  if (value === null || value === undefined) return null;
  if (String(type).startsWith('Timestamp')) return new Date(Number(value)).toISOString();
  if (String(type).startsWith('Date')) return new Date(Number(value)).toISOString().slice(0, 10);
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (typeof value === 'number' || typeof value === 'boolean') return value;
  return String(value);
}

function statsCommand(io: Io): Command {
  return sub('stats', 'Show what the store holds, tier by tier, and what of it could not be read').action(
    (options: ShadowOptions) =>
      withReader(io, options, async (reader) => {
        const stats = await reader.stats();
        printAnswer(io, options.json, { document: statsDocument(stats), text: statsText(stats) });
      }),
  );
}

function statsDocument({ schema, tiers, log, damage, lostRows, imports }: StoreStats) {
  return {
    schema,
    tiers: tiers.map(({ tier, files, rows, bytes, fromMs, toMs }) => ({
      tier,
      files,
      rows,
      bytes,
      from_ms: fromMs,
      to_ms: toMs,
    })),
    log,
    damage,
    lost_rows: lostRows,
    imports,
  };
}

function statsText({ tiers, log, damage, lostRows, imports }: StoreStats): string {
  const rows = tiers.map(({ tier, files, rows, bytes, fromMs, toMs }) => [
    tier,
    String(files),
    rows.toLocaleString('en-US'),
    size(bytes),
    rows === 0 ? '-' : (bytes / rows).toFixed(1),
    localTime(fromMs),
    localTime(toMs),
  ]);
  rows.push(['log', String(log.segments), log.rows.toLocaleString('en-US'), size(log.bytes), '-', '-', '-']);
  const lines = [
    table(['TIER', 'FILES', 'ROWS', 'SIZE', 'B/ROW', 'FROM', 'TO'], rows, { right: [1, 2, 3, 4] }),
  ];
  if (imports.length > 0) lines.push(`imported: ${imports.join(', ')}`);
  if (lostRows > 0) lines.push(`rows of unknown guests: ${lostRows}`);
  for (const { segment, offset, bytes, kind } of damage)
    lines.push(`${kind} in ${segment}: ${bytes} bytes at ${offset}`);
  return lines.join('\n');
}

const FORMATS = ['parquet', 'arrow', 'csv'] as const;

function exportCommand(io: Io): Command {
  return sub('export', 'Write the answer of one SELECT to a file')
    .argument('[sql]', 'one SELECT', 'FROM shadow')
    .addOption(
      new Option('--format <format>', 'parquet, arrow (an IPC stream) or csv')
        .choices(FORMATS)
        .default('parquet'),
    )
    .requiredOption('--out <file>', 'the file to write')
    .action((sql: string, options: ShadowOptions & { format: (typeof FORMATS)[number]; out: string }) =>
      withReader(io, options, async (reader) => {
        const { format } = options;
        const out = resolve(options.out);
        if (format === 'arrow') await writeArrow(reader.query(sql, io.signal), out);
        else await reader.export(sql, format, out, io.signal);
        printAnswer(io, options.json, { document: { file: out, format }, text: `Written: ${out}` });
      }),
    );
}

async function writeArrow(pieces: AsyncIterable<Uint8Array>, path: string): Promise<void> {
  const file = createWriteStream(path);
  for await (const piece of pieces) {
    if (!file.write(piece)) await once(file, 'drain');
  }
  file.end();
  await finished(file);
}

function importCommand(io: Io): Command {
  return sub('import', 'Take in recorded series sets and request sets, each once')
    .argument('<folder...>', 'folders with dataset.json and series.csv.gz, series.parquet or requests.csv.gz')
    .action((folders: string[], options: ShadowOptions) =>
      withStore(io, options, async (store) => {
        const imported: { folder: string; rows: number }[] = [];
        for (const folder of folders) {
          io.err(`importing ${folder}\n`);
          imported.push({ folder, rows: await store.importSet(folder) });
        }
        const text = imported.map(
          ({ folder, rows }) => [folder, `${rows.toLocaleString('en-US')} samples`] as const,
        );
        printAnswer(io, options.json, { document: { imported }, text: facts(text) });
      }),
    );
}

function tailCommand(io: Io): Command {
  return sub('tail', 'Show the latest samples of the log, as they were written')
    .option('-n, --lines <count>', 'how many', parseCount, 10)
    .addOption(
      new Option('-f, --follow', 'go on with what is written from now on, until Ctrl-C').conflicts('json'),
    )
    .option('--guest <guest>', 'of one guest only')
    .action((options: ShadowOptions & { lines: number; follow?: boolean; guest?: string }) =>
      shadowTail(io, existing(folderOf(io, options)), options),
    );
}

function replayCommand(io: Io): Command {
  const command = sub(
    'replay',
    'Play a stretch of the record into an engine that touches nothing, as if live',
  );
  return addReplay(command, io, (options) => existing(folderOf(io, options)));
}

function eraseCommand(io: Io): Command {
  return sub('erase', 'Remove everything of one tenant from every tier and the log; backups are not touched')
    .argument('<tenant>', 'the tenant, as its requests name it')
    .requiredOption('--yes', 'it cannot be undone')
    .option('--socket <path>', 'of the service that writes the store, which then is asked to do it')
    .action(async (tenant: string, options: ShadowOptions & { socket?: string }) => {
      const folder = existing(folderOf(io, options));
      try {
        await withStore(io, options, (store) => store.erase(tenant));
      } catch (error) {
        if (!(error instanceof ShadowError && error.code === 'STORE_IN_USE')) throw error;
        const wait = { timeoutMs: ERASE_TIMEOUT_MS, signal: io.signal };
        await withClient(io, { ...options, timeout: wait.timeoutMs }, (client) =>
          client.ask(client.shadow, client.shadow.eraseTenant, { tenant, folder }, wait),
        ).catch((cause: unknown) => {
          // No service is there: then it is another command that writes the store.
          throw cause instanceof ClientError && cause.reason === UNREACHABLE ? error : cause;
        });
      }
      printAnswer(io, options.json, { document: { erased: tenant }, text: `Erased: ${tenant}` });
    });
}

function backupCommand(io: Io): Command {
  return sub('backup', 'Copy the store into a new folder; the service may go on writing')
    .argument('<folder>', 'a folder that does not exist or is empty')
    .action(async (folder: string, options: ShadowOptions) => {
      const target = resolve(folder);
      await backupStore(existing(folderOf(io, options)), target);
      printAnswer(io, options.json, { document: { backup: target }, text: `Backed up to ${target}` });
    });
}
