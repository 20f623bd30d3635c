// Goal: parameters become coordinates as docs/forecaster.md says, the same for learning and for forecasting, and
// places are given and taken in a fixed order. Method: small cases worked by hand.
import t from 'tap';
import type { Params } from '../../orchestrator/core/request.ts';
import { DIMS, hash32, NUMERIC, ParamSchema, signedLog } from '../../orchestrator/forecast/features.ts';
import { SlotTable } from '../../orchestrator/forecast/slot-table.ts';

const number = (value: number) => ({ kind: 'number', value }) as const;
const category = (value: string) => ({ kind: 'category', value }) as const;
function encode(schema: ParamSchema, params: Params): { row: number[]; novel: boolean } {
  const row = new Float64Array(DIMS);
  const novel = schema.encode(params, row);
  return { row: [...row], novel };
}
/** Coordinates that are neither zero nor NaN, by index. */
function set(row: readonly number[]): [number, number][] {
  return row.flatMap((x, j): [number, number][] => (x === 0 || Number.isNaN(x) ? [] : [[j, x]]));
}

t.test('numbers take a signed logarithm, in the order of their names', async (t) => {
  const schema = new ParamSchema();
  const params = { b: number(-9), a: number(Math.E - 1), c: { kind: 'size', value: 0 } } as const;
  schema.admit(params);
  const { row, novel } = encode(schema, params);
  t.equal(novel, false);
  t.ok(Math.abs((row[0] as number) - 1) < 1e-15, 'a: log(e)');
  t.equal(row[1], -Math.log(10), 'b: negative numbers keep their side');
  t.equal(row[2], 0, 'c: zero stays zero');
  t.ok(row.slice(3, NUMERIC).every(Number.isNaN), 'the rest was not given');
  t.equal(signedLog(9), -signedLog(-9));
});

t.test('categories get a coordinate each; unseen ones are novel', async (t) => {
  const schema = new ParamSchema();
  schema.admit({ mode: category('fast') });
  schema.admit({ mode: category('best') });
  t.strictSame(set(encode(schema, { mode: category('fast') }).row), [[NUMERIC, 1]]);
  t.strictSame(set(encode(schema, { mode: category('best') }).row), [[NUMERIC + 1, 1]]);
  const unseen = encode(schema, { mode: category('other') });
  t.strictSame(set(unseen.row), [[DIMS - 1, 1]]);
  t.equal(unseen.novel, true);
});

t.test('beyond their own places categories share sign patterns of length 1', async (t) => {
  const schema = new ParamSchema();
  for (let i = 0; i < 30; i += 1) schema.admit({ mode: category(`m${i}`) });
  const { row, novel } = encode(schema, { mode: category('m29') });
  t.equal(novel, false);
  t.strictSame(
    set(row).map(([, x]) => Math.abs(x)),
    [0.5, 0.5, 0.5, 0.5],
  );
});

t.test('missing, unknown and mistyped parameters', async (t) => {
  const schema = new ParamSchema();
  t.equal(schema.admit({ a: number(1) }).length, 1, 'earlier runs lacked it');
  t.equal(schema.admit({ a: number(2) }).length, 0, 'it is known now');
  const absent = encode(schema, {});
  t.equal(set(absent.row).length, 1, 'one indicator');
  t.strictSame(encode(schema, { a: category('x') }).row, absent.row, 'another kind is as good as absent');
  t.equal(encode(schema, { a: number(1), z: number(1) }).novel, true);
  t.equal(encode(schema, { a: number(1) }).novel, false);
});

t.test('time is the hour on a circle, text its words and length', async (t) => {
  const schema = new ParamSchema();
  schema.admit({ at: { kind: 'time', value: 0 } });
  const { row } = encode(schema, { at: { kind: 'time', value: 6 * 3_600_000 } });
  t.ok(
    Math.abs((row[0] as number) - 1) < 1e-12 && Math.abs(row[1] as number) < 1e-12,
    'six o clock: a quarter',
  );
  const texts = new ParamSchema();
  texts.admit({ q: { kind: 'text', value: 'x' } });
  const words = (value: string) => set(encode(texts, { q: { kind: 'text', value } }).row);
  t.strictSame(words('Select ALL'), words('all, select'.replace(', ', ' ')), 'order and case do not matter');
});

t.test('more numbers than places share the last two', async (t) => {
  const schema = new ParamSchema();
  const params = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`p${i}`, number(1)]));
  schema.admit(params);
  const { row } = encode(schema, params);
  const sum = row.slice(0, NUMERIC).reduce((a, b) => a + (Number.isNaN(b) ? 0 : b), 0);
  t.ok(Math.abs(sum - 40 * Math.LN2) < 1e-9, 'none is lost');
});

t.test('the hash is the published one', async (t) => {
  // Source: the FNV authors' test vectors for 32-bit FNV-1a.
  t.equal(hash32(''), 0x811c9dc5);
  t.equal(hash32('a'), 0xe40c292c);
  t.equal(hash32('foobar'), 0xbf9cf968);
});

t.test('slots: least recently claimed gives way, cleared before it is given on', async (t) => {
  const cleared: string[] = [];
  const table = new SlotTable(2, (slot, key) => cleared.push(`${key}@${slot}`));
  t.strictSame(
    ['a', 'b', 'a', 'c'].map((key) => table.claim(key)),
    [0, 1, 0, 1],
  );
  t.strictSame(cleared, ['b@1']);
  t.strictSame(
    ['a', 'b', 'c'].map((key) => table.find(key)),
    [0, -1, 1],
  );
  table.release('a');
  table.release('never');
  t.strictSame([table.claim('d'), table.size, cleared.length], [0, 2, 2]);
});
