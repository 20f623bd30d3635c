// Goal: `foreshade detect` scores as its definitions say and leaves nothing half-written. Method: cases worked by hand, sets
// written here, and the recorded ones where FORESHADE_DATA names them.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { findEvents } from '../../models/detect/events.ts';
import { areaUnderPrecisionRecall } from '../../models/detect/precision-recall.ts';
import { randomFrom } from '../random.ts';
import { runCaptured } from '../run-cli.ts';

const root = t.testdir();
let sets = 0;

/** A labelled set of one machine with a planted fault in its test part. */
function newSet(over: { test?: Buffer; labels?: Buffer } = {}): string {
  const folder = join(root, `set${sets++}`);
  mkdirSync(folder);
  const next = randomFrom(5);
  const row = (i: number, value: number): string => `a,${i * 60},${value},${next()}\n`;
  const rows = (count: number, fault: number): string =>
    `series,t,cpu,memory\n${Array.from({ length: count }, (_, i) => row(i, i === fault ? 50 : next())).join('')}`;
  const labels = Array.from({ length: 400 }, (_, i) => `a,${i * 60},${i === 300 ? 1 : 0}\n`).join('');
  writeFileSync(
    join(folder, 'dataset.json'),
    JSON.stringify({ name: 'planted', kind: 'labelled-series', step_seconds: 60 }),
  );
  writeFileSync(join(folder, 'series.csv.gz'), gzipSync(rows(500, -1)));
  writeFileSync(join(folder, 'test.csv.gz'), over.test ?? gzipSync(rows(400, 300)));
  writeFileSync(join(folder, 'labels.csv.gz'), over.labels ?? gzipSync(`series,t,label\n${labels}`));
  return folder;
}

const run = (...args: string[]) => runCaptured(['detect', ...args]);

t.test('the area under precision and recall, by hand', async (t) => {
  const area = (scores: number[], labels: number[]): number =>
    areaUnderPrecisionRecall(Float64Array.from(scores), Uint8Array.from(labels));
  t.equal(area([0.9, 0.8, 0.1], [1, 1, 0]), 1);
  t.equal(area([0.9, 0.8, 0.1], [0, 0, 1]), 1 / 3);
  t.equal(area([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0]), 0.25, 'one score for all is the share of labels');
  t.equal(area([0.9, 0.8, 0.7], [1, 0, 1]), 0.5 + 0.5 * (2 / 3));
  t.equal(area([Number.NaN, 0.2], [1, 0]), 0.5, 'without a score it comes last');
  t.ok(Number.isNaN(area([0.1], [0])));
});

t.test('events within a budget of false episodes, by hand', async (t) => {
  const points = (scores: number[], labels: number[]) => ({
    scores: Float64Array.from(scores),
    labels: Uint8Array.from(labels),
    steps: Float64Array.from(scores, (_, i) => i * 20),
    starts: [0],
  });
  const found = findEvents(points([0.9, 0.8, 0.7, 0.6, 0.5], [0, 1, 0, 1, 1]), 1);
  t.match(found, { events: 2, found: 1, falseEpisodes: 1, threshold: 0.8 });
  t.match(findEvents(points([0.9, 0.8, 0.7, 0.6, 0.5], [0, 1, 0, 1, 1]), 2), { found: 2, falseEpisodes: 2 });
  t.match(findEvents(points([0.9, 0.8], [0, 1]), 0), { found: 0, falseEpisodes: 0 });
});

t.test('a planted fault is found, and the file is whole', async (t) => {
  const folder = newSet();
  const file = join(root, 'scores.csv');
  const { code, out } = await run('--data', folder, '--out', file, '--json');
  t.equal(code, 0);
  const document = JSON.parse(out);
  t.equal(document.detector.area_under_pr, 1);
  t.equal(document.detector.event_share, 1);
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  t.equal(lines[0], 'series,t,score');
  t.equal(lines.length, 401);
  const scores = lines.slice(1).map((line) => Number(line.split(',')[2]));
  t.equal(scores.indexOf(Math.max(...scores)), 300);
  const again = await run('--data', folder, '--out', file);
  t.equal(again.code, 1);
  t.match(again.err, /exists: --force replaces it/);
  t.equal((await run('--data', folder, '--out', file, '--force')).code, 0);
});

t.test('bad sets are refused and leave no file behind', async (t) => {
  const head = 'series,t,cpu,memory\n';
  const cases: [string, string, RegExp][] = [
    ['garbage', newSet({ test: Buffer.from('not gzip') }), /test\.csv\.gz/],
    ['truncated', newSet({ test: gzipSync(`${head}a,0,1,1\n`.repeat(50)).subarray(0, 30) }), /test\.csv\.gz/],
    ['other metrics', newSet({ test: gzipSync('series,t,cpu\na,0,1\n') }), /no metric memory/],
    ['unknown series', newSet({ test: gzipSync(`${head}b,0,1,1\n`) }), /no train part/],
    ['absent', join(root, 'none'), /none/],
  ];
  for (const [name, folder, expected] of cases) {
    const file = join(root, `${name.replace(' ', '-')}.csv`);
    const { code, out, err } = await run('--data', folder, '--out', file);
    t.equal(code, 1, name);
    t.equal(out, '', name);
    t.match(err, expected, name);
    t.notOk(existsSync(file), name);
  }
  t.strictSame(
    readdirSync(root).filter((name) => name.endsWith('.part')),
    [],
  );
  t.equal((await run('--data', newSet())).code, 2);
});

const data = process.env.FORESHADE_DATA;
for (const name of ['asd_dev', 'smd_dev']) {
  const folder = data === undefined ? undefined : join(data, name);
  const skip =
    folder !== undefined && existsSync(folder)
      ? false
      : `${name}: FORESHADE_DATA names no folder that has it`;
  t.test(`${name}: better than three sigma`, { skip }, async (t) => {
    const file = join(root, `${name}.csv`);
    const { out } = await run('--data', folder as string, '--out', file, '--json');
    const { detector, three_sigma } = JSON.parse(out);
    const a = three_sigma.area_under_pr;
    t.ok(
      detector.area_under_pr >= Math.min(2 * a, a + (1 - a) / 2),
      `${detector.area_under_pr}, 3 sigma ${a}`,
    );
    t.ok(detector.event_share >= 0.6, `events ${detector.event_share}`);
  });
}
