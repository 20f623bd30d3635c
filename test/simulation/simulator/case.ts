import { generator } from '../generator.ts';

/** What may go wrong; each strikes by a random course of its own, so that leaving one out leaves the others as they were. */
export const FAULTS = [
  'silence', //        no samples of a guest for a while
  'lag', //            a balloon that travels slowly, or stands still
  'refusal', //        actuators refuse, vCPUs stay plugged
  'daemon-death', //   the hypervisor is gone for a while
  'second-manager', // somebody else resizes a guest
  'clock-step', //     the wall clock jumps by up to an hour
  'crash', //          the process dies around a commit, by kill -9 or by power loss
  'slow-disk', //      flushes take a while
  'full-disk', //      the ledger cannot write
  'reboot', //         a guest stops and comes back
  'operator', //       somebody changes modes, restores, disowns and adopts
] as const;
export type Fault = (typeof FAULTS)[number];

/** One life of a host. The same case gives the same life, to the byte of its log. */
export interface Case {
  readonly seed: number;
  readonly guests: number;
  readonly ticks: number;
  readonly faults: readonly Fault[];
}

/** Guests of the many small hosts: log-uniform up to so many. */
const GUESTS_MAX = 30;

/** The case of a seed: 1 to 30 guests, and each fault in two of three. */
export function caseOf(seed: number, ticks: number): Case {
  const random = course(seed, 'case');
  const guests = Math.min(GUESTS_MAX, Math.floor(Math.exp(random() * Math.log(GUESTS_MAX + 1))));
  return { seed, guests, ticks, faults: FAULTS.filter(() => random() < 2 / 3) };
}

/** Numbers in [0, 1) that depend on the seed and the name of what draws them, and on nothing else. */
export function course(seed: number, name: string): () => number {
  // FNV-1a, 32 bits: spreads names over seeds.
  let hash = 0x811c9dc5 ^ seed;
  for (let i = 0; i < name.length; i += 1) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return generator(Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d));
}
