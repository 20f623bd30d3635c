import type { Departure } from '../../libvirt-adapter/lab/runner-client.ts';

/** Parameters of one `encode` request, as the lab's runner takes them. */
export interface EncodeParams extends Readonly<Record<string, number | string>> {
  readonly input_mib: number;
  readonly level: number;
  readonly mode: 'fast' | 'balanced' | 'best';
}

/** One run of the demonstration. The seed decides its noise inside the guest. */
export interface PlannedRun {
  readonly params: EncodeParams;
  readonly seed: number;
  /** How the run leaves what its parameters say, in the middle of it. */
  readonly departure?: Departure;
}

const run = (input_mib: number, level: number, mode: EncodeParams['mode'], seed: number): PlannedRun => ({
  params: { input_mib, level, mode },
  seed,
});

/** What the forecaster gets to see first: each mode over small and large inputs, low and high levels, in no order. */
export const HISTORY: readonly PlannedRun[] = [
  run(40, 2, 'fast', 101),
  run(160, 7, 'best', 102),
  run(70, 5, 'balanced', 103),
  run(300, 3, 'fast', 104),
  run(24, 8, 'best', 105),
  run(180, 6, 'balanced', 106),
  run(90, 9, 'fast', 107),
  run(260, 4, 'best', 108),
  run(30, 3, 'balanced', 109),
  run(120, 1, 'best', 110),
  run(320, 8, 'balanced', 111),
  run(200, 6, 'fast', 112),
  run(60, 4, 'best', 113),
  run(120, 8, 'balanced', 114),
];

/** Parameters that no earlier run had, within the range of those that had run. */
export const UNSEEN: readonly PlannedRun[] = [
  run(140, 5, 'best', 201),
  run(50, 6, 'balanced', 202),
  run(240, 5, 'fast', 203),
  run(220, 7, 'best', 204),
  run(80, 3, 'balanced', 205),
  run(36, 5, 'best', 206),
  {
    ...run(330, 9, 'fast', 207),
    departure: { at_fraction: 0.3, memory_factor: 1.2, cpu_factor: 1.4 },
  },
  run(130, 4, 'fast', 208),
  run(180, 3, 'best', 209),
  run(260, 6, 'balanced', 210),
  run(70, 8, 'fast', 211),
  run(90, 6, 'best', 212),
  run(150, 7, 'balanced', 213),
  run(280, 2, 'fast', 214),
];

/** Three to four seconds of work at full size, twice that on one vCPU. */
export const BURST: EncodeParams = { input_mib: 300, level: 9, mode: 'best' };
export const BURST_ROUNDS = 5;
export const BURST_SEED = 301;
