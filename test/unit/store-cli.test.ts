// Goal: `foreshade shadow` keeps the manners of every command, and works on a store's folder with and without a writer.
// Method: runCli in process with captured streams, over stores of the test's.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tableFromIPC } from 'apache-arrow';
import t from 'tap';
import { runCaptured } from '../run-cli.ts';
import { NOON_MS, newFolder, newStore, pointAt } from './store-fixture.ts';

process.env.TZ = 'UTC';

const run = (args: readonly string[], signal = new AbortController().signal) =>
  runCaptured(['shadow', ...args], { signal });

t.test('help and wrong usage', async (t) => {
  t.match(await run(['--help']), { code: 0, out: /query[\s\S]*backup[\s\S]*Examples:/, err: '' });
  for (const name of ['query', 'stats', 'export', 'import', 'tail', 'erase', 'backup'])
    t.match(await run([name, '--help']), { code: 0, out: /--store <folder>[\s\S]*--json/ }, name);
  for (const args of [
    ['query'],
    ['query', 'SELECT 1', '--rows', '0'],
    ['export'],
    ['erase', 'acme'],
    ['tail', '--follow', '--json'],
  ])
    t.match(await run(args), { code: 2, out: '', err: /See: foreshade shadow/ }, args.join(' '));
});

t.test('a store that is written is read beside it, and only the writer changes it', async (t) => {
  const folder = newFolder(t);
  const directory = join(folder, 'store');
  const at = ['--store', directory];
  const store = newStore(t, { directory });
  for (let n = 0; n < 12; n += 1)
    store.record(pointAt(n, { guest: `g${n % 2}`, tenant: 'acme', requestId: 'r1' }));
  await store.flush();

  const asked = await run([
    'query',
    'SELECT time, guest, cpu_millicores AS n FROM shadow ORDER BY time LIMIT 1',
    '--json',
    ...at,
  ]);
  t.equal(asked.code, 0);
  t.strictSame(JSON.parse(asked.out), {
    columns: ['time', 'guest', 'n'],
    rows: [['2026-01-31T12:00:00.000Z', 'g0', 0]],
    truncated: false,
  });
  const text = await run([
    'query',
    'SELECT guest, count(*) AS n FROM shadow GROUP BY guest ORDER BY guest',
    '--rows',
    '1',
    ...at,
  ]);
  t.equal(text.out, 'guest  n\ng0     6\n');
  t.match(text.err, /more than 1 rows/);

  const stats = JSON.parse((await run(['stats', '--json', ...at])).out);
  t.match(stats, { schema: 2, log: { segments: 1, rows: 12 }, damage: [] });
  t.match((await run(['stats', ...at])).out, /TIER[\s\S]*log +1 +12/);

  t.match(
    (await run(['tail', '-n', '2', ...at])).out,
    /^2026-01-31T12:00:10.000\+00:00 {2}g0 {2}r1 {2}cpu_millicores=10\n.*cpu_millicores=11\n$/,
  );
  const tailed = JSON.parse((await run(['tail', '--guest', 'g1', '-n', '1', '--json', ...at])).out);
  t.strictSame(tailed, {
    samples: [{ time: NOON_MS + 11_000, guest: 'g1', request_id: 'r1', metrics: { cpu_millicores: 11 } }],
  });

  const stop = new AbortController();
  const followed = run(['tail', '--follow', '-n', '1', ...at], stop.signal);
  setTimeout(() => store.record(pointAt(99)), 100);
  setTimeout(() => stop.abort(), 1000);
  t.match((await followed).out, /cpu_millicores=11\n.*cpu_millicores=99\n$/);

  for (const format of ['csv', 'arrow', 'parquet'])
    t.equal(
      (
        await run([
          'export',
          'SELECT guest FROM shadow',
          '--format',
          format,
          '--out',
          join(folder, format),
          ...at,
        ])
      ).code,
      0,
      format,
    );
  t.equal(readFileSync(join(folder, 'csv'), 'utf8').split('\n').length, 1 + 13 + 1);
  t.equal(tableFromIPC(readFileSync(join(folder, 'arrow'))).numRows, 13);

  t.match(await run(['backup', join(folder, 'copy'), ...at]), { code: 0 });
  t.match(
    JSON.parse(
      (await run(['query', 'SELECT count(*) AS n FROM shadow', '--json', '--store', join(folder, 'copy')]))
        .out,
    ),
    { rows: [[13]] },
  );

  const refused = await run(['erase', 'acme', '--yes', '--json', ...at]);
  t.equal(refused.code, 1);
  t.match(JSON.parse(refused.out), { error: { reason: 'STORE_IN_USE' } });
  t.match(await run(['erase', 'acme', '--yes', '--store', join(folder, 'copy')]), {
    code: 0,
    out: 'Erased: acme\n',
  });
  t.match(
    JSON.parse(
      (await run(['query', 'SELECT guest FROM shadow', '--json', '--store', join(folder, 'copy')])).out,
    ),
    { rows: [['g1']] },
  );

  t.match(await run(['query', 'SELECT nothing', ...at]), { code: 1, out: '', err: /QUERY_REFUSED/ });
  t.match(await run(['stats', '--store', join(folder, 'none')]), {
    code: 1,
    err: /does not exist \(STORE_UNAVAILABLE\)/,
  });
  t.notOk(existsSync(join(folder, 'none')), 'a question makes no store');
});

t.test('import', async (t) => {
  const folder = newFolder(t);
  mkdirSync(join(folder, 'set'));
  writeFileSync(
    join(folder, 'set', 'dataset.json'),
    JSON.stringify({ name: 'set', kind: 'series', step_seconds: 60 }),
  );
  writeFileSync(join(folder, 'set', 'series.csv'), 'series,t,load\na,1000,1\na,1060,2\n');
  const at = ['--store', join(folder, 'store')];
  const imported = await run(['import', join(folder, 'set'), '--json', ...at]);
  t.match(JSON.parse(imported.out), { imported: [{ rows: 2 }] });
  t.match(await run(['import', join(folder, 'set'), ...at]), {
    code: 1,
    err: /imported before \(SET_REFUSED\)/,
  });
});
