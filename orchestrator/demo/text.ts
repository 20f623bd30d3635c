import type { Amounts, Interval, RequestRecord } from './request.ts';
import { type Bar, type Comparison, forecastError } from './scores.ts';

const MIB = 1024 * 1024;
const cores = (millicores: number | undefined): string => ((millicores ?? Number.NaN) / 1000).toFixed(2);
const mib = (bytes: number | undefined): string => Math.round((bytes ?? Number.NaN) / MIB).toString();
const seconds = (ms: number): string => (ms / 1000).toFixed(2);
const percent = (fraction: number): string => `${(100 * fraction).toFixed(0)} %`;

function paramsText(record: RequestRecord): string {
  const { input_mib, level, mode } = record.params;
  return `encode ${String(input_mib).padStart(3)} MiB  level ${level}  ${mode.padEnd(8)}`;
}

function amounts({ cpu, memory }: Amounts): string {
  return `${cores(cpu)} cores ${mib(memory).padStart(4)} MiB`;
}

function interval(of: Interval | undefined, unit: (value: number | undefined) => string): string {
  return of === undefined ? 'unknown' : `${unit(of.q50)} [${unit(of.q05)} .. ${unit(of.q95)}]`;
}

/** One line of the history: what was foreseen beside what came. */
export function historyLine(number: number, record: RequestRecord): string {
  const foreseen = {
    cpu: record.predicted.cpu?.q50 ?? Number.NaN,
    memory: record.predicted.memory?.q50 ?? Number.NaN,
  };
  const off = `off by ${percent(forecastError(record, 'cpu')).padStart(5)} cpu ${percent(forecastError(record, 'memory')).padStart(5)} memory`;
  return `${String(number).padStart(4)}  ${paramsText(record)}  foreseen ${amounts(foreseen)}   used ${amounts(record.used)}   ${off}`;
}

/** The timeline of one request, seconds since it was asked for. */
export function timeline(number: number, record: RequestRecord): string {
  const at = (ms: number): string => `${seconds(ms - record.requested_at).padStart(7)} s  `;
  const { predicted, guest_seen: seen } = record;
  const lines = [
    `${String(number).padStart(4)}  ${paramsText(record)}${record.departs ? '  (will depart from its parameters)' : ''}`,
    `${at(record.requested_at)}asked      foreseen ${interval(predicted.cpu, cores)} cores, ${interval(predicted.memory, mib)} MiB, ${interval(predicted.duration_s, (s) => (s ?? Number.NaN).toFixed(1))} s`,
    `${at(record.in_place_at)}in place   ${amounts(record.granted)} on ${record.granted.vcpu_count} vCPUs; inside the guest: ${seen === null ? 'no agent answers' : `${seen.vcpus_online} vCPUs online, ${mib(seen.mem_total_bytes)} MiB`}`,
    `${at(record.workload_started_at)}started    ${seconds(record.workload_started_at - record.in_place_at)} s after its resources were there`,
    ...record.adjustments.map((adjustment) => `${at(adjustment.at)}adjusted   ${adjustmentText(adjustment)}`),
    `${at(record.workload_finished_at)}${record.workload_status === 'done' ? 'finished ' : record.workload_status.padEnd(9)}  used ${amounts(record.used)}`,
    `${at(record.released_at)}released   ${record.baseline_restored ? 'back at the baseline' : 'NOT back at the baseline'}${relearned(record)}`,
  ];
  return lines.sort(byTime).join('\n');
}

/** Lines carry their time in front; the heading has none and stays first. */
function byTime(a: string, b: string): number {
  const time = (line: string): number =>
    Number.parseFloat(/^\s*(-?[\d.]+) s {2}/.exec(line)?.[1] ?? '-Infinity');
  return time(a) - time(b);
}

function adjustmentText({ resource, from, to, reason }: RequestRecord['adjustments'][number]): string {
  const size =
    resource === 'cpu'
      ? (value: number) => `${cores(value)} cores`
      : (value: number) => `${mib(value)} MiB${resource === 'memory' ? '' : '/s'}`;
  return `${resource} ${size(from)} -> ${size(to)}: ${reason}`;
}

function relearned({ relearned: forecasts }: RequestRecord): string {
  if (forecasts === undefined) return '; learned';
  return `; learned: the forecast for these parameters moved from ${amounts(forecasts.before)} to ${amounts(forecasts.after)}`;
}

export function comparisonText(comparison: Comparison): string {
  const longest = Math.max(comparison.fixed, comparison.reactive, comparison.foreshade);
  const row = (rival: 'fixed' | 'reactive' | 'foreshade', what: string): string => {
    const bar = '█'.repeat(Math.max(1, Math.round((comparison[rival] / longest) * 40)));
    const failures = comparison.failures[rival];
    const killed = failures > 0 ? `  ${failures} of ${comparison.runs[rival].length} killed` : '';
    return `  ${rival.padEnd(10)} ${comparison[rival].toFixed(2).padStart(6)} s  ${bar}${killed}\n             ${what}`;
  };
  return [
    row('fixed', 'one vCPU, the least memory that does not kill the work'),
    row('reactive', 'looks once a second, grows above 80 % of use'),
    row('foreshade', 'from the request on, allocation included'),
  ].join('\n');
}

export function barsText(bars: readonly Bar[]): string {
  const width = Math.max(...bars.map(({ name }) => name.length));
  return bars
    .map(
      ({ name, value, bar, met }) =>
        `  ${met ? '✓' : '✗'} ${name.padEnd(width)}  ${value.toFixed(2).padStart(7)}   bar ${bar}`,
    )
    .join('\n');
}
