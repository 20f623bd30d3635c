import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { runCommand } from './command.ts';
import { initramfs } from './initramfs.ts';
import { collectModules, extractVmlinux } from './kernel.ts';
import { DEFAULT_CACHE_DIR, ICOUNT_HEADERS, ICOUNT_SOURCES, LAB_SOURCES } from './paths.ts';

/** Raised when the assets' form changes in a way that the sources' hash does not show. */
const ASSETS_VERSION = 1;

/** Drivers of what domain.ts gives a guest; their dependencies are found. */
const GUEST_MODULES = [
  'virtio_pci',
  'virtio_balloon',
  'virtio_mem',
  'virtio_console',
  'virtio_blk',
  'virtio_net',
];

const CFLAGS = ['-std=c17', '-O2', '-Wall', '-Wextra'];

/** What is compiled, from which sources, how. */
const PROGRAMS = [
  { name: 'init', sources: ['guest/init.c'], flags: ['-static'] },
  {
    name: 'runner',
    sources: ['guest/runner.c', 'guest/workloads.c', 'guest/execute.c', 'guest/json.c'],
    headers: ['guest/plan.h', 'guest/execute.h', 'guest/json.h'],
    flags: ['-static', '-pthread'],
    libraries: ['-lm'],
  },
  { name: 'sink', sources: ['host/sink.c'], flags: [] },
  {
    name: 'icount.so',
    sources: ICOUNT_SOURCES,
    headers: ICOUNT_HEADERS,
    flags: ['-fPIC', '-shared', '-fvisibility=hidden'],
  },
] as const;

/** Files a lab is made of; all paths absolute. */
export interface LabAssets {
  readonly vmlinux: string;
  readonly initramfs: string;
  readonly sink: string;
  readonly icountPlugin: string;
}

/** Told what is being done, in words for a person. */
export type Progress = (line: string) => void;

function sourcePath(source: string): string {
  return source.startsWith('/') ? source : join(LAB_SOURCES, source);
}

async function hashFiles(files: readonly string[]): Promise<string> {
  const hash = createHash('sha256').update(`${ASSETS_VERSION}\n`);
  for (const file of files) hash.update(await readFile(file)).update('\0');
  return hash.digest('hex').slice(0, 16);
}

/**
 * Make `folder` by `fill`, once. It appears whole or not at all: two processes may race, the second finds it done.
 */
async function once(folder: string, fill: (draft: string) => Promise<void>): Promise<void> {
  if (existsSync(folder)) return;
  await mkdir(dirname(folder), { recursive: true });
  const draft = await mkdtemp(`${folder}.draft-`);
  try {
    await fill(draft);
    await rename(draft, folder).catch((error) => {
      if (!existsSync(folder)) throw error;
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

async function downloadPackage(name: string, folder: string): Promise<string> {
  const download = () =>
    runCommand('apt-get', ['-qq', '-o', 'APT::Sandbox::User=root', 'download', name], { cwd: folder });
  // Package lists that are absent or older than the mirror make the first try fail.
  await download().catch(async () => {
    await runCommand('apt-get', ['-qq', 'update'], { timeoutMs: 300_000 });
    await download();
  });
  const file = (await readdir(folder)).find(
    (entry) => entry.startsWith(`${name}_`) && entry.endsWith('.deb'),
  );
  if (file === undefined) throw new Error(`apt-get download ${name} left no file`);
  return join(folder, file);
}

async function unpackPackage(name: string, folder: string): Promise<void> {
  const file = await downloadPackage(name, folder);
  await runCommand('dpkg', ['-x', file, folder]);
  await rm(file);
}

/** The kernel package that the distribution's linux-image-cloud-amd64 stands for today. */
async function kernelPackage(): Promise<string> {
  const find = async () =>
    /Depends: (linux-image-\S+)/.exec(
      await runCommand('apt-cache', ['depends', 'linux-image-cloud-amd64']),
    )?.[1];
  let found = await find().catch(() => undefined);
  if (found === undefined) {
    await runCommand('apt-get', ['-qq', 'update'], { timeoutMs: 300_000 });
    found = await find();
  }
  if (found === undefined) throw new Error('the package lists name no kernel for linux-image-cloud-amd64');
  return found;
}

async function buildKernel(folder: string, progress: Progress): Promise<void> {
  const name = await kernelPackage();
  progress(`downloading ${name}`);
  const tree = join(folder, 'tree');
  await mkdir(tree);
  await unpackPackage(name, tree);
  const image = (await readdir(join(tree, 'boot'))).find((entry) => entry.startsWith('vmlinuz-'));
  if (image === undefined) throw new Error(`${name} holds no /boot/vmlinuz-*`);
  progress('unpacking the kernel');
  await writeFile(join(folder, 'vmlinux'), await extractVmlinux(await readFile(join(tree, 'boot', image))));
  const modules = await collectModules(tree, GUEST_MODULES);
  await mkdir(join(folder, 'modules'));
  for (const module of modules) await writeFile(join(folder, 'modules', `${module.name}.ko`), module.content);
  await writeFile(join(folder, 'modules/order'), modules.map((module) => `${module.name}.ko\n`).join(''));
  await rm(tree, { recursive: true });
}

async function buildAgent(folder: string, progress: Progress): Promise<void> {
  progress('downloading qemu-guest-agent');
  await unpackPackage('qemu-guest-agent', folder);
}

async function compile(folder: string, progress: Progress): Promise<void> {
  progress('compiling the init, the workload runner, the sink and the instruction-count plugin');
  for (const program of PROGRAMS) {
    await runCommand('gcc', [
      ...CFLAGS,
      ...program.flags,
      '-o',
      join(folder, program.name),
      ...program.sources.map(sourcePath),
      ...('libraries' in program ? program.libraries : []),
    ]);
  }
}

function programSources(): string[] {
  return PROGRAMS.flatMap((program) => [
    ...program.sources.map(sourcePath),
    ...('headers' in program ? program.headers.map(sourcePath) : []),
  ]);
}

/**
 * Kernel, initramfs and programs of the lab; what exists in the cache is not made again, so the second call takes
 * milliseconds and needs no network. Remove the cache folder to take up a newer kernel.
 * @throws {CommandError} when a package cannot be downloaded or a program does not compile
 */
export async function buildAssets(
  progress: Progress = () => undefined,
  cacheDir: string = DEFAULT_CACHE_DIR,
): Promise<LabAssets> {
  const kernel = join(cacheDir, `kernel-v${ASSETS_VERSION}`);
  const agent = join(cacheDir, `agent-v${ASSETS_VERSION}`);
  await once(kernel, (draft) => buildKernel(draft, progress));
  await once(agent, (draft) => buildAgent(draft, progress));
  const programs = join(cacheDir, `programs-${await hashFiles(programSources())}`);
  await once(programs, (draft) => compile(draft, progress));
  const image = join(
    cacheDir,
    `initramfs-${await hashFiles([join(programs, 'init'), join(programs, 'runner')])}`,
  );
  await once(image, async (draft) => {
    progress('making the initramfs');
    await writeFile(join(draft, 'initramfs.cpio'), await initramfs({ kernel, agent, programs }));
  });
  return {
    vmlinux: join(kernel, 'vmlinux'),
    initramfs: join(image, 'initramfs.cpio'),
    sink: join(programs, 'sink'),
    icountPlugin: join(programs, 'icount.so'),
  };
}
