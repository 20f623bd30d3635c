import type { ModelManifest, TrainingShare } from '../../models/files/model-file.ts';
import { facts, table } from './table.ts';

/** A model's card: what it is, what it learned from under which licences, how well, and what it is not for. */
export function cardDocument(manifest: ModelManifest, serves: boolean) {
  const gain = lstmGain(manifest);
  return { ...manifest, serves, ...(gain !== undefined && { lstmGain: gain }), limits: limitsOf(manifest) };
}

export function cardText(manifest: ModelManifest, path: string, serves: boolean): string {
  const { name, version, createdAt, inputs, hidden, groups, knots } = manifest;
  return [
    facts([
      ['model', `${name}@${version}${serves ? ', which serves' : ''}`],
      ['made at', createdAt],
      ['kept in', path],
      ['checksum', manifest.sha256],
      ['weighs', `${groups} experts at ${knots.length} horizons: ${knots.join(', ')} steps`],
      ['recurrent part', `an LSTM of ${hidden} over ${inputs} features a step`],
    ]),
    section('Data', dataText(manifest)),
    section('Scores', scoresText(manifest)),
    section(
      'Limits',
      limitsOf(manifest)
        .map((limit) => `- ${limit}`)
        .join('\n'),
    ),
  ].join('\n\n');
}

function section(title: string, text: string): string {
  return `${title}\n${text.replace(/^(?=.)/gm, '  ')}`;
}

function dataText({ data, imported, dataSha256, untilStep, seed, epochs }: ModelManifest): string {
  if (imported !== undefined)
    return `not told: imported from ${imported.file}\nSHA-256 of the file ${imported.sha256}`;
  const rows = data.map(({ name, licence, series, bins, stepS }) => [
    name,
    series.toLocaleString('en-US'),
    bins.toLocaleString('en-US'),
    stepS === undefined ? '-' : `${stepS} s`,
    licence,
  ]);
  return [
    table(['set', 'series', 'steps', 'spacing', 'licence'], rows, { right: [1, 2, 3] }),
    '',
    facts([
      [
        'learned from',
        untilStep === undefined ? 'all of each series' : `the first ${untilStep} steps of each series`,
      ],
      ['kept back', 'one series in eight of each set'],
      ['epochs, seed', epochs === undefined ? undefined : `${epochs}, ${seed}`],
      ['SHA-256', dataSha256],
    ]),
  ].join('\n');
}

function scoresText(manifest: ModelManifest): string {
  const { heldBackLoss, heldBackLossNoLstm, data } = manifest;
  if (heldBackLoss === undefined) return 'not told: foreshade evaluate scores it on sets of yours';
  const gain = lstmGain(manifest);
  const own = facts([
    ['on what was kept back', lossText(heldBackLoss)],
    ['without its recurrent part', lossText(heldBackLossNoLstm)],
    ['the recurrent part alone', gain === undefined ? undefined : `${percent(gain)} of the loss without it`],
  ]);
  const known = data.filter(
    (set): set is TrainingShare & Required<Pick<TrainingShare, 'heldBack'>> => set.heldBack !== undefined,
  );
  if (known.length === 0) return own;
  const rows = known.map(({ name, heldBack: { loss, lossNoLstm } }) => [
    name,
    loss.toFixed(3),
    lossNoLstm.toFixed(3),
    percent(1 - loss / lossNoLstm),
  ]);
  const head = ['kept back of', 'loss', 'without LSTM', 'gain of the LSTM'];
  return [own, '', table(head, rows, { right: [1, 2, 3] })].join('\n');
}

/** @param loss in units of the pool's before training; absent: nobody told */
export function lossText(loss: number | undefined): string | undefined {
  return loss === undefined ? undefined : `${percent(1 - loss)} below the pool before training`;
}

/** By which share the recurrent part lowers the held-back loss; below 0 it raises it. */
function lstmGain({ heldBackLoss, heldBackLossNoLstm }: ModelManifest): number | undefined {
  if (heldBackLoss === undefined || heldBackLossNoLstm === undefined) return undefined;
  return 1 - heldBackLoss / heldBackLossNoLstm;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(2)} %`;
}

/** What a model cannot do, or nobody has shown that it can. */
function limitsOf({ data, knots, imported }: ModelManifest): string[] {
  const spacings = [...new Set(data.flatMap(({ stepS }) => stepS ?? []))].sort((a, b) => a - b);
  return [
    'It weighs experts over the past of a series: one without a past has no forecast of it.',
    `Beyond ${knots.at(-1)} steps it weighs them as at ${knots.at(-1)}.`,
    'Quantiles are made of values like those the series had: a level never seen before comes as a surprise.',
    'Each metric is forecast by itself; nothing is said of several at once.',
    spacings.length === 0
      ? 'At which spacings of time it was trained nobody told.'
      : `It was trained at spacings of ${spacings.map((stepS) => `${stepS} s`).join(', ')} and twelve times that, where a day is a multiple.`,
    imported === undefined
      ? 'Its losses are of other series of the sets above. On other systems score it yourself, with and without --no-lstm: foreshade evaluate.'
      : 'Its experts are trusted by their records as before any training.',
  ];
}
