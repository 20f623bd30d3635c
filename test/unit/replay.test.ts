// Goal: a stretch of the shadow played back gives what a live engine would have decided, the same each time, and touches
// nothing. Method: a made-up store of two guests whose dozen requests follow one law, written in random order (the seed is
// printed), with gaps and unreadable values; what must come of it is worked from the law.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { MIB } from '../../orchestrator/core/profile.ts';
import type { GuestSample } from '../../orchestrator/core/sample.ts';
import type { ShadowPoint } from '../../orchestrator/core/shadow.ts';
import { Agenda } from '../../orchestrator/replay/agenda.ts';
import { RecordedTelemetry } from '../../orchestrator/replay/recorded-telemetry.ts';
import { RefusingActuators } from '../../orchestrator/replay/refusing-actuators.ts';
import { recordedEvents, surveyStretch } from '../../orchestrator/replay/shadow-rows.ts';
import type { DiskShadowStore } from '../../orchestrator/store/store.ts';
import { randomFrom } from '../random.ts';
import { runCaptured } from '../run-cli.ts';
import { digestOf, type LogRecord, play } from './replay-fixture.ts';
import { NOON_MS, newFolder, newStore } from './store-fixture.ts';

const SEED = Number(process.env.FORESHADE_SEED ?? 7);
t.comment(`seed ${SEED}`);

const STEP_MS = 10_000;
const STEPS = 360;
const REQUESTS = 12;
/** The nth request: so many units of input, and what the law makes of them. */
const unitsOf = (n: number): number => 4 + ((n * 5) % 11);
const runStepsOf = (n: number): number => 3 + unitsOf(n);
const cpuOf = (units: number): number => 300 + 150 * units;
const memoryOf = (units: number): number => (200 + 40 * units) * MIB;
const startStepOf = (n: number): number => 5 + n * 25;
const GRANTED = { cpuMillicores: 4000, vcpuCount: 4, memoryBytes: 4096 * MIB };

/** Samples of both guests over an hour: one works on the requests, one idles and is not always read. */
function points(): ShadowPoint[] {
  const random = randomFrom(SEED);
  const all: ShadowPoint[] = [];
  for (let step = 1; step <= STEPS; step += 1) {
    const base = {
      atMs: NOON_MS + step * STEP_MS,
      host: 'h1',
      axis: 'seconds',
      periodMs: STEP_MS,
      granted: GRANTED,
    } as const;
    const n = Array.from({ length: REQUESTS }, (_, i) => i).find(
      (i) => step > startStepOf(i) && step <= startStepOf(i) + runStepsOf(i),
    );
    const noise = random();
    all.push({
      ...base,
      guest: 'worker',
      flags: [],
      ...(n !== undefined && { tenant: 'acme', requestId: `r${n}`, workload: 'encode' }),
      profile:
        n === undefined
          ? { cpuMillicores: 20 + noise, memoryBytes: 100 * MIB }
          : { cpuMillicores: cpuOf(unitsOf(n)) - noise, memoryBytes: memoryOf(unitsOf(n)) },
    });
    if (step % 7 === 0) continue;
    const isUnread = step % 5 === 0;
    all.push({
      ...base,
      guest: 'idler',
      flags: isUnread ? ['gap'] : [],
      profile: isUnread
        ? { cpuMillicores: Number.NaN }
        : { cpuMillicores: 10 + noise, memoryBytes: 80 * MIB },
    });
  }
  return all;
}

/** The store of the points, in an order of no meaning. */
async function fill(store: DiskShadowStore, all: readonly ShadowPoint[] = points()): Promise<void> {
  const random = randomFrom(SEED + 1);
  const order = all.map((point) => ({ point, key: random() })).sort((a, b) => a.key - b.key);
  for (const { point } of order) store.record(point);
  for (let n = REQUESTS - 1; n >= 0; n -= 1) ask(store, n);
  await store.flush();
}

function ask(store: DiskShadowStore, n: number): void {
  store.recordInputs({
    atMs: NOON_MS + startStepOf(n) * STEP_MS + 1,
    requestId: `r${n}`,
    guest: 'worker',
    host: 'h1',
    tenant: 'acme',
    workload: 'encode',
    params: { units: { kind: 'number', value: unitsOf(n) }, codec: { kind: 'category', value: 'x264' } },
  });
}

const hour = newStore(t);
t.before(() => fill(hour));

const of = (records: readonly LogRecord[], record: string): LogRecord[] =>
  records.filter((one) => one.record === record);

t.test('the same stretch gives the same bytes', async (t) => {
  const once = await play(hour);
  const again = await play(hour);
  t.ok(once.text.length > 10_000, `${once.text.length} bytes: more than nothing`);
  t.ok(once.text === again.text, 'twice the same log');
  t.equal(once.result.sha256, digestOf(once.text));
  t.match(once.result, {
    samples: points().length,
    requests: REQUESTS,
    leases: REQUESTS,
    refused: 0,
    decisions: 3 * REQUESTS, // admitted, put in place, released
    ends: REQUESTS,
    forecasts: 2 * 6, // two guests, each ten minutes of the hour
    complaints: 0,
    isCut: false,
  });
  await hour.maintain();
  t.ok((await play(hour)).text === once.text, 'and the same once the log is sealed into Parquet');
});

t.test('a request is answered from its production input and what was learned of those before', async (t) => {
  const { records } = await play(hour);
  const leases = of(records, 'lease');
  t.strictSame(
    leases.map(({ at_ms, request_id, tenant, workload, guest }) => [
      at_ms,
      request_id,
      tenant,
      workload,
      guest,
    ]),
    Array.from({ length: REQUESTS }, (_, n) => [
      NOON_MS + startStepOf(n) * STEP_MS + 1,
      `r${n}`,
      'acme',
      'encode',
      'worker',
    ]),
  );
  leases.forEach(({ predicted }, n) => {
    t.equal((predicted as { runs: number }).runs, n, `request ${n} rests on the ${n} before it`);
  });
  const last = leases.at(-1)?.predicted as {
    cpu_millicores: { q50: number };
    memory_bytes: { q50: number };
    duration_s: { q50: number };
    reason: string;
  };
  const units = unitsOf(REQUESTS - 1);
  const near = (value: number, truth: number): boolean => Math.abs(value / truth - 1) < 0.1;
  // The law is a line and the last request lies between two of its points: a tenth is far more than the noise.
  t.ok(
    near(last.cpu_millicores.q50, cpuOf(units)),
    `${last.cpu_millicores.q50} of ${cpuOf(units)} millicores`,
  );
  t.ok(near(last.memory_bytes.q50, memoryOf(units)), `${last.memory_bytes.q50} of ${memoryOf(units)} bytes`);
  t.ok(near(last.duration_s.q50, (runStepsOf(REQUESTS - 1) * STEP_MS) / 1000), `${last.duration_s.q50} s`);
  t.equal(last.reason, `parameters of ${REQUESTS - 1} runs`);
  of(records, 'end').forEach(({ at_ms, request_id, state, used }, n) => {
    t.match(
      { at_ms, request_id, state, used },
      {
        at_ms: NOON_MS + (startStepOf(n) + runStepsOf(n)) * STEP_MS,
        request_id: `r${n}`,
        state: 'RELEASED',
        used: { memory_bytes: memoryOf(unitsOf(n)) },
      },
    );
  });
  const times = records.map(({ at_ms }) => at_ms);
  t.strictSame(
    times,
    [...times].sort((a, b) => a - b),
    'in the order of time',
  );
  t.ok(
    of(records, 'decision').every(
      ({ action, outcome }) => action !== 'actuate' || /nothing was changed/.test(String(outcome)),
    ),
    'and nothing was changed',
  );
});

t.test('one row that changes changes what is decided', async (t) => {
  const all = points();
  const at = all.findIndex(({ requestId }) => requestId === 'r3');
  const after = newStore(t);
  await fill(after, all.with(at, { ...(all[at] as ShadowPoint), profile: { cpuMillicores: 3500 } }));
  const [one, other] = [await play(hour), await play(after)];
  t.not(one.result.sha256, other.result.sha256);
  const differing = one.records.findIndex(
    (record, i) => JSON.stringify(record) !== JSON.stringify(other.records[i]),
  );
  t.ok(
    (one.records[differing]?.at_ms ?? 0) >= (all[at]?.atMs ?? 0),
    'and nothing that was decided before it',
  );
});

t.test('requests that the record does not tell all of', async (t) => {
  const store = newStore(t, {
    inputRules: [
      { name: 'secret', action: 'redact' },
      { name: 'name', action: 'hash' },
    ],
  });
  await fill(store);
  const request = { guest: 'worker', host: 'h1', tenant: 'acme', workload: 'encode' } as const;
  const number = (value: number) => ({ kind: 'number', value }) as const;
  // Asked for and never seen to run.
  store.recordInputs({ ...request, atMs: NOON_MS + 3000, requestId: 'unseen', params: { units: number(5) } });
  // Of a client's word only.
  const hearsay = { axis: 'seconds', tenant: 'acme', requestId: 'hearsay', workload: 'encode' } as const;
  store.record({
    ...hearsay,
    atMs: NOON_MS + 4000,
    guest: 'idler',
    host: 'h1',
    profile: { cpuMillicores: 9999 },
    inputs: { units: number(1) },
    flags: ['reported'],
  });
  // Without any input: its samples alone bear it.
  const bare = points().map((point) =>
    point.guest === 'idler' && point.atMs >= NOON_MS + 300 * STEP_MS && point.atMs <= NOON_MS + 310 * STEP_MS
      ? { ...point, atMs: point.atMs + 1, requestId: 'bare', workload: 'sweep' }
      : undefined,
  );
  for (const point of bare) if (point !== undefined) store.record(point);
  // On a guest of which nothing was recorded.
  store.recordInputs({
    ...request,
    guest: 'nobody',
    atMs: NOON_MS + 5000,
    requestId: 'elsewhere',
    params: { units: number(5) },
  });
  const secret = { secret: number(5), name: { kind: 'text', value: 'x' }, units: number(5) } as const;
  store.recordInputs({ ...request, atMs: NOON_MS + 6000, requestId: 'hidden', params: secret });
  await store.flush();

  const toMs = NOON_MS + 3_500_000;
  const samples = [...points(), ...bare].filter((point) => point !== undefined && point.atMs < toMs).length;
  const { records, result } = await play(store, { toMs });
  t.match(result, { samples, requests: REQUESTS + 3, refused: 0, complaints: 0 });
  const ends = of(records, 'end');
  const endOf = (id: string) => ends.find(({ request_id }) => request_id === id);
  t.match(endOf('unseen'), { state: 'EXPIRED', at_ms: NOON_MS + 63_000 }, 'it is left to its time to live');
  t.match(endOf('hidden'), { state: 'EXPIRED' });
  t.match(endOf('bare'), { state: 'RELEASED', used: {} }, 'a request without input is known by its samples');
  t.equal(endOf('hearsay'), undefined, 'what a client reported was no sample');
  const first = of(records, 'lease').find(({ request_id }) => request_id === 'r0');
  t.match(first, { predicted: { runs: 0 } }, 'nothing is learned of what was not seen');
});

t.test('a stretch is what was asked for', async (t) => {
  const store = newStore(t);
  await fill(store);
  const fromMs = NOON_MS + 100 * STEP_MS;
  const some = await play(store, { fromMs, toMs: fromMs + 50 * STEP_MS, guests: ['worker'] });
  t.match(some.result, { samples: 50, requests: 2 }, 'its first moment included, its last one not');
  t.ok(some.records.every(({ guest }) => guest === 'worker'));
  t.strictSame(
    of(some.records, 'lease').map(({ request_id, predicted }) => [
      request_id,
      (predicted as { runs: number }).runs,
    ]),
    [
      ['r4', 0],
      ['r5', 1],
    ],
    'r3 began before it, and is not known',
  );
  await t.rejects(play(store, { fromMs: NOON_MS + 1e9 }), /no sample in this stretch/);
  await t.rejects(play(store, { guests: ['nobody'] }), /no sample in this stretch/);
  store.record({ ...(points()[0] as ShadowPoint), host: "h'2" });
  await store.flush();
  await t.rejects(play(store), /of 2 hosts.*--host \(h'2, h1\)/);
  t.match(await play(store, { host: "h'2" }), { result: { samples: 1 } });
  const scaled = await play(store, { host: 'h1', usage: { cpuMillicores: 'cpu_millicores * 2' } });
  const used = of(scaled.records, 'end')[0]?.used as { cpu_millicores: number };
  t.ok(used.cpu_millicores > 1.9 * cpuOf(unitsOf(0)), 'a field may be made of what there is');
});

t.test('a sample comes back as it was taken', async (t) => {
  const store = newStore(t);
  const at = { guest: 'g', host: 'h1', axis: 'seconds' } as const;
  store.record({
    ...at,
    atMs: NOON_MS + 0.125,
    periodMs: 100,
    instructionsAt: 5e9,
    profile: { cpuMillicores: 700, instructionsPerS: 1e9 },
    classes: { vector: 3, other: 7 },
    flags: ['gap', 'censored'],
  });
  store.record({
    ...at,
    axis: 'instructions',
    atMs: NOON_MS + 1,
    instructionsAt: 6e9,
    profile: {},
    flags: [],
  });
  store.record({
    ...at,
    atMs: NOON_MS + 2,
    periodMs: 1000,
    instructionsAt: 1e9,
    profile: { cpuMillicores: 0, memoryBytes: MIB },
    flags: ['counter-reset'],
  });
  const layout = store.layout(['cpu_millicores', 'memory_bytes', 'cpu_delay_fraction']);
  layout.append(store.context(at), NOON_MS + 3, 1000, Number.NaN, 0, [500, MIB, 0.25]);
  await store.flush();
  const stretch = await surveyStretch(store, {});
  const telemetry = new RecordedTelemetry();
  const samples: GuestSample[] = [];
  const readings: (string | undefined)[] = [];
  telemetry.onSample((sample) => samples.push(sample));
  for await (const batch of recordedEvents(store, stretch)) {
    for (const event of batch) {
      if (event.kind === 'sample') telemetry.emit(event.sample);
      const { run, total } = telemetry.instructions('g') ?? {};
      readings.push(`${run}: ${total}`);
    }
  }
  t.strictSame(samples, [
    {
      guest: 'g',
      atMs: NOON_MS + 0.125,
      periodMs: 100,
      cadence: 'fast',
      usage: { cpuMillicores: 700, instructionsPerS: 1e9 },
      instructionsAt: 5e9,
      classes: { vector: 3, other: 7 },
      flags: ['gap'],
    },
    {
      guest: 'g',
      atMs: NOON_MS + 1,
      periodMs: Number.NaN,
      cadence: 'cut',
      usage: {},
      instructionsAt: 6e9,
      flags: [],
    },
    {
      guest: 'g',
      atMs: NOON_MS + 2,
      periodMs: 1000,
      cadence: 'full',
      usage: { cpuMillicores: 0, memoryBytes: MIB },
      instructionsAt: 1e9,
      flags: ['counter-reset'],
    },
    {
      guest: 'g',
      atMs: NOON_MS + 3,
      periodMs: 1000,
      cadence: 'full',
      usage: { cpuMillicores: 500, memoryBytes: MIB },
      vcpus: [{ runFraction: 0.5, delayFraction: 0.25 }],
      flags: [],
    },
  ]);
  t.strictSame(readings, ['1: 5000000000', '1: 6000000000', '2: 1000000000', '2: 1000000000']);
});

t.test('a speed changes nothing but the time it takes', async (t) => {
  const choice = { fromMs: NOON_MS + 50 * STEP_MS, toMs: NOON_MS + 60 * STEP_MS };
  const fast = await play(hour, choice);
  const slow = await play(hour, choice, { speed: 200 });
  t.equal(slow.result.sha256, fast.result.sha256);
  t.ok(
    slow.result.seconds >= 0.45,
    `100 s at 200 times their speed took ${slow.result.seconds.toFixed(2)} s`,
  );
});

t.test('ends come in the order of time, guest and request', async (t) => {
  const agenda = new Agenda();
  const due = (atMs: number, guest: string, requestId: string) => ({ atMs, guest, requestId, leaseId: '' });
  for (const one of [
    due(3, 'a', 'x'),
    due(1, 'b', 'x'),
    due(1, 'a', 'y'),
    due(2, 'a', 'x'),
    due(1, 'a', 'x'),
  ])
    agenda.add(one);
  const taken = Array.from({ length: 6 }, () => agenda.take()).map(
    (one) => one && `${one.atMs}${one.guest}${one.requestId}`,
  );
  t.strictSame(taken, ['1ax', '1ay', '1bx', '2ax', '3ax', undefined]);
});

t.test('its actuators refuse and count', async (t) => {
  const actuators = new RefusingActuators();
  const { signal } = new AbortController();
  await t.rejects(actuators.byResource.cpu.apply('g', GRANTED, signal), { code: 'ACTUATION_REFUSED' });
  await t.rejects(actuators.byResource.memory.read('g'), { code: 'ACTUATION_REFUSED' });
  t.equal(actuators.calls, 2);
});

/** @param onErr called with what a person sees, who then watches */
function run(args: readonly string[], onErr?: (part: string) => void, signal = new AbortController().signal) {
  const watched = onErr && { err: onErr, errIsTerminal: true };
  return runCaptured(['shadow', 'replay', ...args], { signal, ...watched });
}

t.test('the command', async (t) => {
  const folder = newFolder(t);
  const directory = join(folder, 'store');
  const config = join(folder, 'foreshade.toml');
  writeFileSync(config, '');
  const at = ['--store', directory, '--config', config];
  const store = newStore(t, { directory });
  await fill(store);

  const plain = await run(at);
  t.equal(plain.code, 0);
  t.match(plain.err, /requests +12, 0 refused\n[\s\S]*sha256 +[0-9a-f]{64}/);
  t.notMatch(plain.err, /%/, 'no progress where nobody watches');
  const out = join(folder, 'decisions.jsonl');
  const json = await run(['--out', out, '--json', ...at], () => {});
  const document = JSON.parse(json.out);
  t.match(document, {
    host: 'h1',
    guests: 2,
    requests: REQUESTS,
    is_cut: false,
    sha256: digestOf(plain.out),
  });
  t.equal(readFileSync(out, 'utf8'), plain.out, 'the file has what stdout had');
  t.match(json.err, /\r *\d+ % {2}2026-01-31T1[23]:/);

  const stop = new AbortController();
  const stopAtTenth = (part: string): void => {
    if (/^\r 1\d %/.test(part)) stop.abort();
  };
  const cut = await run(['--speed', '1000', '--out', out, ...at], stopAtTenth, stop.signal);
  t.equal(cut.code, 1, 'a stretch that was not played to its end is not done');
  t.match(cut.err, /cut +it was ended/);
  const written = readFileSync(out, 'utf8');
  t.ok(
    written.length > 0 && plain.out.startsWith(written),
    `${written.length} bytes of whole lines were kept`,
  );

  t.match(await run(['--help']), { code: 0, out: /--speed <factor>[\s\S]*Examples:/ });
  for (const args of [
    ['--from', '2026-02-02', '--to', '2026-02-01'],
    ['--from', 'yesterday'],
    ['--speed', '0'],
    ['--speed', 'fast'],
    ['--usage', 'cpu_millicores'],
    ['--usage', 'threads=1'],
    ['--forecast-every', '5'],
  ])
    t.match(
      await run([...args, ...at]),
      { code: 2, out: '', err: /See: foreshade shadow replay/ },
      args.join(' '),
    );
  t.match(await run(['--from', '2027-01-01', ...at]), { code: 1, out: '', err: /no sample in this stretch/ });
  t.match(await run(['--from', '2027-01-01', '--out', out, ...at]), { code: 1 });
  t.equal(readFileSync(out, 'utf8'), written, 'nothing to play leaves the file as it was');
  t.match(await run(['--out', join(folder, 'none', 'x'), ...at]), { code: 1, err: /cannot be written/ });
  t.match(await run(['--out', '/dev/full', ...at]), { code: 1, err: /ENOSPC/ });
  t.match(await run(['--usage', 'cpu_millicores=nothing', ...at]), { code: 1, err: /QUERY_REFUSED/ });
  t.match(await run(['--store', join(folder, 'none')]), { code: 1, err: /does not exist/ });
});
