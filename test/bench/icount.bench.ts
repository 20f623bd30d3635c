/**
 * Goal: what counting instructions costs a guest: counts alone, cuts each million, classes, and both.
 * Method: guests that differ in nothing but the plugin, all idle but one at a time. In each of seven interleaved rounds
 * every guest runs the same two programs: a loop of blocks of four instructions, the worst case, and sha256sum. The
 * figure is the processor time of its QEMU, all threads, from the scheduler; the median over the median of the guest
 * without the plugin counts. Prints one JSON document; exits 1 when a bar is missed.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LabGuest } from '../../libvirt-adapter/lab/guest.ts';
import { Lab } from '../../libvirt-adapter/lab/lab.ts';
import { takesPlugins } from '../../libvirt-adapter/lab/plugin-support.ts';
import { labUnavailableReason } from '../../libvirt-adapter/lab/requirements.ts';
import { installProgram } from '../e2e/icount-programs.ts';
import { recordFigure } from '../figures.ts';

const ROUNDS = 7;
const SPIN_ITERATIONS = 400_000_000;
const HASHED_MIB = 32;

/** Guests by name: what their plugin is told, or undefined for a guest without it. */
const GUESTS = {
  none: undefined,
  counts: '',
  cuts: 'every=1000000',
  classes: 'classes=all',
  'cuts-and-classes': 'every=1000000,classes=all',
} as const;
type Name = keyof typeof GUESTS;
const NAMES = Object.keys(GUESTS) as Name[];

const WORKLOADS = ['loop', 'sha256sum'] as const;
type Workload = (typeof WORKLOADS)[number];

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** Processor time of a process, all its threads, ms, from Linux's scheduler. */
function cpuMs(pid: number): number {
  let ns = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    ns += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
  }
  return ns / 1e6;
}

async function startGuests(
  lab: Lab,
  folder: string,
): Promise<{ guests: Record<Name, LabGuest>; spin: string }> {
  const guests = {} as Record<Name, LabGuest>;
  let spin = '';
  for (const [name, icountArguments] of Object.entries(GUESTS) as [Name, string | undefined][]) {
    guests[name] = await lab.addGuest({
      name,
      virtioMemMib: 0,
      ...(icountArguments === undefined && { icount: false }),
      ...(icountArguments !== undefined && icountArguments !== '' && { icountArguments }),
    });
    const program = { name: 'spin', iterations: SPIN_ITERATIONS, body: 'spin' as const };
    spin = await installProgram(guests[name], folder, program);
  }
  return { guests, spin };
}

async function measure(guest: LabGuest, command: string): Promise<number> {
  const pid = guest.pid;
  if (pid === undefined) throw new Error(`${guest.name} does not run`);
  const before = cpuMs(pid);
  const { exitCode, stderr } = await guest.exec('/bin/sh', '-c', command);
  if (exitCode !== 0) throw new Error(`${guest.name}: ${command}: ${stderr}`);
  return cpuMs(pid) - before;
}

async function main(): Promise<void> {
  const unavailable =
    labUnavailableReason() ?? ((await takesPlugins()) ? undefined : 'this QEMU takes no plugins');
  if (unavailable !== undefined) {
    console.log(JSON.stringify({ skipped: unavailable }));
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'fs-icount-'));
  const stateDir = join(folder, 'lab');
  try {
    const lab = await Lab.up({ guests: 0, stateDir, onProgress: (line) => console.error(line) });
    const { guests, spin } = await startGuests(lab, folder);
    const commands: Record<Workload, string> = {
      loop: spin,
      sha256sum: `dd if=/dev/zero bs=1M count=${HASHED_MIB} 2>/dev/null | sha256sum > /dev/null`,
    };
    const taken = Object.fromEntries(
      WORKLOADS.map((workload) => [
        workload,
        Object.fromEntries(NAMES.map((name) => [name, [] as number[]])),
      ]),
    ) as Record<Workload, Record<Name, number[]>>;
    for (let round = 0; round < ROUNDS; ++round) {
      for (const workload of WORKLOADS) {
        for (const name of NAMES) taken[workload][name].push(await measure(guests[name], commands[workload]));
      }
    }
    report(taken);
  } finally {
    await Lab.remove(stateDir);
    rmSync(folder, { recursive: true, force: true });
  }
}

function report(taken: Record<Workload, Record<Name, number[]>>): void {
  const rows = WORKLOADS.map((workload) => {
    const base = median(taken[workload].none);
    const ratios = Object.fromEntries(NAMES.map((name) => [name, median(taken[workload][name]) / base]));
    return [workload, { noneMs: base, ratios: ratios as Record<Name, number>, ms: taken[workload] }] as const;
  });
  const { loop, sha256sum } = Object.fromEntries(rows) as Record<Workload, (typeof rows)[number][1]>;
  const bars = [
    { bar: 'icount-counts-loop', value: loop.ratios.counts, max: 1.5 },
    { bar: 'icount-cuts-loop', value: loop.ratios.cuts, max: 2 },
    { bar: 'icount-classes-added-loop', value: loop.ratios.classes - loop.ratios.counts, max: 0.3 },
    {
      bar: 'icount-classes-added-cuts-loop',
      value: loop.ratios['cuts-and-classes'] - loop.ratios.cuts,
      max: 0.3,
    },
    { bar: 'icount-sha256sum', value: Math.max(...Object.values(sha256sum.ratios)), max: 1.5 },
  ].map(({ bar, value, max }) => ({ bar, value, limit: `at most ${max}`, met: value <= max }));
  bars.forEach(recordFigure);
  console.log(JSON.stringify({ loop, sha256sum, bars }, null, 2));
  if (bars.some(({ met }) => !met)) process.exitCode = 1;
}

await main();
