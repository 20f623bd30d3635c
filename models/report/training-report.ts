import type { Markup } from './markup.ts';
import { dataTable, legend, pageText, section, shareBar } from './page.ts';
import { plot } from './plot.ts';

/** What a training found, for its report. Losses are in units of the pool's before training. */
export interface TrainingFindings {
  /** NAME@VERSION. */
  readonly model: string;
  /** ISO 8601. */
  readonly madeAt: string;
  readonly sets: readonly {
    readonly name: string;
    readonly licence: string;
    readonly series: number;
    readonly bins: number;
    readonly stepS?: number;
    readonly heldBack?: { readonly stretches: number; readonly loss: number; readonly lossNoLstm: number };
  }[];
  readonly stretches: number;
  readonly seed: number;
  readonly untilStep?: number;
  readonly epochs: readonly {
    readonly epoch: number;
    readonly learned: number;
    readonly heldBack: number;
    readonly heldBackNoLstm: number;
  }[];
  readonly heldBackLoss: number;
  readonly heldBackLossNoLstm: number;
  readonly dataSha256: string;
  readonly seconds: number;
}

/** The report of a training: one HTML document that needs nothing beside it. */
export function trainingReport(found: TrainingFindings): string {
  const { model, madeAt, sets, epochs, seed, untilStep, seconds } = found;
  const until = untilStep === undefined ? '' : `, the first ${whole(untilStep)} steps of each series`;
  return pageText({
    title: `Training of ${model}`,
    subtitle: `${sets.map(({ name }) => name).join(', ')}${until} · seed ${seed}`,
    madeAt,
    tiles: [
      { label: 'Held-back loss', value: below(found.heldBackLoss), note: 'below the pool before training' },
      {
        label: 'Without its LSTM',
        value: below(found.heldBackLossNoLstm),
        note: 'the same model, recurrent part off',
      },
      { label: 'Learned from', value: whole(found.stretches), note: `stretches of ${sets.length} sets` },
      { label: 'Epochs', value: String(epochs.length), note: `the best one: ${bestOf(epochs)}` },
      { label: 'Took', value: duration(seconds) },
    ],
    sections: [lossSection(epochs), setSection(sets), originSection(sets, found.dataSha256)],
  });
}

function lossSection(epochs: TrainingFindings['epochs']): Markup {
  const line = (key: 'learned' | 'heldBack' | 'heldBackNoLstm') =>
    epochs.map((result) => ({ x: result.epoch, y: result[key] }));
  const entries = [
    { tone: 'a', label: 'held back', points: line('heldBack'), dots: true },
    { tone: 'b', label: 'held back, without the LSTM', points: line('heldBackNoLstm'), dots: true },
    { tone: 'quiet', label: 'learned from', points: line('learned'), dashed: true },
  ] as const;
  return section(
    'Loss by epoch',
    'CRPS of the pool in units of its own with fixed weights, before training: 1 is no better, lower is better. The weights of the epoch with the least held-back loss are kept, and of their recurrent part a share: the loss above lies between its two lines.',
    legend(entries),
    plot({
      description: 'Losses by epoch: learned from, held back, and held back without the recurrent part',
      xTitle: 'epoch',
      yTitle: 'loss',
      size: { width: 1000, height: 320 },
      xText: (epoch) => `epoch ${epoch}`,
      marks: entries.map((entry) => ({ kind: 'line', ...entry })),
    }),
  );
}

function setSection(sets: TrainingFindings['sets']): Markup {
  return section(
    'By set',
    'Loss of the model that was kept on the series that were kept back of each set, one in eight. A set of fewer than eight series keeps none back.',
    dataTable(
      [
        { head: 'set' },
        { head: 'series', numeric: true },
        { head: 'steps', numeric: true },
        { head: 'spacing', numeric: true },
        { head: 'held back', numeric: true },
        { head: 'without LSTM', numeric: true },
        { head: 'loss' },
      ],
      sets.map(({ name, series, bins, stepS, heldBack }) => [
        name,
        whole(series),
        whole(bins),
        stepS === undefined ? '-' : `${stepS} s`,
        heldBack === undefined ? '-' : heldBack.loss.toFixed(3),
        heldBack === undefined ? '-' : heldBack.lossNoLstm.toFixed(3),
        heldBack === undefined ? 'none kept back' : shareBar(heldBack.loss, `${below(heldBack.loss)} below`),
      ]),
    ),
  );
}

function originSection(sets: TrainingFindings['sets'], sha256: string): Markup {
  return section(
    'Where it comes from',
    `Licences as the sets state them. SHA-256 over all that was learned from: ${sha256}`,
    dataTable(
      [{ head: 'set' }, { head: 'licence' }],
      sets.map(({ name, licence }) => [name, licence]),
    ),
  );
}

function bestOf(epochs: TrainingFindings['epochs']): string {
  const best = epochs.reduce((least, one) => (one.heldBack < least.heldBack ? one : least), {
    epoch: 0,
    heldBack: 1,
  });
  return best.epoch === 0 ? 'none, the start' : String(best.epoch);
}

function below(loss: number): string {
  const percent = (1 - loss) * 100;
  return `${percent.toFixed(1)} %`;
}

function whole(value: number): string {
  return value.toLocaleString('en-US');
}

function duration(seconds: number): string {
  return seconds < 120 ? `${seconds.toFixed(1)} s` : `${(seconds / 60).toFixed(1)} min`;
}
