// Goal: a report is one HTML file that needs nothing from anywhere, tells what the command found, and lets no name of a
// series or set become markup. Method: ticks and escapes by hand; reports of a small set with hostile names, read as text.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { FanCollector } from '../../models/evaluate/fans.ts';
import { markup } from '../../models/report/markup.ts';
import { plot } from '../../models/report/plot.ts';
import { ticksOf, tickText } from '../../models/report/ticks.ts';
import { randomFrom } from '../random.ts';
import { runCaptured } from '../run-cli.ts';

const SEED = 611;
t.comment(`seed ${SEED}`);
const root = t.testdir();
const HOSTILE = `<script>alert("1")</script>'&`;
const ESCAPED = '&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&#39;&amp;';

t.test('what is put into a template is escaped once, markup is not', async (t) => {
  t.equal(markup`<b title="${HOSTILE}">${HOSTILE}</b>`.text, `<b title="${ESCAPED}">${ESCAPED}</b>`);
  t.equal(markup`${[markup`<i>${'<'}</i>`, 7, undefined]}`.text, '<i>&lt;</i>7');
});

t.test('ticks are round', async (t) => {
  t.match(ticksOf([0.03, 0.47], 5), { low: 0, high: 0.5, step: 0.1 });
  t.strictSame(ticksOf([1, 12], 6, true, 1).values, [2, 4, 6, 8, 10, 12]);
  t.strictSame(ticksOf([1, 4], 6, true, 1).values, [1, 2, 3, 4], 'no half epochs');
  t.match(ticksOf([5, 5], 5), { low: 2, high: 8 }, 'a width of its own for a single value');
  t.equal(ticksOf([0, 0], 5).step, 0.2);
  for (const [value, step, text] of [
    [0.5, 0.1, '0.5'], [0.25, 0.25, '0.25'], [1, 0.5, '1.0'], [0, 0.1, '0'], [-1e-17, 0.1, '0'], [12, 2, '12'],
    [5000, 5000, '5k'], [2500, 500, '2.5k'], [8592, 1, '8592'], [15e6, 5e6, '15M'], [2.5e9, 5e8, '2.5G'],
  ] as const) t.equal(tickText(value, step), text); // biome-ignore format: several a line
});

t.test('a plot leaves a gap where nothing was read, and survives nothing at all', async (t) => {
  const line = (ys: number[]) =>
    plot({
      description: 'd',
      xTitle: 'x',
      yTitle: 'y',
      marks: [{ kind: 'line', tone: 'a', label: 'l', points: ys.map((y, x) => ({ x, y })) }],
    }).text;
  t.match(line([1, 2, Number.NaN, 3, 4]), /d="M[^M]+L[^M]+M[^M]+L[^M"]+"/);
  for (const ys of [[], [Number.NaN], [0, 0], [1e-300, 2e-300], [-1e300, 1e300]])
    t.notMatch(line(ys), /NaN|Infinity|undefined/, String(ys));
});

t.test('fans: the hardest of different series, and series at even distances', async (t) => {
  const collector = new FanCollector(['m'], 8);
  for (let i = 0; i < 8; i += 1) {
    const grid = {
      series: `s${i}`,
      startAt: 0,
      step: 1,
      steps: 6,
      values: [Float64Array.of(0, 1, 2, 3, 4, i === 3 ? Number.NaN : 5)],
      duplicates: 0,
      outside: 0,
    };
    for (const origin of [4, 5]) {
      const forecast = new Float64Array(9).fill(origin);
      collector.watch({ grid, metric: 0, origin, forecast, loss: (i * 3) % 8 });
      forecast.fill(-1); // valid during the call only
    }
  }
  t.strictSame(
    collector.fans.map(({ series, why, origin }) => `${series} ${why} ${origin}`),
    ['s5 hardest 4', 's2 hardest 4', 's1 even 5', 's3 even 4', 's5 even 5', 's7 even 5'],
    'of s3 the last window has no value',
  );
  const [first] = collector.fans;
  t.strictSame([...(first?.past ?? [])], [2, 3], 'two horizons of the past');
  t.strictSame([...(first?.actual ?? []), first?.forecast[0]], [4, 4]);
});

function newSet(): string {
  const folder = join(root, 'set');
  mkdirSync(folder);
  const next = randomFrom(SEED);
  writeFileSync(
    join(folder, 'dataset.json'),
    JSON.stringify({ name: HOSTILE, kind: 'series', step_seconds: 300, season_steps: 24, licence: HOSTILE }),
  );
  const rows = Array.from('abcdefghi').flatMap((series) =>
    Array.from({ length: 300 }, (_, i) => {
      const name = `"${series}${HOSTILE.replaceAll('"', '""')}"`;
      return `${name},${i * 300},${i % 24 < 8 ? 50 + next() : next()}\n`;
    }),
  );
  writeFileSync(join(folder, 'series.csv'), `series,t,cpu\n${rows.join('')}`);
  return folder;
}
const set = newSet();

/** Holds for every report. */
function checkPage(t: Test, path: string): string {
  const page = readFileSync(path, 'utf8');
  t.match(page, /^<!doctype html>[\s\S]*<\/html>\n$/);
  t.match(page, /default-src 'none'; style-src 'unsafe-inline'/);
  t.match(page, /prefers-color-scheme: dark/);
  t.notMatch(page, /<script|https?:|url\(|@import|\bsrc=|\bhref=/, 'nothing is fetched or run');
  t.ok(page.includes(ESCAPED), 'names are shown as they are');
  t.notMatch(page, /NaN|undefined|Infinity|\[object/);
  const open = [...page.matchAll(/<(svg|g|table|section|div|figure|tr|td|ul|li|main)\b/g)].length;
  const closed = [...page.matchAll(/<\/(svg|g|table|section|div|figure|tr|td|ul|li|main)>/g)].length;
  t.equal(open, closed, 'what is opened is closed');
  return page;
}

t.test('of an evaluation', async (t) => {
  const path = join(root, 'evaluation.html');
  const { code, out, err } = await runCaptured([
    'evaluate', '--data', set, '--metrics', 'cpu', '--horizon', '24', '--windows', '3', '--season', '24',
    '--baseline', 'seasonal-naive', '--reference', 'last-value', '--report', path, '--json',
  ]); // biome-ignore format: as a person types it
  t.equal(code, 0, err);
  t.match(err, /report: .*evaluation\.html/);
  const page = checkPage(t, path);
  const { CRPS, reference } = JSON.parse(out);
  for (const value of [CRPS, reference[0].CRPS])
    t.ok(page.includes(`>${Number(value.toPrecision(4))}<`), `${value}`);
  t.equal([...page.matchAll(/<figure/g)].length, 6);
  t.ok([...page.matchAll(/<svg class="plot"/g)].length >= 8);
  t.strictSame(readdirSync(root).sort(), ['evaluation.html', 'set'], 'no draft is left');
});

t.test('of a training', async (t) => {
  const path = join(root, 'training.html');
  const args = ['train', '--data', set, '--out', 'm', '--epochs', '2', '--models', join(root, 'models')];
  const { code, out, err } = await runCaptured([...args, '--report', path, '--json']);
  t.equal(code, 0, err);
  const page = checkPage(t, path);
  const { held_back_loss, epochs } = JSON.parse(out);
  t.ok(page.includes(`${((1 - held_back_loss) * 100).toFixed(1)} %`));
  t.ok(
    page.includes(`epoch 2: ${epochs[1].held_back_loss.toFixed(3).slice(0, 5)}`),
    'its points say what they are',
  );
  t.match(page, /held back, without the LSTM/);
  const absent = await runCaptured([...args, '--report', join(root, 'none', 'x.html')]);
  t.match(absent, { code: 1, err: /there is no folder .*none/ }, 'before it trains');
  t.notOk(existsSync(join(root, 'models', 'm', '2')));
});
