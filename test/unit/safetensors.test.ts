// Goal: a safetensors file is read back as it was written, is the format others read, and whatever else is refused with
// its rule, never a crash. Method: a file worked by hand, byte by byte; a table of broken headers; a cut at every byte;
// random damage.
import t from 'tap';
import { readSafetensors, writeSafetensors } from '../../models/files/safetensors.ts';
import { AllocatorError } from '../../orchestrator/core/errors.ts';
import { randomFrom } from '../random.ts';

const SEED = 8_080;
t.comment(`seed ${SEED}`);

/** A file of a header, given as text or as an object, and numbers. */
function fileOf(header: unknown, bytes = 0, pad = true): Uint8Array {
  const text = typeof header === 'string' ? header : JSON.stringify(header);
  const length = pad ? Math.ceil(text.length / 8) * 8 : text.length;
  const file = Buffer.alloc(8 + length + bytes, 0x20);
  file.writeBigUInt64LE(BigInt(length));
  file.write(text, 8);
  file.fill(0, 8 + length);
  return file;
}
const tensor = (from: number, to: number, shape = [(to - from) / 4]) => ({
  dtype: 'F32',
  shape,
  data_offsets: [from, to],
});

/** The rule a file is refused with; undefined when it is read. */
function refusalOf(file: Uint8Array): string | undefined {
  try {
    readSafetensors(file);
    return undefined;
  } catch (error) {
    if (error instanceof AllocatorError && error.code === 'INVALID_REQUEST') return error.message;
    throw error;
  }
}

const example = {
  tensors: new Map([
    ['cell', { shape: [2, 3], values: Float32Array.of(1, -2, 3.5, 0, 1e-30, 3e38) }],
    ['scale', { shape: [], values: Float32Array.of(0.25) }],
    ['none', { shape: [0, 7], values: new Float32Array() }],
    ['__proto__', { shape: [1], values: Float32Array.of(7) }],
  ]),
  metadata: { format: 'foreshade', step: '300 s' },
};

t.test('what was written is read', async (t) => {
  const read = readSafetensors(writeSafetensors(example));
  t.strictSame(new Map(read.tensors), example.tensors);
  t.strictSame(read.metadata, example.metadata);
  t.strictSame(readSafetensors(writeSafetensors({ tensors: new Map(), metadata: {} })).tensors.size, 0);
});

t.test('a file by hand, byte by byte', async (t) => {
  const header = '{"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  ';
  const expected = Buffer.concat([
    Buffer.from([56, 0, 0, 0, 0, 0, 0, 0]),
    Buffer.from(header),
    Buffer.from([0, 0, 128, 63, 0, 0, 0, 192]), // 1 and -2
  ]);
  const tensors = new Map([['b', { shape: [2], values: Float32Array.of(1, -2) }]]);
  t.strictSame(Buffer.from(writeSafetensors({ tensors, metadata: {} })), expected);
  t.strictSame(readSafetensors(expected).tensors, tensors);
  const odd = Buffer.concat([Buffer.from([0]), expected]).subarray(1);
  t.strictSame(readSafetensors(odd).tensors, tensors, 'wherever the bytes stand in memory');
});

for (const { name, file, rule } of [
  { name: 'nothing', file: new Uint8Array(), rule: /too short/ },
  { name: 'half a length', file: new Uint8Array(5), rule: /too short/ },
  { name: 'a header beyond 1 MiB', file: Buffer.from('0100100000000000', 'hex'), rule: /1 MiB at most/ },
  { name: 'a header beyond all', file: Buffer.alloc(8, 0xff), rule: /1 MiB at most/ },
  {
    name: 'a header beyond the file',
    file: Buffer.from('1000000000000000', 'hex'),
    rule: /shorter than its header/,
  },
  { name: 'numbers off their multiple', file: fileOf('{}', 0, false), rule: /multiple of 8/ },
  { name: 'no JSON', file: fileOf('{"a":'), rule: /must be JSON/ },
  {
    name: 'no UTF-8',
    file: fileOf(Buffer.from('{"a":1}').toString('latin1').replace('a', '\xff')),
    rule: /JSON|tensor/,
  },
  { name: 'a list', file: fileOf('[]'), rule: /begin with a brace/ },
  { name: 'a space before the brace', file: fileOf(' {}'), rule: /begin with a brace/ },
  { name: 'a tensor that is a number', file: fileOf({ a: 1 }), rule: /tensor must be a JSON object/ },
  {
    name: 'another dtype',
    file: fileOf({ a: { ...tensor(0, 8), dtype: 'F64' } }, 8),
    rule: /must be of F32/,
  },
  {
    name: 'an unknown field',
    file: fileOf({ a: { ...tensor(0, 8), more: 1 } }, 8),
    rule: /shape and data_offsets only/,
  },
  { name: 'a negative size', file: fileOf({ a: tensor(0, 8, [-2]) }, 8), rule: /whole numbers/ },
  { name: 'half a size', file: fileOf({ a: tensor(0, 8, [0.5, 4]) }, 8), rule: /whole numbers/ },
  {
    name: 'nine dimensions',
    file: fileOf({ a: tensor(0, 4, new Array(9).fill(1)) }, 4),
    rule: /whole numbers/,
  },
  { name: 'a size of more', file: fileOf({ a: tensor(0, 8, [3]) }, 8), rule: /as its shape says/ },
  {
    name: 'a size beyond counting',
    file: fileOf({ a: tensor(0, 8, [2 ** 52, 2 ** 52]) }, 8),
    rule: /as its shape says/,
  },
  {
    name: 'one offset',
    file: fileOf({ a: { ...tensor(0, 8), data_offsets: [0] } }, 8),
    rule: /two whole numbers/,
  },
  { name: 'an end before its begin', file: fileOf({ a: tensor(8, 0, [2]) }, 8), rule: /within the file/ },
  { name: 'an end beyond the file', file: fileOf({ a: tensor(0, 12) }, 8), rule: /within the file/ },
  { name: 'an overlap', file: fileOf({ a: tensor(0, 8), b: tensor(4, 12) }, 12), rule: /gap or overlap/ },
  {
    name: 'the same span twice',
    file: fileOf({ a: tensor(0, 8), b: tensor(0, 8) }, 8),
    rule: /gap or overlap/,
  },
  { name: 'a gap', file: fileOf({ a: tensor(0, 4), b: tensor(8, 12) }, 12), rule: /gap or overlap/ },
  { name: 'numbers of nobody', file: fileOf({ a: tensor(0, 4) }, 8), rule: /end with its last tensor/ },
  { name: 'metadata of numbers', file: fileOf({ __metadata__: { a: 1 } }), rule: /metadata must be texts/ },
  { name: 'metadata of a list', file: fileOf({ __metadata__: [] }), rule: /metadata must be a JSON object/ },
]) {
  t.test(`${name} is refused`, async (t) => {
    t.match(refusalOf(file) ?? 'it was read', rule);
  });
}

t.test('a cut at any byte is refused', async (t) => {
  const file = writeSafetensors(example);
  for (let length = 0; length < file.length; length += 1)
    if (refusalOf(file.subarray(0, length)) === undefined)
      t.fail(`${length} of ${file.length} bytes were read`);
  t.equal(refusalOf(file), undefined);
});

t.test('damage is refused or read, and nothing else', async (t) => {
  const random = randomFrom(SEED);
  const file = writeSafetensors(example);
  let refused = 0;
  for (let i = 0; i < 5000; i += 1) {
    const damaged = file.slice();
    for (let hits = 0; hits <= i % 4; hits += 1)
      damaged[Math.floor(random() * file.length)] = Math.floor(random() * 256);
    if (refusalOf(damaged) !== undefined) refused += 1;
  }
  t.ok(refused > 1000, `${refused} of 5000 refused`);
});
