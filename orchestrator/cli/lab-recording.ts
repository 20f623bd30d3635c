import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { RecordedCut } from '../../libvirt-adapter/lab/cut-recorder.ts';
import { INSTRUCTION_CLASSES } from '../core/sample.ts';
import { CLASS_COLUMNS } from '../core/shadow.ts';
import { writeWhole } from './whole-file.ts';

/** Metrics of a recording with their units, in the order of its columns. */
const METRICS: Readonly<Record<string, string>> = {
  instructions: 'executed in the cut',
  time_us: 'us from the cut before',
  cpu_delay_us: "us of them for which the vCPU's thread waited for a host CPU",
  memory_bytes: 'B that the guest cannot give back',
  ...Object.fromEntries(CLASS_COLUMNS.map((name) => [name, 'executed in the cut'])),
};

/** Cuts of one vCPU under one workload, in order. */
export interface RecordedSeries {
  readonly series: string;
  readonly cuts: readonly RecordedCut[];
}

/** What is said of a recording as a whole. */
export interface RecordingFacts {
  readonly name: string;
  /** Instructions of a cut. */
  readonly every: number;
  /** Where time 0 of the set is on the clock of the cuts, ns. */
  readonly originNs: number;
}

/**
 * Write a recording as a series set: dataset.json and series.csv.gz, each whole or not at all.
 * @param folder is made when it does not exist
 * @throws {AllocatorError} INVALID_REQUEST when it cannot be written
 */
export async function writeRecording(
  folder: string,
  recorded: readonly RecordedSeries[],
  { name, every, originNs }: RecordingFacts,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const lines = [`series,t,${Object.keys(METRICS).join(',')}`];
  for (const { series, cuts } of recorded)
    for (const cut of cuts) lines.push(`${series},${rowOf(cut, originNs)}`);
  await writeWhole(join(folder, 'series.csv.gz'), gzipSync(`${lines.join('\n')}\n`));
  const facts = {
    name,
    kind: 'series',
    rows: lines.length - 1,
    series: recorded.length,
    season_steps: 0,
    cut_instructions: every,
    metrics: METRICS,
    source: 'cuts of a lab guest, recorded by foreshade lab record',
    licence: 'Apache-2.0',
  };
  await writeWhole(join(folder, 'dataset.json'), `${JSON.stringify(facts, null, 2)}\n`);
}

function rowOf(
  { atNs, instructions, timeNs, delayNs, memoryBytes, classes }: RecordedCut,
  originNs: number,
): string {
  const us = (ns: number): string => number(ns / 1000, 3);
  return [
    number((atNs - originNs) / 1e9, 6),
    instructions,
    us(timeNs),
    us(delayNs),
    number(memoryBytes, 0),
    ...INSTRUCTION_CLASSES.map((name) => classes[name]),
  ].join(',');
}

/** A value that was not read is empty. */
function number(value: number, digits: number): string {
  return Number.isNaN(value) ? '' : value.toFixed(digits);
}
