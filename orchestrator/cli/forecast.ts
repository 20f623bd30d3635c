import { Command, Option } from 'commander';
import type { ForecastResponse } from '../../proto/gen/foreshade/v1/allocation.ts';
import type { Forecast, ParamValue, ResourceProfile } from '../../proto/gen/foreshade/v1/resources.ts';
import type { ForecastScale } from '../core/forecast.ts';
import type { Priority } from '../core/request.ts';
import { AXIS_OF, WIRE_AXIS, WIRE_PRIORITY, WIRE_TRACK } from '../service/enums.ts';
import { addWorkOptions } from './allocate.ts';
import { forecastDocument } from './documents.ts';
import { type Io, printAnswer } from './io.ts';
import { addClientOptions, type ClientOptions, trackOption, withClient } from './options.ts';
import { FIELD_TEXT, sizesText } from './profile-text.ts';
import { localTime, seconds } from './quantities.ts';
import { facts, table } from './table.ts';

interface ForecastOptions extends ClientOptions, ForecastScale {
  readonly workload?: string;
  readonly param?: Readonly<Record<string, ParamValue>>;
  readonly priority: Priority;
  readonly tenant?: string;
  readonly duration?: number;
  readonly horizon?: number;
}

/** Columns of the table: the outer levels, the median and what priorities are given. */
const SHOWN_LEVELS: readonly number[] = [0.05, 0.5, 0.8, 0.9, 0.95, 0.99];

/** `foreshade forecast`: what `allocate` would see; changes nothing. */
export function forecastCommand(io: Io): Command {
  const command = addWorkOptions(
    new Command('forecast').description('Show what a request would need; changes nothing'),
  )
    .option('--workload <name>', "what kind of work (absent: the guest's own course)")
    .addOption(
      new Option('--axis <axis>', 'what lies ahead is counted in')
        .choices(['seconds', 'instructions'])
        .default('seconds'),
    )
    .addOption(trackOption('how far ahead, and how finely'))
    .option('--horizon <number>', 'how far ahead, on that axis (absent: as far as is forecast)', Number);
  return addClientOptions(command)
    .addHelpText(
      'after',
      `
Examples:
  $ foreshade forecast web-1 --workload encode --param input_mib=64 --param level=9
  $ foreshade forecast web-1
  $ foreshade forecast web-1 --track long
  $ foreshade forecast web-1 --axis instructions --horizon 5e9`,
    )
    .action(async (guest: string, options: ForecastOptions) => {
      const request = {
        guest,
        tenant: options.tenant,
        workload: options.workload,
        params: { ...options.param },
        priority: WIRE_PRIORITY[options.priority],
        durationMs: options.duration,
        axis: WIRE_AXIS[options.axis],
        track: WIRE_TRACK[options.track],
        horizon: options.horizon,
      };
      const answer = await withClient(io, options, (client) =>
        client.ask(client.allocation, client.allocation.forecast, request, {
          timeoutMs: options.timeout,
          signal: io.signal,
        }),
      );
      if (!answer.forecast) throw new Error('The service answered without a forecast.');
      const document = forecastDocument(answer.forecast, answer.requested);
      printAnswer(io, options.json, { document, text: forecastText(answer, answer.forecast) });
    });
}

function forecastText({ requested }: ForecastResponse, forecast: Forecast): string {
  const head = facts([
    ['guest', forecast.guest],
    ['from', `${forecast.reason} (${forecast.runs ?? 0} runs)`],
    ['as of', localTime(forecast.originMs)],
    ['would ask for', requested && askedText(requested)],
  ]);
  const columns = SHOWN_LEVELS.map((level) => forecast.levels.indexOf(level)).filter((index) => index >= 0);
  const rows = forecast.fields.map(({ field = '', peak }) => {
    const { label, show } = FIELD_TEXT[field] ?? { label: field, show: String };
    return [label, ...columns.map((index) => show(peak[index] ?? Number.NaN))];
  });
  if (forecast.duration.length > 0) {
    rows.push([
      'run time',
      ...columns.map((index) => lengthText(forecast.duration[index] ?? Number.NaN, forecast.axis)),
    ]);
  }
  if (rows.length === 0) return `${head}\n\nNothing has been read on this guest yet.`;
  const levels = columns.map((index) => `${Math.round((forecast.levels[index] ?? 0) * 100)} %`);
  return `${head}\n\n${table(['PEAK', ...levels], rows, { right: columns.map((_, i) => i + 1) })}`;
}

function lengthText(length: number, axis: number | undefined): string {
  if (AXIS_OF.get(axis ?? 0) !== 'instructions') return seconds(length * 1000);
  return `${(length / 1e6).toLocaleString('en-US', { maximumFractionDigits: 0 })} M`;
}

function askedText(requested: ResourceProfile): string {
  const rates = Object.entries({
    disk_read_bytes_per_s: requested.diskReadBytesPerS,
    disk_write_bytes_per_s: requested.diskWriteBytesPerS,
    net_rx_bytes_per_s: requested.netRxBytesPerS,
    net_tx_bytes_per_s: requested.netTxBytesPerS,
  }).flatMap(([field, value]) => {
    const text = FIELD_TEXT[field];
    return value === undefined || !text ? [] : [`${text.label} ${text.show(value)}`];
  });
  return [sizesText(requested), ...rates].join(', ');
}
