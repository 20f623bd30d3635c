// Goal: the kernels answer alike to the bit in both builds, and on every version of Node. Method: digests of what they answer, from
// this Node and from those that FORESHADE_NODES names (such as `22,24`), which come from the npm package `node`. One that cannot be
// had is skipped by name.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';

const PROGRAM = join(import.meta.dirname, 'bits.js');
const VERSIONS = process.env.FORESHADE_NODES?.split(',') ?? [];
const INSTALL_MS_MAX = 180_000;

type Digests = Readonly<Record<string, { readonly release: string; readonly debug: string }>>;

const digestsOn = (program: string): Digests =>
  JSON.parse(execFileSync(program, [PROGRAM], { encoding: 'utf8' }));

const here = digestsOn(process.execPath);

t.test(`debug and release agree on Node ${process.version}`, async (t) => {
  for (const [name, { release, debug }] of Object.entries(here)) t.equal(release, debug, name);
});

for (const version of VERSIONS)
  t.test(`Node ${version}`, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'foreshade-node-'));
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const wanted = ['install', '--no-save', '--no-audit', '--no-fund', '--prefix', folder, `node@${version}`];
    const got = spawnSync('npm', wanted, { encoding: 'utf8', timeout: INSTALL_MS_MAX });
    const program = join(folder, 'node_modules', 'node', 'bin', 'node');
    const ran = spawnSync(program, ['--version'], { encoding: 'utf8' });
    if (!ran.stdout?.startsWith(`v${version}.`)) {
      const why = got.error?.message ?? got.stderr.split('\n').find((line) => line.startsWith('npm error'));
      t.pass(`Node ${version}`, { skip: `node@${version} of the npm registry cannot be had: ${why}` });
      return;
    }
    t.strictSame(digestsOn(program), here, `${ran.stdout.trim()} as ${process.version}`);
  });
