// Goal: a recording of the lab is what was executed: cuts of a million instructions whose classes add up, times that follow
// on each other, memory that follows the work; and what comes next in it can be told better than by the last value.
// Method: the command itself, its set read back from the file, and `foreshade evaluate` on it, metric by metric: sizes of
// different units do not mix. FORESHADE_CUTS sets the size; the bars are of 20,000 cuts and more.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { RecordedCut } from '../../libvirt-adapter/lab/cut-recorder.ts';
import { takesPlugins } from '../../libvirt-adapter/lab/plugin-support.ts';
import { RECORDED_WORKLOADS } from '../../libvirt-adapter/lab/recorded-workloads.ts';
import { labUnavailableReason } from '../../libvirt-adapter/lab/requirements.ts';
import { StepCourse } from '../../libvirt-adapter/lab/step-course.ts';
import { SeriesSet } from '../../models/data/series-set.ts';
import { writeRecording } from '../../orchestrator/cli/lab-recording.ts';
import { runCli } from '../../orchestrator/cli/program.ts';
import { CLASS_COLUMNS } from '../../orchestrator/core/shadow.ts';
import { recordFigure } from '../figures.ts';

/** The lab boots in 10 s; a cut takes 0.3 to 15 ms on a busy host. */
t.setTimeout(600_000);

const EVERY = 1_000_000;
const CUTS = Number(process.env.FORESHADE_CUTS ?? 1800);
/** From so many cuts on the bars hold. */
const CUTS_OF_BARS = 20_000;
const HORIZON = 64;
/** Instructions of a translation block at most, TCG_MAX_INSNS of QEMU. */
const BLOCK_INSTRUCTIONS_MAX = 512;
const COLUMNS = ['instructions', 'time_us', 'cpu_delay_us', 'memory_bytes', ...CLASS_COLUMNS];
const LIMIT = 0.85;
/** Workloads that take memory as they go, and workloads that hold what they have. */
const FILLING = ['encode', 'query', 'transfer'];
const STEADY = ['sha256sum', 'gzip', 'count'];

const folder = mkdtempSync(join(tmpdir(), 'fs-lab-record-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const skip = labUnavailableReason() ?? ((await takesPlugins()) ? false : 'this QEMU takes no TCG plugins');

/** Run a command line and take its one document. */
async function ask(...args: string[]): Promise<Record<string, unknown>> {
  const out: string[] = [];
  const exit = await runCli([...args, '--json'], {
    out: (text) => out.push(text),
    err: (text) => t.comment(text.trim()),
    env: process.env,
    signal: new AbortController().signal,
  });
  const document = JSON.parse(out.join('')) as Record<string, unknown>;
  if (exit !== 0) throw new Error(`${args[0]}: ${JSON.stringify(document)}`);
  return document;
}

t.test('a quantity that is read now and then', async (t) => {
  const course = new StepCourse();
  course.add(10, 100);
  course.add(20, 300);
  for (const { time, latest, between } of [
    { time: 9, latest: Number.NaN, between: Number.NaN },
    { time: 10, latest: 100, between: 100 },
    { time: 15, latest: 100, between: 200 },
    { time: 20, latest: 300, between: 300 },
    { time: 21, latest: 300, between: Number.NaN },
  ]) {
    t.strictSame([course.latest(time), course.between(time)], [latest, between], `at ${time}`);
  }
});

t.test('a recording is read back as it was', async (t) => {
  const classes = { system: 1, crypto: 0, vector: 2, branch: 200_000, memory: 300_000, other: 499_998 };
  const cut = (atNs: number, delayNs: number): RecordedCut => ({
    vcpu: 0,
    atNs,
    instructions: 1_000_001,
    timeNs: 2_000_000,
    delayNs,
    memoryBytes: 4096,
    classes,
  });
  const place = join(folder, 'written');
  const cuts = [cut(1_002_000_000, 1500), cut(1_004_000_000, Number.NaN)];
  await writeRecording(place, [{ series: 'a-vcpu0', cuts }], { name: 'r', every: EVERY, originNs: 1e9 });
  const set = await SeriesSet.open(place);
  t.teardown(() => set.close());
  t.strictSame(set.metrics, COLUMNS);
  const { series } = await set.read(COLUMNS);
  for await (const { times, columns } of series) {
    t.strictSame(times, [0.002, 0.004]);
    t.strictSame(
      columns.map(([value]) => value),
      [1_000_001, 2000, 1.5, 4096, 1, 0, 2, 200_000, 300_000, 499_998],
    );
    t.ok(Number.isNaN(columns[2]?.[1]), 'a wait that nobody saw is missing');
  }
});

const set = join(folder, 'set');

t.test('a guest is recorded under each workload', { skip }, async (t) => {
  const document = await ask('lab', 'record', '--out', set, '--cuts', String(CUTS));
  t.ok(Number(document.cuts) >= CUTS, `${document.cuts} cuts in ${document.seconds} s`);
  const facts = JSON.parse(readFileSync(join(set, 'dataset.json'), 'utf8')) as Record<string, unknown>;
  t.equal(facts.rows, document.cuts);
  const opened = await SeriesSet.open(set);
  t.teardown(() => opened.close());
  const { count, series } = await opened.read(COLUMNS);
  t.equal(count, RECORDED_WORKLOADS.length, 'one series a workload, of the one vCPU');
  const rises = new Map<string, number>();
  for await (const { series: name, times, columns } of series) {
    const [instructions = [], timeUs = [], delayUs = [], memory = [], ...classes] = columns;
    t.ok(times.length >= Math.floor(CUTS / count), `${name}: ${times.length} cuts`);
    const off = Math.max(...instructions.map((executed) => Math.abs(executed - EVERY)));
    t.ok(off <= BLOCK_INSTRUCTIONS_MAX, `${name}: cuts are ${off} instructions off at most`);
    t.ok(
      instructions.every((executed, i) => executed === classes.reduce((sum, one) => sum + (one[i] ?? 0), 0)),
      `${name}: the classes of each cut make up the cut`,
    );
    const seconds = timeUs.slice(1).reduce((sum, us) => sum + us, 0) / 1e6;
    const span = (times.at(-1) ?? 0) - (times[0] ?? 0);
    t.ok(Math.abs(seconds / span - 1) < 1e-3, `${name}: ${seconds} s of cuts in ${span} s`);
    const waited = delayUs.reduce((sum, us) => sum + us, 0) / 1e6;
    t.ok(
      waited >= 0 && waited <= 1.01 * (seconds + (timeUs[0] ?? 0) / 1e6),
      `${name}: ${waited} s of waiting`,
    );
    const rose = (Math.max(...memory) - Math.min(...memory)) / 2 ** 20;
    rises.set(name.replace(/-vcpu0$/, ''), rose);
  }
  // How far a few cuts get into a run depends on the machine: only steady work tells what moves by itself.
  const steady = Math.max(...STEADY.map((name) => rises.get(name) ?? Number.NaN));
  for (const name of FILLING) {
    const rose = rises.get(name) ?? Number.NaN;
    t.ok(
      rose > steady,
      `${name}: its memory moved by ${rose.toFixed(2)} MiB, that of steady work by ${steady.toFixed(2)}`,
    );
  }
});

for (const metric of COLUMNS.slice(1)) {
  t.test(`the next ${HORIZON} cuts of ${metric}`, { skip }, async (t) => {
    const windows = Math.max(1, Math.floor(CUTS / RECORDED_WORKLOADS.length / 2 / HORIZON));
    const scored = async (...options: string[]) => {
      const plan = `--axis instructions --resample ${EVERY} --horizon ${HORIZON} --windows ${windows} --season 1`;
      const document = await ask(
        'evaluate',
        '--data',
        set,
        '--metrics',
        metric,
        ...plan.split(' '),
        ...options,
      );
      return document.CRPS as number | null;
    };
    const last = await scored('--baseline', 'last-value');
    const model = await scored();
    const plain = await scored('--no-lstm');
    if (last === null || model === null || plain === null) {
      t.equal(metric, 'instructions_crypto', 'only of this class no workload executes any');
      return;
    }
    const ratio = model / last;
    t.comment(`CRPS ${model.toFixed(4)}, last value ${last.toFixed(4)}: ${ratio.toFixed(3)}`);
    t.comment(`without its recurrent part ${plain.toFixed(4)}: ${(plain / last).toFixed(3)}`);
    if (CUTS < CUTS_OF_BARS) return;
    t.ok(ratio <= LIMIT, `${ratio} of the last value's CRPS`);
    for (const [name, value] of [
      [metric, ratio],
      [`${metric}-no-lstm`, plain / last],
    ] as const) {
      const bar = `lab-instructions-crps-${name.replaceAll('_', '-')}`;
      recordFigure({ bar, value, limit: `at most ${LIMIT} x last value`, met: value <= LIMIT });
    }
  });
}
