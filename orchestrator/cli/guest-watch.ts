import { Argument, Command } from 'commander';
import type { FieldForecast, Forecast } from '../../proto/gen/foreshade/v1/resources.ts';
import type { Sample } from '../../proto/gen/foreshade/v1/shadow.ts';
import type { Track } from '../core/forecast.ts';
import { WIRE_TRACK } from '../service/enums.ts';
import { forecastDocument, profileDocument } from './documents.ts';
import { type Io, printAnswer } from './io.ts';
import { addClientOptions, type ClientOptions, trackOption, withClient } from './options.ts';
import { FIELD_TEXT } from './profile-text.ts';
import { localTime, parseCount } from './quantities.ts';

/** Levels that are shown beside what came. */
const SHOWN = [0.5, 0.9] as const;

interface WatchOptions extends ClientOptions {
  readonly count?: number;
  readonly track: Track;
}

/** `foreshade guest watch`: samples as they come, beside what was foreseen for their moment. */
export function guestWatchCommand(io: Io): Command {
  return addClientOptions(new Command('watch'))
    .description('Follow the samples of a guest, beside what was foreseen of each; Ctrl-C stops')
    .addArgument(new Argument('<guest>', 'UUID or name'))
    .option('-n, --count <samples>', 'end after so many; with --json 1 unless it is named', parseCount)
    .addOption(trackOption('of what is foreseen'))
    .action(async (guest: string, options: WatchOptions) => {
      const watched = { guest, track: WIRE_TRACK[options.track] };
      const count = options.count ?? (options.json ? 1 : Number.POSITIVE_INFINITY);
      const samples: unknown[] = [];
      let taken = 0;
      let before: Forecast | undefined;
      await withClient(io, options, async (client) => {
        const { shadow } = client;
        for await (const sample of client.follow(shadow, shadow.watchGuest, watched, io.signal)) {
          if (options.json) samples.push(sampleDocument(sample));
          else io.out(`${sampleLine(sample, before)}\n`);
          before = sample.forecast ?? before;
          taken += 1;
          if (taken >= count) break;
        }
      });
      if (options.json) printAnswer(io, true, { document: { samples }, text: '' });
    });
}

/** What a sample read, by field, and what an earlier forecast said of it: its median, and its q0.9. */
export function sampleLine(sample: Sample, before: Forecast | undefined): string {
  const usage: Readonly<Record<string, number | undefined>> = profileDocument(sample.usage) ?? {};
  const parts = Object.entries(FIELD_TEXT).flatMap(([field, { label, show }]) => {
    const value = usage[field];
    if (value === undefined) return [];
    const foreseen = foreseenAt(before, field, sample.atMs ?? 0);
    const words = foreseen && ` (${show(foreseen[0])}, q0.9 ${show(foreseen[1])})`;
    return [`${label} ${show(value)}${words ?? ''}`];
  });
  return [localTime(sample.atMs), ...parts, ...sample.flags].join('  ');
}

/** SHOWN levels of a field at a moment, read between knots; undefined where nothing was foreseen. */
function foreseenAt(
  forecast: Forecast | undefined,
  field: string,
  atMs: number,
): readonly [number, number] | undefined {
  const row = forecast?.fields.find((candidate) => candidate.field === field);
  if (forecast === undefined || row === undefined) return undefined;
  const [median, upper] = SHOWN.map((level) => valueAt(forecast, row, level, atMs));
  return median === undefined || upper === undefined ? undefined : [median, upper];
}

function valueAt(
  { knots, levels, originMs = 0 }: Forecast,
  { values }: FieldForecast,
  level: number,
  atMs: number,
): number | undefined {
  const at = levels.indexOf(level);
  if (at < 0 || knots.length === 0) return undefined;
  const aheadS = (atMs - originMs) / 1000;
  const above = knots.findIndex((knot) => knot >= aheadS);
  const upper = above < 0 ? knots.length - 1 : above;
  const lower = above <= 0 ? upper : above - 1;
  const [from = 0, to = 0] = [knots[lower], knots[upper]];
  const [low, high] = [values[lower * levels.length + at], values[upper * levels.length + at]];
  if (low === undefined || high === undefined) return undefined;
  return to === from ? high : low + ((high - low) * (aheadS - from)) / (to - from);
}

function sampleDocument(sample: Sample) {
  return {
    guest: sample.guest,
    at_ms: sample.atMs,
    period_ms: sample.periodMs,
    cadence: sample.cadence,
    usage: profileDocument(sample.usage),
    flags: sample.flags,
    ...(sample.forecast && { forecast: forecastDocument(sample.forecast, undefined) }),
  };
}
