import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { runCommandBinary } from './command.ts';

const ELF_MAGIC = '7f454c46';
const GZIP_MAGIC = '1f8b';

/** Programs that unpack a kernel payload or a module to standard output, by the magic bytes of what they read. */
const UNPACKERS = [
  { magic: '02214c18', command: ['lz4', '-dcq'] },
  { magic: '28b52ffd', command: ['zstd', '-dcq'] },
  { magic: 'fd377a58', command: ['xz', '-dc'] },
  { magic: GZIP_MAGIC, command: ['gzip', '-dc'] },
  { magic: '5d0000', command: ['xz', '--format=lzma', '-dc'] },
  { magic: '425a68', command: ['bzip2', '-dc'] },
] as const;

/** Offsets in the boot header. Source: the kernel's Documentation/arch/x86/boot.rst. */
const SETUP_SECTORS = 0x1f1;
const HEADER_MAGIC = 0x202;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const SECTOR_BYTES = 512;

async function unpack(packed: Uint8Array, what: string): Promise<Buffer> {
  const bytes = Buffer.from(packed.buffer, packed.byteOffset, packed.byteLength);
  const start = bytes.subarray(0, 8).toString('hex');
  if (start.startsWith(ELF_MAGIC)) return bytes;
  const unpacker = UNPACKERS.find(({ magic }) => start.startsWith(magic));
  if (unpacker === undefined) throw new Error(`${what} is packed in a way the lab does not know (${start})`);
  const [file, ...args] = unpacker.command;
  return runCommandBinary(file, args, { input: bytes });
}

/**
 * The ELF vmlinux inside a bzImage. It boots through PVH in a third of the time that the bzImage needs under TCG.
 * @throws {Error} when the file is no bzImage or its packing is unknown
 */
export async function extractVmlinux(bzImage: Buffer): Promise<Buffer> {
  if (bzImage.length < 1024 || bzImage.toString('latin1', HEADER_MAGIC, HEADER_MAGIC + 4) !== 'HdrS') {
    throw new Error('the kernel image has no boot header');
  }
  const setupBytes = ((bzImage[SETUP_SECTORS] || 4) + 1) * SECTOR_BYTES;
  const start = setupBytes + bzImage.readUInt32LE(PAYLOAD_OFFSET);
  const payload = bzImage.subarray(start, start + bzImage.readUInt32LE(PAYLOAD_LENGTH));
  // The kernel's build appends the unpacked length, which the unpackers do not expect; gzip has one of its own.
  const isGzip = payload.subarray(0, 2).toString('hex') === GZIP_MAGIC;
  const vmlinux = await unpack(isGzip ? payload : payload.subarray(0, -4), 'the kernel image');
  if (vmlinux.subarray(0, 4).toString('hex') !== ELF_MAGIC)
    throw new Error('the kernel payload is not an ELF file');
  return vmlinux;
}

/** A kernel module, unpacked. */
export interface KernelModule {
  readonly name: string;
  readonly content: Buffer;
}

function moduleName(file: string): string {
  return basename(file)
    .replace(/\.ko(\.\w+)?$/, '')
    .replaceAll('-', '_');
}

/** The names in the `depends=` field of the module's .modinfo section. */
function dependencies(content: Buffer): readonly string[] {
  const at = content.indexOf('\0depends=');
  if (at < 0) return [];
  const start = at + '\0depends='.length;
  return content
    .toString('latin1', start, content.indexOf(0, start))
    .split(',')
    .filter((name) => name !== '')
    .map((name) => name.replaceAll('-', '_'));
}

/**
 * The wanted modules and what they depend on, each after its dependencies. A wanted name that is not a module of this
 * kernel is left out: it is built in, or the kernel does not have it.
 * @param tree an unpacked kernel package
 */
export async function collectModules(tree: string, wanted: readonly string[]): Promise<KernelModule[]> {
  const files = new Map<string, string>();
  for (const root of [join(tree, 'lib/modules'), join(tree, 'usr/lib/modules')]) {
    const entries = await readdir(root, { recursive: true }).catch(() => []);
    for (const file of entries.filter((entry) => /\.ko(\.\w+)?$/.test(entry))) {
      files.set(moduleName(file), join(root, file));
    }
  }
  const ordered = new Map<string, KernelModule>();
  const visit = async (name: string): Promise<void> => {
    const file = files.get(name);
    if (file === undefined || ordered.has(name)) return;
    const content = await unpack(await readFile(file), file);
    for (const needed of dependencies(content)) await visit(needed);
    ordered.set(name, { name, content });
  };
  for (const name of wanted) await visit(name);
  return [...ordered.values()];
}
