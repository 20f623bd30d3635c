import { resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { type Detection, type DetectorScore, detect } from '../../models/detect/detection.ts';
import { ScoreFile } from '../../models/detect/score-file.ts';
import { Anomalies, HISTORY_ROWS_MIN } from '../wasm/anomaly.ts';
import { type Io, printAnswer } from './io.ts';
import { Progress } from './progress.ts';
import { facts, table } from './table.ts';

/** A week of five minutes. */
const WARM_UP_ROWS = 2016;

interface DetectOptions {
  readonly data: string;
  readonly out: string;
  readonly warmUp: number;
  readonly force?: boolean;
  readonly json?: boolean;
}

/** `foreshade detect`: score how unusual each row of a recorded set is. */
export function detectCommand(io: Io): Command {
  return new Command('detect')
    .description('Score how unusual each row of a recorded set is, by nothing but what came before it')
    .requiredOption(
      '--data <folder>',
      'the set: dataset.json, series.csv.gz, and test.csv.gz and labels.csv.gz if it has them',
    )
    .requiredOption('--out <file>', 'where the scores go: columns series, t, score')
    .option(
      '--warm-up <rows>',
      'rows of each series to learn from, of a set without a test part',
      parseRows,
      WARM_UP_ROWS,
    )
    .option('--force', 'replace the file of scores if it exists')
    .option('--json', 'print exactly one JSON document on stdout')
    .addHelpText(
      'after',
      `
Examples:
  $ foreshade detect --data sets/servers --out scores.csv
  $ foreshade detect --data sets/web --warm-up 4032 --out scores.csv --force --json`,
    )
    .action((options: DetectOptions) => run(io, options));
}

function parseRows(text: string): number {
  const rows = Number(text);
  if (!Number.isSafeInteger(rows) || rows < HISTORY_ROWS_MIN)
    throw new InvalidArgumentError(`It is a whole number from ${HISTORY_ROWS_MIN}.`);
  return rows;
}

async function run(io: Io, options: DetectOptions): Promise<void> {
  const began = performance.now();
  const path = resolve(options.out);
  const file = new ScoreFile(path, options.force === true);
  try {
    if (io.errIsTerminal) io.err(`reading ${options.data}\n`);
    const progress = new Progress(io);
    const found = await detect({
      folder: resolve(options.data),
      source: await Anomalies.load(),
      warmUpRows: options.warmUp,
      take: (scored, done, count) => {
        io.signal.throwIfAborted();
        file.add(scored);
        progress.tell(done / count, `${done} of ${count} series`);
      },
    });
    progress.end();
    file.finish();
    if (found.tooShort > 0) io.err(`series no longer than the warm-up, left out: ${found.tooShort}\n`);
    const seconds = (performance.now() - began) / 1000;
    printAnswer(io, options.json, {
      document: detectionDocument(path, found, seconds),
      text: detectionText(path, found, seconds),
    });
  } finally {
    file.discard();
  }
}

function detectionDocument(out: string, { series, rows, step, labelled }: Detection, seconds: number) {
  return {
    out,
    series,
    rows,
    step_us: { p50: microseconds(step.percentile(0.5)), p99: microseconds(step.percentile(0.99)) },
    seconds: Number(seconds.toFixed(3)),
    ...(labelled && {
      labelled_rows: labelled.labelled,
      events: labelled.detector.events,
      machine_days: labelled.machineDays,
      detector: scoreDocument(labelled.detector),
      three_sigma: scoreDocument(labelled.threeSigma),
    }),
  };
}

function scoreDocument({ areaUnderPr, events, found, falseEpisodes, threshold }: DetectorScore) {
  return {
    area_under_pr: areaUnderPr,
    events_found: found,
    event_share: found / events,
    false_episodes: falseEpisodes,
    threshold: Number.isFinite(threshold) ? threshold : null,
  };
}

function microseconds(value: number): number {
  return Number(value.toPrecision(3));
}

function detectionText(out: string, found: Detection, seconds: number): string {
  const { series, rows, step, labelled } = found;
  const cost = `${microseconds(step.percentile(0.5))} us, one in a hundred above ${microseconds(step.percentile(0.99))} us`;
  const said = facts([
    ['scores', out],
    ['rows', `${rows.toLocaleString('en-US')} of ${series.toLocaleString('en-US')} series`],
    ['step', cost],
    [
      'labels',
      labelled &&
        `${labelled.labelled.toLocaleString('en-US')} rows, ${labelled.detector.events} events in ${labelled.machineDays.toFixed(1)} machine-days`,
    ],
    ['took', `${seconds.toFixed(1)} s`],
  ]);
  if (labelled === undefined) return said;
  const row = (
    name: string,
    { areaUnderPr, events, found: hits, falseEpisodes, threshold }: DetectorScore,
  ) => [
    name,
    areaUnderPr.toFixed(4),
    events === 0 ? '-' : `${((100 * hits) / events).toFixed(1)} %`,
    (falseEpisodes / labelled.machineDays).toFixed(2),
    Number.isFinite(threshold) ? threshold.toFixed(4) : '-',
  ];
  const rowsOf = [row('foreshade', labelled.detector), row('three sigma', labelled.threeSigma)];
  const head = ['', 'area under PR', 'events found', 'false episodes a day', 'threshold'];
  return `${said}\n\n${table(head, rowsOf, { right: [1, 2, 3, 4] })}`;
}
