import { MILLICORES_PER_VCPU } from '../../orchestrator/core/profile.ts';
import { type Fields, numberIn } from './answers.ts';
import { balloonOf, stateOf } from './guest-status.ts';
import type { GuestReading } from './sample-track.ts';

/** When a reading was taken and due. */
export type ReadingTime = Pick<GuestReading, 'wallMs' | 'monotonicMs' | 'nominalMs'>;

/** A reading from `status/current`; undefined of a guest that is off. */
export function fullReading(fields: Fields, time: ReadingTime): GuestReading | undefined {
  const common = commonReading(fields, time);
  if (common === undefined) return undefined;
  const balloon = balloonOf(fields);
  const usedBytes = numberIn(fields, 'mem');
  const rssBytes = numberIn(fields, 'memhost');
  return {
    ...common,
    counters: {
      ...common.counters,
      ...counter(fields, { diskRead: 'diskread', diskWrite: 'diskwrite' }),
    },
    // Without a balloon that tells, `mem` is the host's guess.
    ...(usedBytes !== undefined && balloon?.totalBytes !== undefined && { usedBytes }),
    ...(rssBytes !== undefined && { rssBytes }),
    ...(balloon !== undefined && { balloon }),
  };
}

/** A reading from the node's list, which asks no guest: its disk counters are 0 and its memory is the host's guess. */
export function listedReading(fields: Fields, time: ReadingTime): GuestReading | undefined {
  return commonReading(fields, time);
}

function commonReading(fields: Fields, time: ReadingTime): GuestReading | undefined {
  const state = stateOf(fields);
  if (state === 'shut-off' || state === 'crashed') return undefined;
  const pressure = pressureOf(fields);
  return {
    ...time,
    run: String(numberIn(fields, 'pid') ?? ''),
    isPaused: state === 'paused',
    cpuMillicores: millicores(numberIn(fields, 'cpu'), numberIn(fields, 'cpus')),
    counters: counter(fields, { netRx: 'netin', netTx: 'netout' }),
    ...(pressure !== undefined && { pressure }),
  };
}

/**
 * CPU of a share of `cpus`. Each worker of the API compares with what it saw itself before, and says 0 the first time: a
 * guest whose emulator did nothing at all for a second is rarer than that.
 */
export function millicores(share: number | undefined, cpus: number | undefined): number | undefined {
  return share === undefined || cpus === undefined || share === 0
    ? undefined
    : share * cpus * MILLICORES_PER_VCPU;
}

function counter(fields: Fields, names: Readonly<Record<string, string>>): Record<string, number> {
  const counters: Record<string, number> = {};
  for (const [name, field] of Object.entries(names)) {
    const value = numberIn(fields, field);
    if (value !== undefined) counters[name] = value;
  }
  return counters;
}

/** Shares of the last ten seconds, which Proxmox VE 9 gives in percent. */
function pressureOf(fields: Fields): GuestReading['pressure'] {
  const share = (field: string) => {
    const percent = numberIn(fields, field);
    return percent === undefined ? undefined : Math.min(1, percent / 100);
  };
  const [cpuSome, memorySome, ioSome] = ['pressurecpusome', 'pressurememorysome', 'pressureiosome'].map(
    share,
  );
  if (cpuSome === undefined && memorySome === undefined && ioSome === undefined) return undefined;
  return {
    ...(cpuSome !== undefined && { cpuSome }),
    ...(memorySome !== undefined && { memorySome }),
    ...(ioSome !== undefined && { ioSome }),
  };
}
