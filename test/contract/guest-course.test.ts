// Goal: the service forecasts a guest by its own course, says so beside its samples, and takes another version of the model
// between two forecasts. Method: a real service over the fake hypervisor, with the model that ships and copies of it.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { ForeshadeClient } from '../../integrations/client-node/client.ts';
import { FakeLibvirt } from '../../libvirt-adapter/fake/fake-libvirt.ts';
import { FakeReadings } from '../../libvirt-adapter/fake/fake-readings.ts';
import { sampleLine } from '../../orchestrator/cli/guest-watch.ts';
import { parseConfig } from '../../orchestrator/config.ts';
import { MemoryLedger } from '../../orchestrator/ledger/memory-ledger.ts';
import { liveForecaster, serveOn } from '../../orchestrator/main.ts';
import { packagePath } from '../../orchestrator/package-path.ts';
import { Track } from '../../proto/gen/foreshade/v1/resources.ts';
import type { Sample } from '../../proto/gen/foreshade/v1/shadow.ts';

type Undo = (() => Promise<void> | void)[];

function folderOf(t: { teardown(end: () => void): unknown }): string {
  const folder = mkdtempSync(join(tmpdir(), 'foreshade-course-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const configOf = (folder: string, name = 'default') =>
  parseConfig(
    `state_dir = "${folder}"\n[service]\nsocket = "${folder}/s.sock"\n[telemetry]\nfull_period_ms = 200\nfast_period_ms = 100\n[model]\nname = "${name}"`,
    'the test',
  );

/** A log that keeps its messages. */
function logTo(lines: string[]) {
  const write = (record: object, message: string) => void lines.push(`${message} ${JSON.stringify(record)}`);
  return { debug() {}, info: write, warn: write, error: write };
}

/** A model of two versions in the folder the service looks at. */
function twoVersions(folder: string): string {
  const model = join(folder, 'models', 'own');
  mkdirSync(model, { recursive: true });
  for (const version of ['1', '2'])
    cpSync(packagePath('models/weights/default/1'), join(model, version), { recursive: true });
  writeFileSync(join(model, 'current'), '1\n');
  return model;
}

t.test('a watcher sees what was foreseen beside what came', async (t) => {
  const folder = folderOf(t);
  const config = configOf(folder);
  const undo: Undo = [];
  const log = logTo([]);
  const libvirt = new FakeLibvirt({ host: { cpus: 8, memoryKib: 8 * 1024 * 1024 } });
  libvirt.addGuest({ name: 'a', vcpusMax: 4, vcpusPlugged: 1, bootMemoryKib: 2048 * 1024, agent: 'answers' });
  const forecaster = await liveForecaster(config, log, undo);
  const foundation = { libvirt, readings: new FakeReadings(libvirt), forecaster, ledger: new MemoryLedger() };
  const running = await serveOn(config, foundation, log);
  const client = new ForeshadeClient(config.service.socket);
  t.teardown(async () => {
    client.close();
    await running.stop();
    for (const step of undo) await step();
  });
  await running.engine.adopt('a', 'shadow');
  const samples: Sample[] = [];
  const enough = new AbortController();
  const late = setTimeout(() => enough.abort(), 25_000);
  for await (const sample of client.follow(
    client.shadow,
    client.shadow.watchGuest,
    { guest: 'a' },
    enough.signal,
  )) {
    samples.push(sample);
    if (sample.forecast?.reason?.startsWith('its own course')) break;
  }
  clearTimeout(late);
  const foreseen = samples.filter(({ forecast }) => forecast !== undefined);
  const last = foreseen.at(-1)?.forecast;
  t.match(foreseen[0]?.forecast?.reason, /^cold start: \d of 8 bins of 1 s of its own course; /);
  t.match(last?.reason, /^its own course: \d+ bins of 1 s$/);
  t.ok(foreseen.length < samples.length, 'not beside each of five samples a second');
  const times = foreseen.map(({ atMs = 0 }) => atMs);
  t.ok(times.every((atMs, i) => i === 0 || atMs - (times[i - 1] as number) >= 950));
  t.ok(last?.fields.some(({ field }) => field === 'memory_bytes'));
  t.equal(last?.fields[0]?.values.length, (last?.knots.length ?? 0) * (last?.levels.length ?? 0));
  const { allocation } = client;
  const days = await client.ask(
    allocation,
    allocation.forecast,
    { guest: 'a', params: {}, track: Track.TRACK_LONG },
    { timeoutMs: 5000 },
  );
  t.match(days.forecast?.reason, /^cold start: \d of 8 bins of 5 min of its own course; /);

  const line = sampleLine({ ...(samples.at(-1) as Sample), atMs: (last?.originMs ?? 0) + 1500 }, last);
  t.match(line, /memory \S+ MiB \(\S+ MiB, q0\.9 \S+ MiB\)/);
  t.notMatch(sampleLine(samples[0] as Sample, undefined), /q0\.9/);
});

t.test('a line reads the forecast between its knots', async (t) => {
  const fields = [{ field: 'cpu_millicores', peak: [], values: [1000, 2000, 2000, 4000] }];
  const forecast = { knots: [1, 2], levels: [0.5, 0.9], fields, originMs: 0, duration: [] };
  const sample = { usage: { cpuMillicores: 500 }, flags: [], instructions: {} };
  const at = (atMs: number) => sampleLine({ ...sample, atMs } as never, forecast as never);
  t.match(at(1500), 'cpu 0.50 cores (1.50 cores, q0.9 3.00 cores)');
  t.match(at(100), '(1.00 cores, q0.9 2.00 cores)');
  t.match(at(9000), '(2.00 cores, q0.9 4.00 cores)');
});

t.test('a model that is not what its manifest says refuses the start, in words', async (t) => {
  const folder = folderOf(t);
  const model = twoVersions(folder);
  const file = join(model, '1', 'weights.safetensors');
  const bytes = readFileSync(file);
  bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1);
  writeFileSync(file, bytes);
  const rejected = {
    code: 'INVALID_REQUEST',
    message: /weights of model own\/1 are not those its manifest names/,
  };
  await t.rejects(liveForecaster(configOf(folder, 'own'), logTo([]), []), rejected);
  const missing = { code: 'INVALID_REQUEST', message: /there is no model other in .*model\.name/ };
  await t.rejects(liveForecaster(configOf(folder, 'other'), logTo([]), []), missing);
});

t.test(
  'a promoted version serves within seconds, a bad one is refused, and no forecast is missed',
  async (t) => {
    const folder = folderOf(t);
    const model = twoVersions(folder);
    const lines: string[] = [];
    const undo: Undo = [];
    t.teardown(() => Promise.all(undo.map((step) => step())));
    const forecaster = await liveForecaster(configOf(folder, 'own'), logTo(lines), undo);
    t.match(lines[0], 'model read {"model":"own@1"}');
    for (let i = 1; i <= 40; i += 1) {
      const usage = { cpuMillicores: 100 * (i % 7) };
      forecaster.observe({ guest: 'g', atMs: i * 1000, periodMs: 1000, cadence: 'full', usage, flags: [] });
    }
    const query = { guest: 'g', axis: 'seconds', track: 'short', originMs: 40_000, ceiling: {} } as const;
    let asked = 0;
    const until = async (word: RegExp): Promise<void> => {
      for (const end = Date.now() + 15_000; Date.now() < end && !word.test(lines.join('\n')); ) {
        t.match(forecaster.forecast(query).reason, 'its own course: 40 bins of 1 s');
        asked += 1;
        await sleep(50);
      }
      t.match(lines.join('\n'), word);
    };
    writeFileSync(join(model, 'current'), '2\n');
    await until(/another version of the model serves \{"model":"own@2"\}/);
    writeFileSync(join(model, 'current'), '3\n');
    await until(/the model stays as it is/);
    t.ok(asked > 10);
  },
);
