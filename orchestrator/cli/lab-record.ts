import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { CutRecorder, type RecordedCut } from '../../libvirt-adapter/lab/cut-recorder.ts';
import type { LabGuest } from '../../libvirt-adapter/lab/guest.ts';
import { GUEST_BOUNDS, Lab } from '../../libvirt-adapter/lab/lab.ts';
import { RECORDED_WORKLOADS, type RecordedWorkload } from '../../libvirt-adapter/lab/recorded-workloads.ts';
import { AllocatorError } from '../core/errors.ts';
import { type Io, printAnswer } from './io.ts';
import { type RecordedSeries, writeRecording } from './lab-recording.ts';
import { Progress } from './progress.ts';
import { parseCount } from './quantities.ts';
import { table } from './table.ts';

/** Instructions of a cut: 2 ms of a busy vCPU under TCG. */
const EVERY = 1_000_000;
/** Cuts of a recording: a minute of one busy vCPU, and of each workload enough for 20 horizons of 64 behind a past as long. */
const CUTS_DEFAULT = 24_300;
/** The largest of the workloads needs 190 MiB beside the guest's own 60. */
const MEMORY_MIB = 384;
const NAME = 'lab-instructions';

interface RecordFlags {
  readonly out: string;
  readonly cuts: number;
  readonly vcpus: number;
  readonly json?: boolean;
}

/** `foreshade lab record`: what a guest does by what it executes, as a set to score forecasts on. */
export function recordCommand(io: Io): Command {
  return new Command('record')
    .description(
      'Record a guest of a lab of its own under many workloads, cut by cut of 1,000,000 instructions, as a series set',
    )
    .requiredOption('--out <folder>', 'where the set goes; a folder that does not exist or is empty')
    .option('--cuts <count>', 'how many, over all workloads together', parseCount, CUTS_DEFAULT)
    .option('--vcpus <count>', "the guest's; each is a series of its own", parseVcpus, 1)
    .option('--json', 'print exactly one JSON document on stdout')
    .addHelpText(
      'after',
      `
Examples:
  $ foreshade lab record --out sets/lab
  $ foreshade evaluate --data sets/lab --axis instructions --resample 1000000 --metrics time_us --horizon 64 --windows 20 --season 1`,
    )
    .action((flags: RecordFlags) => record(io, flags));
}

function parseVcpus(text: string): number {
  const [low, high] = GUEST_BOUNDS.vcpus;
  const count = Number(text);
  if (!Number.isInteger(count) || count < low || count > high)
    throw new InvalidArgumentError(`It is a whole number from ${low} to ${high}.`);
  return count;
}

async function record(io: Io, { out, cuts, vcpus, json }: RecordFlags): Promise<void> {
  const folder = resolve(out);
  if (existsSync(folder) && readdirSync(folder).length > 0)
    throw new AllocatorError('INVALID_REQUEST', `${folder} is not empty`);
  const began = performance.now();
  const stateDir = mkdtempSync(join(tmpdir(), 'foreshade-record-'));
  try {
    const lab = await Lab.up({
      guests: 1,
      guest: {
        vcpus,
        maxVcpus: vcpus,
        memoryMib: MEMORY_MIB,
        baselineMib: MEMORY_MIB,
        virtioMemMib: 0,
        icountArguments: `every=${EVERY},classes=all`,
      },
      stateDir: join(stateDir, 'lab'),
      onProgress: (line) => io.err(`${line}\n`),
    });
    const originNs = Number(process.hrtime.bigint());
    const recorded = await recordAll(io, lab.guests[0] as LabGuest, cuts).finally(() => lab.down());
    await writeRecording(folder, recorded, { name: NAME, every: EVERY, originNs });
    const seconds = (performance.now() - began) / 1000;
    printAnswer(io, json, {
      document: {
        folder,
        cuts: recorded.reduce((sum, one) => sum + one.cuts.length, 0),
        cut_instructions: EVERY,
        series: recorded.map((one) => ({ series: one.series, cuts: one.cuts.length })),
        seconds: Number(seconds.toFixed(3)),
      },
      text: recordingText(folder, recorded, seconds),
    });
  } finally {
    rmSync(stateDir, { recursive: true, force: true });
  }
}

/** The same number of cuts of each workload. */
async function recordAll(io: Io, guest: LabGuest, cuts: number): Promise<RecordedSeries[]> {
  const recorder = await CutRecorder.open(guest);
  const progress = new Progress(io);
  const share = Math.ceil(cuts / RECORDED_WORKLOADS.length);
  try {
    const recorded: RecordedSeries[] = [];
    for (const [i, workload] of RECORDED_WORKLOADS.entries()) {
      const onProgress = (count: number): void =>
        progress.tell((i + count / share) / RECORDED_WORKLOADS.length, workload.name);
      const found = await recordWorkload(recorder, guest, workload, share, { signal: io.signal, onProgress });
      recorded.push(...byVcpu(workload.name, found));
    }
    return recorded;
  } finally {
    progress.end();
    recorder.close();
  }
}

async function recordWorkload(
  recorder: CutRecorder,
  guest: LabGuest,
  workload: RecordedWorkload,
  count: number,
  watch: { signal: AbortSignal; onProgress: (count: number) => void },
): Promise<RecordedCut[]> {
  await workload.prepare(guest);
  const stop = await workload.start(guest);
  try {
    return await recorder.record(count, watch);
  } finally {
    await stop();
  }
}

function byVcpu(workload: string, cuts: readonly RecordedCut[]): RecordedSeries[] {
  const vcpus = [...new Set(cuts.map(({ vcpu }) => vcpu))].sort((a, b) => a - b);
  return vcpus.map((vcpu) => ({
    series: `${workload}-vcpu${vcpu}`,
    cuts: cuts.filter((cut) => cut.vcpu === vcpu),
  }));
}

function recordingText(folder: string, recorded: readonly RecordedSeries[], seconds: number): string {
  const mean = (values: readonly number[]): number =>
    values.reduce((sum, value) => sum + value, 0) / values.length;
  const rows = recorded.map(({ series, cuts }) => [
    series,
    String(cuts.length),
    (mean(cuts.map(({ timeNs }) => timeNs)) / 1e6).toFixed(2),
    (Math.max(...cuts.map(({ memoryBytes }) => memoryBytes || 0)) / 2 ** 20).toFixed(0),
  ]);
  return [
    table(['SERIES', 'CUTS', 'MS A CUT', 'MOST MIB'], rows, { right: [1, 2, 3] }),
    `Written to ${folder} in ${seconds.toFixed(0)} s.`,
  ].join('\n');
}
