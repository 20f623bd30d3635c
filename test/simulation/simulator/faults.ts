import type { Actuated } from '../../../orchestrator/core/ports.ts';
import { MIB } from '../../../orchestrator/core/profile.ts';
import { pick } from '../generator.ts';
import type { Fault } from './case.ts';
import type { SimulatedGuest } from './simulated-host.ts';

/** What a fault may do to a simulation. */
export interface Victim {
  readonly nowMs: number;
  /** Somebody else sets a size. */
  changeForeign(guest: SimulatedGuest, resource: Actuated & ('cpu' | 'memory'), value: number): void;
  sizeOf(guest: SimulatedGuest, resource: 'cpu' | 'memory'): number;
  /** Whoever judges must wait: the guest, or every guest, may be astray for so long. */
  disturb(guest: SimulatedGuest | undefined, forMs: number): void;
  killDaemon(forMs: number): void;
  crash(how: 'kill' | 'power', cut: 'before' | 'visible' | 'durable', commits: number, downMs: number): void;
  stepClock(byMs: number): void;
  slowDisk(forMs: number, flushMs: number): void;
  fillDisk(forMs: number): void;
  reboot(guest: SimulatedGuest, downMs: number): void;
  operate(guest: SimulatedGuest, what: 'shadow' | 'advise' | 'enforce' | 'restore' | 'readopt'): void;
}

/** Chance that a fault strikes at one tick: one of its kind in so many ticks. Those of one guest grow with the guests. */
export const TICKS_BETWEEN: Readonly<Record<Fault, number>> = {
  silence: 150,
  lag: 150,
  refusal: 150,
  'daemon-death': 500,
  'second-manager': 150,
  'clock-step': 300,
  crash: 300,
  'slow-disk': 200,
  'full-disk': 500,
  reboot: 250,
  operator: 100,
};

const HOUR_MS = 3_600_000;
/** Sizes that nobody else would give. */
const ODD = { cpu: 37, memory: 13 * MIB } as const;

type Strike = (victim: Victim, guest: SimulatedGuest, random: () => number) => void;

/** What each fault does when it strikes. */
export const STRIKES: Readonly<Record<Fault, Strike>> = {
  silence: ({ nowMs }, guest, random) => {
    guest.silentUntilMs = nowMs + lasts(random, 30_000);
  },
  lag: (victim, guest, random) => {
    const forMs = lasts(random, 40_000);
    guest.lag = random() < 0.3 ? 0 : random() * 0.05;
    guest.lagsUntilMs = victim.nowMs + forMs;
    victim.disturb(guest, forMs);
  },
  refusal: (victim, guest, random) => {
    const forMs = lasts(random, 20_000);
    guest.refusesUntilMs = victim.nowMs + forMs;
    victim.disturb(guest, forMs);
  },
  'daemon-death': (victim, _, random) => {
    const forMs = lasts(random, 20_000);
    victim.killDaemon(forMs);
    victim.disturb(undefined, forMs);
  },
  'second-manager': (victim, guest, random) => {
    const resource = random() < 0.5 ? 'cpu' : 'memory';
    const sign = random() < 0.5 ? 1 : -1;
    const value = Math.max(ODD[resource], victim.sizeOf(guest, resource) + sign * ODD[resource]);
    victim.changeForeign(guest, resource, value);
  },
  'clock-step': (victim, _, random) => victim.stepClock(Math.round((random() * 2 - 1) ** 3 * HOUR_MS)),
  crash: (victim, _, random) => {
    const how = random() < 0.5 ? 'kill' : 'power';
    const cut = pick(random, ['before', 'visible', 'durable'] as const);
    victim.crash(how, cut, 1 + Math.floor(random() * 4), lasts(random, 10_000));
  },
  'slow-disk': (victim, _, random) =>
    victim.slowDisk(lasts(random, 20_000), 1 + Math.round(random() * 2_000)),
  'full-disk': (victim, _, random) => {
    const forMs = lasts(random, 10_000);
    victim.fillDisk(forMs);
    victim.disturb(undefined, forMs);
  },
  reboot: (victim, guest, random) => victim.reboot(guest, lasts(random, 10_000)),
  operator: (victim, guest, random) => {
    victim.operate(
      guest,
      pick(random, ['shadow', 'advise', 'enforce', 'enforce', 'enforce', 'restore', 'readopt']),
    );
  },
};

/** Long ones are rare. */
function lasts(random: () => number, mostMs: number): number {
  return Math.round(random() ** 2 * mostMs);
}
