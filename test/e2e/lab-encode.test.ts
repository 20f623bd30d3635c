// Goal: after some runs of `encode` the need of parameters that no run had, within the range of those that had, is known to one
// vCPU and a tenth of the memory at the median; and a workload that nobody ever ran is answered, with a reason.
// Method: the demonstration's stage with one guest: the service behind its socket, requests over gRPC, real work, what was used as
// the lease tells it. Parameters are drawn with a fixed seed, the range's ends first. FORESHADE_ENCODES sets how many runs are
// learned from; the bars are of 30 and more.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { labUnavailableReason } from '../../libvirt-adapter/lab/requirements.ts';
import { Random } from '../../models/train/random.ts';
import type { EncodeParams, PlannedRun } from '../../orchestrator/demo/plan.ts';
import { type Amounts, type RequestRecord, runRequest, toParams } from '../../orchestrator/demo/request.ts';
import { median } from '../../orchestrator/demo/scores.ts';
import { setStage } from '../../orchestrator/demo/stage.ts';
import { recordFigure } from '../figures.ts';

const unavailable = labUnavailableReason();
if (unavailable !== undefined) {
  t.plan(0, `no request travels on a real guest here: ${unavailable}`);
  process.exit(0);
}
const LEARNED = Number(process.env.FORESHADE_ENCODES ?? 8);
/** As many runs as this and more are held against the bars. */
const LEARNED_OF_BARS = 30;
const UNSEEN = LEARNED < LEARNED_OF_BARS ? 3 : 12;
/** A request takes 5 s, on a loaded machine three times as long. */
t.setTimeout((60 + (LEARNED + UNSEEN) * 20) * 1000);

const SEED = 11;
const COLD_START = /^cold start: no run of this workload/;
const MIB = 2 ** 20;
const MODES = ['fast', 'balanced', 'best'] as const;
/** The range of the parameters; both ends are among what is learned from. */
const RANGE = { input_mib: [24, 300], level: [1, 9] } as const;

const random = new Random(SEED);
const within = ([low, high]: readonly [number, number]): number =>
  Math.round(low * (high / low) ** random.next());
const drawn = (): EncodeParams => ({
  input_mib: within(RANGE.input_mib),
  level: within(RANGE.level),
  mode: MODES[random.below(MODES.length)] ?? 'fast',
});
const ends: readonly EncodeParams[] = [
  { input_mib: RANGE.input_mib[0], level: RANGE.level[1], mode: 'best' },
  { input_mib: RANGE.input_mib[1], level: RANGE.level[0], mode: 'fast' },
];
const nameOf = ({ input_mib, level, mode }: EncodeParams): string => `${input_mib} MiB ${level} ${mode}`;

/** Parameters that differ from all earlier ones. */
const seen = new Set<string>();
function next(): EncodeParams {
  for (;;) {
    const params = ends[seen.size] ?? drawn();
    if (seen.has(nameOf(params))) continue;
    seen.add(nameOf(params));
    return params;
  }
}

const stateDir = mkdtempSync(join(tmpdir(), 'fs-encode-'));
const stage = await setStage({ stateDir, guests: 1, ablate: false, onProgress: (line) => t.comment(line) });
t.teardown(async () => {
  await stage.close();
  rmSync(stateDir, { recursive: true, force: true });
});
const { client, lab } = stage;
const guest = lab.guest('lab-1');

async function runAll(count: number, firstSeed: number): Promise<RequestRecord[]> {
  const records: RequestRecord[] = [];
  for (let i = 0; i < count; i += 1) {
    const planned: PlannedRun = { params: next(), seed: firstSeed + i };
    const record = await runRequest(client, guest, planned);
    records.push(record);
    t.comment(lineOf(record));
  }
  return records;
}

/** Predicted median and upper end, granted and used: cores, MiB. */
function lineOf({ params, predicted, granted, used, workload_status }: RequestRecord): string {
  const of = (resource: 'cpu' | 'memory', unit: number): string => {
    const { q50 = Number.NaN, q95 = Number.NaN } = predicted[resource] ?? {};
    const cells = [q50, q95, granted[resource] ?? Number.NaN, used[resource] ?? Number.NaN];
    const [middle, upper, given, needed] = cells.map((value) => (value / unit).toPrecision(3));
    return `${resource} ${middle} (${upper}), granted ${given}, used ${needed}`;
  };
  return `${nameOf(params)}: ${of('cpu', 1000)}; ${of('memory', MIB)}; ${workload_status}`;
}

/** What the idle guest uses by itself, bytes. */
async function guestAlone(): Promise<number> {
  const { forecast } = await client.ask(
    client.allocation,
    client.allocation.forecast,
    { guest: guest.name, params: {} },
    { timeoutMs: 10_000 },
  );
  const middle = forecast?.levels.indexOf(0.5) ?? -1;
  return forecast?.fields.find(({ field }) => field === 'memory_bytes')?.peak[middle] ?? Number.NaN;
}

/** |predicted - used| of one resource, by what is taken of the prediction. */
function errors(
  records: readonly RequestRecord[],
  resource: 'cpu' | 'memory',
  level: 'q50' | 'q95',
): { readonly absolute: number; readonly relative: number } {
  const absolute = records.map(({ predicted, used }) =>
    Math.abs((predicted[resource]?.[level] ?? Number.NaN) - (used[resource] ?? Number.NaN)),
  );
  const relative = absolute.map((error, i) => error / (records[i]?.used[resource] ?? Number.NaN));
  return { absolute: median(absolute), relative: median(relative) };
}

function share(records: readonly RequestRecord[], check: (record: RequestRecord) => boolean): number {
  return records.filter(check).length / records.length;
}

const isEnough =
  (resource: keyof Amounts) =>
  ({ granted, used }: RequestRecord): boolean =>
    (granted[resource] ?? Number.NaN) >= (used[resource] ?? Number.NaN);

t.test('a workload that was never run is answered, with a reason', async (t) => {
  const asked = { tenant: 'demo', workload: 'never-seen', guest: guest.name, params: toParams(drawn()) };
  const { forecast } = await client.ask(client.allocation, client.allocation.forecast, asked, {
    timeoutMs: 10_000,
  });
  const reason = forecast?.reason ?? '';
  t.match(reason, COLD_START, reason);
  const memory = forecast?.fields.find(({ field }) => field === 'memory_bytes');
  t.ok(
    memory?.peak.every((value) => Number.isFinite(value)),
    'it is an answer all the same',
  );
});

t.test('the need of unseen parameters is known', async (t) => {
  const own = await guestAlone();
  const learned = await runAll(LEARNED, 1000);
  t.match(learned[0]?.reason, COLD_START, 'before the first run nothing is known');
  const unseen = await runAll(UNSEEN, 2000);
  for (const record of unseen) {
    t.equal(record.workload_status, 'done', nameOf(record.params));
    t.ok(Number.isFinite(record.predicted.memory?.q50), `predicted: ${record.reason}`);
    t.ok(Number.isFinite(record.used.memory) && Number.isFinite(record.used.cpu), 'what it used was read');
  }
  const cpu = errors(unseen, 'cpu', 'q50');
  const memory = errors(unseen, 'memory', 'q50');
  for (const [name, { absolute, relative }, unit] of [
    ['cpu, median', cpu, 1000],
    ['cpu, q0.95', errors(unseen, 'cpu', 'q95'), 1000],
    ['memory, median', memory, MIB],
    ['memory, q0.95', errors(unseen, 'memory', 'q95'), MIB],
  ] as const)
    t.comment(`${name}: off by ${(absolute / unit).toPrecision(3)}, ${(100 * relative).toFixed(1)} %`);
  // The guest's own share is in both, and easily told: the run's own is the harder part.
  const ofRun = median(
    unseen.map(({ predicted, used }) => {
      const error = Math.abs((predicted.memory?.q50 ?? Number.NaN) - (used.memory ?? Number.NaN));
      return error / ((used.memory ?? Number.NaN) - own);
    }),
  );
  t.comment(
    `memory beyond the guest's own ${(own / MIB).toFixed(0)} MiB: off by ${(100 * ofRun).toFixed(1)} %`,
  );
  const typical = median(learned.map(({ used }) => used.memory ?? Number.NaN));
  const ofTypical = median(unseen.map(({ used }) => Math.abs(typical / (used.memory ?? Number.NaN) - 1)));
  t.comment(`the median of what was learned from is off by ${(100 * ofTypical).toFixed(1)} % of memory`);
  t.comment(
    `granted >= used: cpu ${share(unseen, isEnough('cpu'))}, memory ${share(unseen, isEnough('memory'))}`,
  );
  if (LEARNED < LEARNED_OF_BARS) return;
  const met = { cpu: cpu.absolute <= 1000, memory: memory.relative <= 0.1 };
  t.ok(met.cpu, `CPU is off by ${cpu.absolute} millicores`);
  t.ok(met.memory, `memory is off by ${memory.relative}`);
  recordFigure({
    bar: 'lab-encode-cpu-error-vcpus',
    value: cpu.absolute / 1000,
    limit: 'at most 1 at the median',
    met: met.cpu,
  });
  recordFigure({
    bar: 'lab-encode-memory-error',
    value: memory.relative,
    limit: 'at most 0.1 at the median',
    met: met.memory,
  });
});
