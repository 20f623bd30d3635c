/**
 * Goal: before each version of QEMU's plugin interface the plugin counts exactly what was executed, by vCPU and class,
 * cuts each vCPU on the grid of N, and refuses what it cannot do in words.
 * Method: the plugin is loaded into a program that offers the interface and executes random blocks from a printed seed;
 * it knows what it executed. The plugin's file is read by the reader. The plugin is compiled with sanitizers where the
 * compiler has them.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { IcountReader, type IcountRecord } from '../../libvirt-adapter/icount-reader.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const SEED = Number(process.env.FORESHADE_SEED ?? Date.now() % 1_000_000);
const STEPS = 30_000;
/** How long a reader reads what a writer overwrites, ms: tens of thousands of cuts. */
const BESIDE_WRITER_MS = 1500;
/** Instructions of the double's longest block. */
const BLOCK_INSTRUCTIONS_MAX = 512;
const FLAGS = ['-std=gnu17', '-O1', '-Wall', '-Wextra', '-fno-sanitize-recover', '-fsanitize=undefined'];
const APIS = [1, 2, 3] as const;

const folder = mkdtempSync(join(tmpdir(), 'foreshade-icount-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const out = join(folder, 'guest.icount');
const plugin = join(folder, 'icount.so');
const double = (api: number): string => join(folder, `double-${api}`);

function compile(...args: string[]): string | undefined {
  const result = spawnSync('gcc', [...FLAGS, ...args], { cwd: ROOT, encoding: 'utf8' });
  return result.error?.message ?? (result.status === 0 ? undefined : result.stderr);
}

const sources = ['icount.c', 'insn-class.c'].map((name) => `libvirt-adapter/icount/${name}`);
const uncompiled =
  compile('-fPIC', '-shared', '-fvisibility=hidden', '-o', plugin, ...sources) ??
  APIS.map((api) =>
    compile(`-DAPI=${api}`, '-rdynamic', '-o', double(api), 'test/unit/icount-double.c', '-ldl'),
  ).find((message) => message !== undefined);
const skip = uncompiled !== undefined && `the plugin does not compile here: ${uncompiled}`;

interface Executed {
  /** The interface's version that the plugin asked for. */
  readonly version: number;
  /** Callbacks registered: calls, additions, additions by vCPU, conditional calls. */
  readonly callbacks: readonly number[];
  readonly vcpus: readonly Readonly<Record<string, number>>[];
}

interface Run {
  readonly api?: number;
  readonly target?: string;
  readonly maxVcpus?: number;
  readonly args?: readonly string[];
  readonly seed?: number;
  /** A program that runs the double, with its arguments. */
  readonly under?: readonly string[];
}

function run({ api = 1, target = 'x86_64', maxVcpus = 4, args = [], under = [], seed = SEED }: Run) {
  const [program = '', ...rest] = [
    ...under,
    double(api),
    plugin,
    target,
    String(maxVcpus),
    String(STEPS),
    String(seed),
  ];
  const result = spawnSync(program, [...rest, `out=${out}`, ...args], { encoding: 'utf8' });
  return { status: result.status, stderr: result.stderr, stdout: result.stdout };
}

function execute(options: Run): Executed & { readonly stderr: string } {
  const { status, stdout, stderr } = run(options);
  if (status !== 0) throw new Error(`the double ended with ${status}: ${stderr}`);
  return { ...JSON.parse(stdout), stderr };
}

function sumOf(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

/** Executed instructions with the classes that are not counted moved to `other`. */
function folded(
  counts: Readonly<Record<string, number>>,
  counted: readonly string[],
): Record<string, bigint> {
  const kept = counted.map((name) => [name, BigInt(counts[name] ?? 0)]);
  const other = sumOf(counts) - counted.reduce((total, name) => total + (counts[name] ?? 0), 0);
  return { ...Object.fromEntries(kept), other: BigInt(other) };
}

function allRecords(reader: IcountReader): { records: IcountRecord[]; lost: bigint } {
  const records: IcountRecord[] = [];
  let lost = 0n;
  for (let since = 0n, more = true; more; ) {
    const found = reader.records(since);
    records.push(...found.records);
    lost += found.lost;
    since = found.next;
    more = found.hasMore;
  }
  return { records, lost };
}

const ALL = ['system', 'crypto', 'vector', 'branch', 'memory'];
const CASES = [
  { name: 'counts', args: [], counted: [], every: 0 },
  { name: 'cuts', args: ['every=10000'], counted: [], every: 10_000 },
  { name: 'long cuts', args: ['every=200000'], counted: [], every: 200_000 },
  { name: 'all classes', args: ['classes=all'], counted: ALL, every: 0 },
  { name: 'two classes', args: ['classes=memory+crypto'], counted: ['crypto', 'memory'], every: 0 },
  { name: 'cuts with classes', args: ['every=1000', 'classes=all'], counted: ALL, every: 1000 },
];

t.comment(`seed ${SEED}`);

for (const api of APIS) {
  for (const maxVcpus of [1, 4]) {
    for (const { name, args, counted, every } of CASES) {
      t.test(`${name}, interface ${api}, ${maxVcpus} vCPUs at most`, { skip }, async (t) => {
        const { version, vcpus } = execute({ api, maxVcpus, args, seed: SEED + 10 * api + maxVcpus });
        t.equal(version, api);
        t.equal(vcpus.length, Math.min(maxVcpus, 2));
        const reader = new IcountReader(out);
        const reading = reader.read();
        t.strictSame(
          [...reading.counts],
          vcpus.map((counts, vcpu) => [vcpu, BigInt(sumOf(counts))]),
        );
        t.strictSame(
          [...reading.classes.values()].map((counts) => Object.fromEntries(counts)),
          counted.length === 0 ? [] : vcpus.map((counts) => folded(counts, counted)),
        );
        const { records, lost } = allRecords(reader);
        t.equal(lost, 0n);
        for (const [vcpu, counts] of vcpus.entries()) {
          const positions = records.filter((r) => r.vcpu === vcpu).map((r) => Number(r.instructions));
          t.equal(positions.length, every === 0 ? 0 : Math.floor(sumOf(counts) / every));
          const beyond = positions.map((position, j) => position - (j + 1) * every);
          t.ok(beyond.every((count) => count >= 0 && count < BLOCK_INSTRUCTIONS_MAX));
        }
        for (const { instructions, classes } of records) {
          if (classes === undefined) continue;
          const sum = [...classes.values()].reduce((total, count) => total + count, 0n);
          if (sum !== instructions) t.equal(sum, instructions, 'the classes of a cut are its total');
        }
        reader.close();
      });
    }
  }
}

t.test('one possible vCPU counts inline, several by calls', { skip }, async (t) => {
  for (const { api, maxVcpus, args, kinds } of [
    { api: 1, maxVcpus: 1, args: [], kinds: [false, true, false, false] },
    { api: 1, maxVcpus: 1, args: ['every=1000'], kinds: [true, false, false, false] },
    { api: 1, maxVcpus: 2, args: [], kinds: [true, false, false, false] },
    { api: 2, maxVcpus: 1, args: [], kinds: [true, false, false, false] },
    { api: 3, maxVcpus: 1, args: ['every=1000'], kinds: [false, false, true, true] },
    { api: 3, maxVcpus: 2, args: ['every=1000'], kinds: [true, false, false, false] },
  ]) {
    const { callbacks } = execute({ api, maxVcpus, args });
    t.strictSame(
      callbacks.map((count) => count > 0),
      kinds,
      `interface ${api}, ${maxVcpus} vCPUs, ${args}`,
    );
  }
});

t.test('what a small ring could not keep is counted', { skip }, async (t) => {
  const { vcpus } = execute({ args: ['every=1000', 'ring=16'] });
  const cut = vcpus.reduce((total, counts) => total + Math.floor(sumOf(counts) / 1000), 0);
  const reader = new IcountReader(out);
  const { records, lost } = allRecords(reader);
  reader.close();
  t.equal(records.length, 16);
  t.equal(lost, BigInt(cut - 16));
});

t.test(
  'a reader beside the writer gets whole cuts, and every one is read or counted as lost',
  { skip },
  async (t) => {
    const args = [plugin, 'x86_64', '2', String(1e9), String(SEED), `out=${out}`];
    const child = spawn(double(1), [...args, 'every=1000', 'ring=16', 'classes=all'], { stdio: 'ignore' });
    const end = once(child, 'exit');
    setTimeout(() => child.kill('SIGKILL'), BESIDE_WRITER_MS);
    await sleep(100);
    const reader = new IcountReader(out);
    let next = 0n;
    let [read, lost, torn] = [0n, 0n, 0];
    for (let isOver = false; !isOver; ) {
      isOver = child.signalCode !== null || child.exitCode !== null;
      const found = reader.records(next);
      for (const { index, instructions, vcpu, classes } of found.records) {
        const sum = [...(classes?.values() ?? [])].reduce((total, count) => total + count, 0n);
        if (sum !== instructions || vcpu > 1 || index < next || instructions % 1000n >= 512n) ++torn;
      }
      read += BigInt(found.records.length);
      lost += found.lost;
      next = found.next;
      await new Promise(setImmediate);
    }
    reader.close();
    t.strictSame(await end, [null, 'SIGKILL'], 'it wrote to the end');
    t.equal(torn, 0);
    t.equal(read + lost, next);
    t.comment(`${read} read, ${lost} lost`);
    t.ok(read > 100n && lost > 100n, 'both happened');
  },
);

t.test('another architecture has no classes but other, and that is said once', { skip }, async (t) => {
  const { vcpus, stderr } = execute({ target: 'riscv64', args: ['classes=all'] });
  t.equal(stderr.match(/on riscv64 all instructions count as other/g)?.length, 1);
  const reader = new IcountReader(out);
  const classes = [...reader.read().classes.values()].map((counts) => Object.fromEntries(counts));
  reader.close();
  const none = Object.fromEntries(ALL.map((name) => [name, 0n]));
  t.strictSame(
    classes,
    vcpus.map((counts) => ({ ...none, other: BigInt(sumOf(counts)) })),
  );
});

t.test('what it cannot do it refuses in words', { skip }, async (t) => {
  const refused: readonly (Run & { message: RegExp })[] = [
    { args: ['every=999'], message: /every must be a number from 1000 to 1000000000000, not "999"/ },
    { args: ['every=1e6'], message: /every must be a number/ },
    { args: ['every=1000', 'ring=17'], message: /ring must be a power of two, not 17/ },
    { args: ['ring=16'], message: /ring needs every=N/ },
    { args: ['classes=branch+paint'], message: /no class "paint"; there are system, crypto,/ },
    { args: ['classes=bran'], message: /no class "bran"/ },
    { args: ['classes='], message: /no class ""/ },
    { args: ['colour=red'], message: /unknown argument "colour=red"/ },
    { args: ['out='], message: /out=FILE is required/ },
    { args: [`out=${folder}/absent/file`], message: /cannot write .*absent\/file: No such file/ },
    { args: ['out=/dev/full'], message: /cannot write \/dev\/full/ },
    { maxVcpus: 257, message: /257 vCPUs; the file has slots for 256/ },
    { maxVcpus: 0, message: /user-mode QEMU/ },
    { under: ['flock', out], message: /another QEMU writes it/ },
  ];
  for (const { message, ...options } of refused) {
    const { status, stderr } = run(options);
    t.equal(status, 1, String(message));
    t.match(stderr, message);
  }
});
