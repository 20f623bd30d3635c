/**
 * Goal: the plugin knows each instruction's class from its bytes, and reads no byte beyond them.
 * Method: mnemonics are encoded by the assembler and given to the decoder, which is compiled with sanitizers; what each
 * must be is told here by hand, after the architecture's manual. Then a library's whole code, against a second opinion
 * formed from the disassembler's text alone; then garbage from a printed seed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const SEED = Number(process.env.FORESHADE_SEED ?? Date.now() % 1_000_000);
/** Code of all kinds, on every Debian. */
const LIBRARY = '/lib/x86_64-linux-gnu/libc.so.6';
const OUTPUT_BYTES_MAX = 128 * 1024 * 1024;

const folder = mkdtempSync(join(tmpdir(), 'foreshade-classes-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const decoder = join(folder, 'icount-classes');

function compile(...flags: string[]): string | undefined {
  const sources = ['test/unit/icount-classes.c', 'libvirt-adapter/icount/insn-class.c'];
  const result = spawnSync(
    'gcc',
    ['-std=c17', '-O1', '-Wall', '-Wextra', '-o', decoder, ...flags, ...sources],
    {
      cwd: ROOT,
      encoding: 'utf8',
    },
  );
  return result.error?.message ?? (result.status === 0 ? undefined : result.stderr);
}

const isX86 = process.arch === 'x64';
const sanitized = compile('-fsanitize=address,undefined', '-fno-sanitize-recover') === undefined;
const uncompiled = sanitized ? undefined : compile();
const skip = uncompiled !== undefined && `the decoder does not compile here: ${uncompiled}`;
const skipAssembler = skip || (!isX86 && 'the assembler here makes no x86 code');

/** Classes of instructions given as hexadecimal digits. */
function classesOf(encodings: readonly string[]): string[] {
  const result = spawnSync(decoder, {
    input: encodings.map((line) => `${line}\n`).join(''),
    encoding: 'utf8',
    maxBuffer: OUTPUT_BYTES_MAX,
  });
  if (result.status !== 0) throw new Error(`the decoder failed: ${result.stderr}`);
  return result.stdout.trimEnd().split('\n');
}

interface Disassembled {
  readonly hex: string;
  readonly text: string;
}

function disassemble(file: string): Disassembled[] {
  const options = { encoding: 'utf8', maxBuffer: OUTPUT_BYTES_MAX } as const;
  return spawnSync('objdump', ['-d', '-w', file], options)
    .stdout.split('\n')
    .flatMap((line) => {
      const [, hex = '', text = ''] = /^\s+[0-9a-f]+:\t((?:[0-9a-f]{2} )+)\s*\t(.*)$/.exec(line) ?? [];
      return text === '' ? [] : [{ hex: hex.replaceAll(' ', ''), text }];
    });
}

function assemble(lines: readonly string[]): Disassembled[] {
  const source = join(folder, 'lines.s');
  const object = join(folder, 'lines.o');
  writeFileSync(source, `.text\n${lines.join('\n')}\n`);
  const result = spawnSync('as', ['--64', '-o', object, source], { encoding: 'utf8' });
  if (result.status !== 0) throw new Error(`the assembler failed: ${result.stderr}`);
  return disassemble(object);
}

const EXPECTED: Readonly<Record<string, readonly string[]>> = {
  branch: [
    ...[
      'jmp .',
      'jmp *%rax',
      'jmp *8(%rbx)',
      'jne .',
      'jg .+1000',
      'call .+64',
      'call *%r11',
      'call *(%r12,%rax,8)',
    ],
    ...[
      'ret',
      'ret $8',
      'lret',
      'loop .',
      'jrcxz .',
      'notrack jmp *%rax',
      '.byte 0xf2; jmp .+200',
      'ljmp *(%rax)',
    ],
  ],
  memory: [
    ...['mov (%rax),%rcx', 'mov %r9b,8(%r10)', 'movl $7,(%rsp)', 'mov 0x10(%rip),%rax', 'mov %fs:0x28,%rax'],
    ...[
      'push %rbp',
      'push %r12',
      'push $5',
      'push (%rax)',
      'pop %rax',
      'pop 8(%rax)',
      'leave',
      'pushf',
      'popf',
    ],
    ...[
      'add %rax,(%rdx)',
      'add (%rdx),%eax',
      'lock xadd %eax,(%rdi)',
      'lock cmpxchg16b (%rsi)',
      'cmpb $1,(%rax)',
    ],
    ...['rep movsb', 'rep stosq', 'lodsb', 'repne scasb', 'cmpsb', 'xlat', 'movabs 0x1122334455667788,%al'],
    ...['movzbl (%rax),%ecx', 'movslq (%rax),%rcx', 'cmovne (%rax),%rcx', 'sete (%rax)', 'imul (%rax),%rcx'],
    ...['bt %eax,(%rdx)', 'btsl $3,(%rdx)', 'bsf (%rax),%rcx', 'popcnt (%rax),%rcx', 'tzcnt (%rax),%rcx'],
    ...['movbe (%rax),%ecx', 'crc32q (%rax),%rcx', 'andn (%rax),%rbx,%rcx', 'mulx (%rax),%rbx,%rcx'],
    ...['shlx %rax,(%rbx),%rcx', 'rorx $5,(%rax),%rcx', 'adcx (%rax),%rcx', 'incq (%rax)', 'notl (%rax)'],
    ...['movnti %eax,(%rdx)', 'xchg %rax,(%rdx)', 'shll $3,(%rax)', 'shld $3,%eax,(%rdx)', 'push %fs'],
  ],
  vector: [
    ...[
      'movaps %xmm0,%xmm1',
      'movups (%rax),%xmm9',
      'addsd %xmm1,%xmm2',
      'cvtsi2sd %rax,%xmm0',
      'ucomiss %xmm0,%xmm1',
    ],
    ...[
      'paddq %xmm0,%xmm1',
      'pshufb (%rax),%xmm1',
      'pinsrd $1,%eax,%xmm0',
      'pextrw $1,%xmm0,%eax',
      'movq %rax,%xmm3',
    ],
    ...[
      'paddb %mm0,%mm1',
      'emms',
      'fadd %st(1),%st',
      'fldl (%rax)',
      'fnstcw (%rsp)',
      'fwait',
      'fxsave (%rax)',
    ],
    ...[
      'ldmxcsr (%rax)',
      'xsave (%rax)',
      'xrstor (%rax)',
      'xsavec (%rax)',
      'vaddpd %ymm0,%ymm1,%ymm2',
      'vzeroupper',
    ],
    ...['vmovdqu %ymm8,(%rax)', 'vfmadd231ps %ymm0,%ymm1,%ymm2', 'vgatherdps %xmm1,(%rax,%xmm2,4),%xmm3'],
    ...['vpblendd $3,%ymm0,%ymm1,%ymm2', 'vperm2i128 $1,%ymm0,%ymm1,%ymm2', 'roundsd $1,%xmm0,%xmm1'],
    ...['vmovdqu64 (%rax),%zmm17', 'vpternlogd $3,%zmm0,%zmm1,%zmm2', 'kmovw %eax,%k1', 'kandw %k1,%k2,%k3'],
    ...[
      'vpdpbusd %zmm0,%zmm1,%zmm2',
      'maskmovdqu %xmm0,%xmm1',
      'movntdqa (%rax),%xmm0',
      'vpmovzxbw %xmm0,%ymm1',
    ],
  ],
  crypto: [
    ...[
      'aesenc %xmm0,%xmm1',
      'aesdeclast (%rax),%xmm9',
      'aesimc %xmm0,%xmm1',
      'aeskeygenassist $1,%xmm0,%xmm1',
    ],
    ...['vaesenc %ymm0,%ymm1,%ymm2', 'vaesenc %zmm0,%zmm1,%zmm2', 'pclmulqdq $0,%xmm0,%xmm1'],
    ...['vpclmulqdq $0,%zmm0,%zmm1,%zmm2', 'sha256rnds2 %xmm0,%xmm1,%xmm2', 'sha256msg1 %xmm0,%xmm1'],
    ...['sha1rnds4 $1,%xmm0,%xmm1', 'sha1nexte %xmm0,%xmm1', 'gf2p8mulb %xmm0,%xmm1'],
    ...['vgf2p8affineqb $1,%ymm0,%ymm1,%ymm2', 'aesenc128kl (%rax),%xmm0', 'xcryptecb'],
  ],
  system: [
    ...[
      'syscall',
      'sysretq',
      'sysenter',
      'int3',
      'int $0x80',
      'iretq',
      'hlt',
      'cli',
      'sti',
      'cpuid',
      'rdtsc',
      'rdtscp',
    ],
    ...[
      'in %dx,%al',
      'in $0x60,%al',
      'out %eax,%dx',
      'out %al,$0x80',
      'rep insb',
      'rep outsl',
      'mov %cr3,%rax',
    ],
    ...[
      'mov %rax,%cr4',
      'mov %db7,%rax',
      'rdmsr',
      'wrmsr',
      'rdpmc',
      'invlpg (%rax)',
      'lgdt (%rax)',
      'sidt (%rax)',
    ],
    ...[
      'ltr %ax',
      'lldt (%rax)',
      'swapgs',
      'wbinvd',
      'clts',
      'smsw %ax',
      'invpcid (%rax),%rbx',
      'xgetbv',
      'xsetbv',
    ],
    ...['vmcall', 'vmread %rax,%rbx', 'vmlaunch', 'xsaves (%rax)', 'clac', 'monitor', 'mwait', 'lar %ax,%ax'],
  ],
  other: [
    ...[
      'nop',
      'nopw (%rax)',
      'endbr64',
      'lea 8(%rax),%rcx',
      'mov %rax,%rcx',
      'mov $5,%eax',
      'movabs $1234567890123,%rax',
    ],
    ...[
      'add $1,%eax',
      'add %r8,%r9',
      'xor %eax,%eax',
      'inc %rax',
      'dec %r15d',
      'imul %rcx,%rdx',
      'div %rcx',
      'cqto',
    ],
    ...[
      'test %al,%al',
      'sete %al',
      'cmovne %rax,%rcx',
      'bswap %r10',
      'popcnt %rax,%rcx',
      'xchg %rax,%rbx',
      'pause',
    ],
    ...[
      'prefetcht0 (%rax)',
      'prefetchw (%rax)',
      'clflush (%rax)',
      'clwb (%rax)',
      'mfence',
      'lfence',
      'sfence',
      'ud2',
    ],
    ...[
      'andn %rax,%rbx,%rcx',
      'rorx $5,%rax,%rcx',
      'crc32q %rax,%rcx',
      'rdrand %rax',
      'cld',
      'stc',
      'lahf',
      'sahf',
    ],
    ...[
      'mov %ds,%eax',
      'rdfsbase %rax',
      'adcx %rax,%rcx',
      'pdep %rax,%rbx,%rcx',
      'cwtl',
      'shl $3,%rax',
      'neg %rax',
    ],
  ],
};

t.test('each class, by mnemonic', { skip: skipAssembler }, async (t) => {
  t.comment(sanitized ? 'with sanitizers' : 'without sanitizers');
  for (const [name, lines] of Object.entries(EXPECTED)) {
    const encoded = assemble(lines);
    t.equal(encoded.length, lines.length, `${name}: one encoding each`);
    const found = classesOf(encoded.map(({ hex }) => hex));
    for (const [i, got] of found.entries()) t.equal(got, name, `${lines[i]} (${encoded[i]?.hex})`);
  }
});

t.test('prefixes do not hide an opcode, nor legacy modes', { skip }, async (t) => {
  for (const [hex, expected, what] of [
    ['666690', 'other', 'two operand-size prefixes'],
    ['2e660f1f840000000000', 'other', 'a long nop'],
    ['f0480fb10f', 'memory', 'lock, REX'],
    ['64488b042528000000', 'memory', 'a segment, REX'],
    ['40', 'other', 'inc eax of 32-bit code, no REX'],
    ['4f', 'other', 'dec edi of 32-bit code'],
    ['9a0000000008', 'branch', 'a far call of 32-bit code'],
    ['60', 'memory', 'pusha'],
    ['ce', 'system', 'into'],
    ['8d7600', 'other', 'lea of 32-bit code'],
    ['0fff', 'other', 'ud0'],
    ['', 'other', 'nothing'],
    ['66', 'other', 'a prefix alone'],
    ['0f', 'other', 'an escape alone'],
    ['0f38', 'other', 'two escapes alone'],
    ['c4e2', 'other', 'half of a VEX prefix'],
    ['62f17c48', 'vector', 'EVEX without its opcode: map 1 is all vector'],
    ['ff', 'other', 'an opcode without its ModRM'],
  ] as const) {
    t.equal(classesOf([hex])[0], expected, what);
  }
});

/** Second opinion, from the disassembler's text; undefined where the text does not tell. */
function classOfText(text: string): string | undefined {
  const words = text.replace(/\s*[#<].*$/, '').split(/\s+/);
  const prefixes = /^(lock|rep|repz|repnz|data16|addr32|notrack|bnd|[cdefgs]s|rex\S*|xacquire|xrelease)$/;
  while (words.length > 1 && prefixes.test(words[0] ?? '')) words.shift();
  const [name = '', ...rest] = words;
  const operands = rest.join(' ');
  if (text.includes('(bad)') || /^(\.|xbegin|xabort|bnd)/.test(name)) return undefined;
  if (/^(j|call|ret|lret|ljmp|lcall|loop)/.test(name)) return 'branch';
  if (
    /^(syscall|sysret|hlt|int\d?|iretq?|in|out|ins[bl]|outs[bl]|cli|sti|cpuid|rdtscp?|rdmsr|wrmsr|xgetbv|xend|xtest|rdpkru|wrpkru)$/.test(
      name,
    )
  )
    return 'system';
  if (/^v?(aes|sha\d|pclmul|gf2p8)/.test(name)) return 'crypto';
  if (
    /%[xyz]?mm\d|%st\b|%k[0-7]/.test(operands) ||
    /^(f|v?ldmxcsr|v?stmxcsr|vzero|emms|xsave|xrstor)/.test(name)
  )
    return 'vector';
  if (/^(nop|lea$|prefetch|clflush|clwb|endbr|ud)/.test(name)) return 'other';
  if (/^(push|pop(?!cnt)|leave|movs[bwlq]$|stos|lods|scas|cmps[bwlq]$)/.test(name)) return 'memory';
  return /\(|%[cdefgs]s:|(^|,)0x/.test(operands) ? 'memory' : 'other';
}

t.test('a whole library agrees with its disassembly', { skip: skipAssembler }, async (t) => {
  if (!existsSync(LIBRARY)) {
    t.comment(`${LIBRARY} is not there`);
    return;
  }
  const instructions = disassemble(LIBRARY);
  t.ok(instructions.length > 100_000, `${instructions.length} instructions`);
  const found = classesOf(instructions.map(({ hex }) => hex));
  const differing = instructions
    .map(({ hex, text }, i) => ({ hex, text, found: found[i], expected: classOfText(text) }))
    .filter((row) => row.expected !== undefined && row.expected !== row.found);
  t.strictSame(differing.slice(0, 10), []);
});

t.test('garbage has a class, and nothing beyond its end is read', { skip }, async (t) => {
  t.comment(`seed ${SEED}`);
  let state = SEED + 1;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const escapes = ['', '0f', '0f38', '0f3a', '62', 'c4', 'c5', '66', 'f3', '48'];
  const lines = Array.from({ length: 200_000 }, () => {
    const bytes = Array.from({ length: random(14) }, () => random(256).toString(16).padStart(2, '0'));
    return `${escapes[random(escapes.length)]}${bytes.join('')}`;
  });
  const known = new Set(Object.keys(EXPECTED));
  const found = classesOf(lines);
  t.equal(found.length, lines.length);
  t.ok(found.every((name) => known.has(name)));
});
