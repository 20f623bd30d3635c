import { type Command, InvalidArgumentError } from 'commander';
import { DEFAULT_CONFIG_PATH, loadConfig } from '../config.ts';
import { PROFILE_FIELDS, type ProfileField } from '../core/profile.ts';
import { PROFILE_COLUMNS } from '../core/shadow.ts';
import type { ReplayResult } from '../replay/replay.ts';
import type { Stretch, StretchChoice } from '../replay/stretch.ts';
import { DecisionFile } from './decision-file.ts';
import { type Io, printAnswer, Unsuccessful } from './io.ts';
import { Progress } from './progress.ts';
import { localTime, parseDurationMs, parseTimeMs } from './quantities.ts';
import { facts } from './table.ts';

interface ReplayOptions {
  readonly store?: string;
  readonly json?: boolean;
  readonly from?: number;
  readonly to?: number;
  readonly host?: string;
  readonly guest?: readonly string[];
  readonly usage?: Readonly<Partial<Record<ProfileField, string>>>;
  readonly speed: number;
  readonly forecastEvery: number;
  readonly config?: string;
  readonly out?: string;
}

/** Complete `foreshade shadow replay`. @param command one with the options of every command on a store @param directoryOf the store's folder; throws when there is none */
export function addReplay(
  command: Command,
  io: Io,
  directoryOf: (options: { readonly store?: string }) => string,
): Command {
  const time = (text: string): number => parseTimeMs(text, Date.now());
  return command
    .option('--from <time>', 'from this moment (default: the first sample)', time)
    .option('--to <time>', 'up to this moment, not included (default: past the last sample)', time)
    .option('--host <host>', "of this host; an imported set bears the set's name (default: the only one)")
    .option('--guest <guest...>', 'of these guests only')
    .option(
      '--usage <field=sql>',
      `what a field of the usage is, as an expression over the columns of shadow; fields: ${PROFILE_COLUMNS.join(', ')}`,
      parseUsage,
    )
    .option(
      '--speed <factor>',
      '1: as it was, 60: a minute a second, max: as fast as it goes',
      parseSpeed,
      Infinity,
    )
    .option(
      '--forecast-every <duration>',
      'forecast each guest without a request so often; 0s: never',
      parseDurationMs,
      FORECAST_EVERY_MS,
    )
    .option(
      '--config <file>',
      `TOML file of the engine (default: ${DEFAULT_CONFIG_PATH}, or defaults without one)`,
    )
    .option(
      '--out <file>',
      'write the decisions there; without it they go to stdout, and with --json nowhere',
    )
    .addHelpText(
      'after',
      `
The engine is in shadow mode and touches nothing. What it decides is written as one JSON document a line: "lease" for each
request, "decision", "end", "refused" and "forecast". The same record gives the same bytes: compare the sha256.

Examples:
  $ foreshade shadow replay --from 2026-01-31T00:00:00Z --to 2026-02-01T00:00:00Z --out decisions.jsonl
  $ foreshade shadow replay --host bitbrains_rnd_2013_08 --usage "cpu_millicores=cpu_mhz / 2.6" --usage "memory_bytes=mem_kb * 1024" --json`,
    )
    .action(async (options: ReplayOptions) => {
      if (options.from !== undefined && options.to !== undefined && options.from >= options.to)
        command.error('error: --from must be before --to');
      await replay(io, directoryOf(options), options);
    });
}

/** A standing forecast an hour shows where a guest goes, and does not drown the requests. */
const FORECAST_EVERY_MS = 3_600_000;

function parseSpeed(text: string): number {
  const speed = text === 'max' ? Number.POSITIVE_INFINITY : Number(text);
  if (!(speed > 0)) throw new InvalidArgumentError('A speed is a number above 0, or max.');
  return speed;
}

function parseUsage(text: string, before: ReplayOptions['usage'] = {}): NonNullable<ReplayOptions['usage']> {
  const at = text.indexOf('=');
  const field = PROFILE_FIELDS[PROFILE_COLUMNS.indexOf(text.slice(0, at).trim())];
  const sql = text.slice(at + 1).trim();
  if (at < 0 || field === undefined || sql === '')
    throw new InvalidArgumentError(`It is FIELD=SQL, with a field of ${PROFILE_COLUMNS.join(', ')}.`);
  return { ...before, [field]: sql };
}

async function replay(io: Io, directory: string, options: ReplayOptions): Promise<void> {
  // Loaded here, so that the other commands of the shadow need neither the engine nor the kernels.
  const { enginePolicy } = await import('../engine-policy.ts');
  const { ParametricForecaster } = await import('../forecast/parametric-forecaster.ts');
  const { MemoryLedger } = await import('../ledger/memory-ledger.ts');
  const { Replay } = await import('../replay/replay.ts');
  const { surveyStretch } = await import('../replay/shadow-rows.ts');
  const { ShadowReader } = await import('../store/reader.ts');
  const policy = enginePolicy(loadConfig(options.config));
  const shadow = new ShadowReader(directory);
  let out: DecisionFile | undefined;
  try {
    const stretch = await surveyStretch(shadow, choiceOf(options), io.signal);
    if (
      stretch.guests.every(({ used }) => used.cpuMillicores === undefined && used.memoryBytes === undefined)
    )
      io.err('No sample of this stretch has CPU or memory in the terms of the engine: see --usage\n');
    const file = new DecisionFile(io, options);
    out = file;
    const progress = new Progress(io);
    const result = await new Replay({
      shadow,
      stretch,
      forecaster: await ParametricForecaster.create(),
      ledger: new MemoryLedger(),
      policy,
      speed: options.speed,
      forecastEveryMs: options.forecastEvery,
      sink: (text) => file.write(text),
      onProgress: (fraction, atMs) => progress.tell(fraction, localTime(Math.floor(atMs))),
    }).run(io.signal);
    progress.end();
    file.close();
    if (options.json) printAnswer(io, true, { document: resultDocument(stretch, result), text: '' });
    else io.err(`${resultText(stretch, result)}\n`);
    if (result.isCut) throw new Unsuccessful('ended before the stretch did');
  } finally {
    await shadow.close();
    out?.close();
  }
}

function choiceOf({ from, to, host, guest, usage }: ReplayOptions): StretchChoice {
  return {
    ...(from !== undefined && { fromMs: from }),
    ...(to !== undefined && { toMs: to }),
    ...(host !== undefined && { host }),
    ...(guest !== undefined && { guests: guest }),
    ...(usage !== undefined && { usage }),
  };
}

function resultDocument({ host, fromMs, guests }: Stretch, result: ReplayResult) {
  const { samples, requests, refused, leases, decisions, ends, forecasts, complaints } = result;
  return {
    host,
    from_ms: fromMs,
    to_ms: result.playedToMs,
    is_cut: result.isCut,
    guests: guests.length,
    samples,
    requests,
    leases,
    refused,
    decisions,
    ends,
    forecasts,
    complaints,
    sha256: result.sha256,
    seconds: Number(result.seconds.toFixed(3)),
    speed_up: Number(result.speedUp.toPrecision(4)),
  };
}

function resultText(stretch: Stretch, result: ReplayResult): string {
  const count = (value: number): string => value.toLocaleString('en-US');
  const { samples, requests, refused, decisions, ends, forecasts } = result;
  return facts([
    ['played', `${localTime(Math.floor(stretch.fromMs))} to ${localTime(Math.floor(result.playedToMs))}`],
    ...(result.isCut ? [['cut', 'it was ended before the stretch did'] as const] : []),
    ['host', stretch.host],
    ['guests', count(stretch.guests.length)],
    ['samples', count(samples)],
    ['requests', `${count(requests)}, ${count(refused)} refused`],
    ['decisions', `${count(decisions)}, ${count(ends)} ends, ${count(forecasts)} forecasts`],
    ['sha256', result.sha256],
    ['took', `${result.seconds.toFixed(1)} s, ${count(Math.round(result.speedUp))} times as fast as it was`],
  ]);
}
