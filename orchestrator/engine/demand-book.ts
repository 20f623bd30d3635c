import { DayProfile, HOURS } from '../core/day-profile.ts';
import { DemandHistory } from '../core/demand-history.ts';
import type { GuestId } from '../core/guest.ts';
import { type DemandProfile, type DemandSums, JointTail } from '../core/joint-tail.ts';
import { MIB } from '../core/profile.ts';
import type { Room, RoomField } from '../core/room.ts';
import type { GuestSample } from '../core/sample.ts';

/** A guest's part in the tail follows its history this often: a peak is the 99th percentile of hours, not of seconds. */
const FOLLOW_EVERY_MS = 300_000;

/** What admission knows of a guest's demand beside its history. */
export interface Expected {
  /** What it may use at most: what it was promised; zero while it does not run. */
  readonly size: Room;
  /** The median need of its leases; absent without leases: its history tells. */
  readonly median?: Room;
}

interface Past {
  readonly cpu: DemandHistory;
  readonly memory: DemandHistory;
  readonly cpuHours: DayProfile;
  followedAtMs: number;
}

/**
 * Upper tail of what all managed guests use together. A guest with leases counts by what they were forecast, one without by
 * what it was seen to use since the service started, one never seen by all it may use. CPU in millicores, memory in MiB.
 */
export class DemandBook {
  readonly #expectedOf: (guest: GuestId) => Expected | undefined;
  readonly #pasts = new Map<GuestId, Past>();
  readonly #changed = new Set<GuestId>();
  readonly #cpu = new JointTail();
  readonly #memory = new JointTail();

  /** @param expectedOf undefined for a guest that is not managed; its history is forgotten */
  constructor(expectedOf: (guest: GuestId) => Expected | undefined) {
    this.#expectedOf = expectedOf;
  }

  /** The guest's leases, sizes, state or mode may have changed. */
  touch(guest: GuestId): void {
    this.#changed.add(guest);
  }

  /** Full samples only: fast ones are of the same time once more. */
  note({ guest, atMs, periodMs, usage, cadence, flags }: GuestSample): void {
    if (cadence !== 'full') return;
    let past = this.#pasts.get(guest);
    if (past === undefined) {
      past = {
        cpu: new DemandHistory(),
        memory: new DemandHistory(),
        cpuHours: new DayProfile(),
        followedAtMs: atMs,
      };
      this.#pasts.set(guest, past);
    }
    if (usage.cpuMillicores !== undefined) {
      past.cpu.add(atMs, periodMs, usage.cpuMillicores);
      past.cpuHours.add(atMs, periodMs, usage.cpuMillicores);
    }
    if (usage.memoryBytes !== undefined && !flags.includes('memory-stale'))
      past.memory.add(atMs, periodMs, usage.memoryBytes / MIB);
    if (Math.abs(atMs - past.followedAtMs) < FOLLOW_EVERY_MS) return;
    past.followedAtMs = atMs;
    this.touch(guest);
  }

  /** The tail, were the guest given so much for a need whose median is `median`. */
  tailWith(guest: GuestId, given: Room, median: Room): Room {
    this.#follow();
    return {
      cpuMillicores: this.#cpu.levelWith(guest, leased(median.cpuMillicores, given.cpuMillicores)),
      memoryBytes:
        this.#memory.levelWith(guest, leased(median.memoryBytes / MIB, given.memoryBytes / MIB)) * MIB,
    };
  }

  /** What the tails rest on, memory in bytes. */
  sums(): Readonly<Record<RoomField, DemandSums>> {
    this.#follow();
    return { cpuMillicores: this.#cpu.sums(), memoryBytes: inBytes(this.#memory.sums()) };
  }

  /** Mean CPU of all guests by hour of the UTC day, millicores: f64[24]. Guests never sampled are not in it. */
  cpuByHour(): Float64Array {
    const total = new Float64Array(HOURS);
    for (const { cpuHours } of this.#pasts.values()) cpuHours.addTo(total);
    return total;
  }

  #follow(): void {
    for (const guest of this.#changed) {
      const expected = this.#expectedOf(guest);
      if (expected === undefined) {
        this.#cpu.drop(guest);
        this.#memory.drop(guest);
        this.#pasts.delete(guest);
        continue;
      }
      const past = this.#pasts.get(guest);
      const { size, median } = expected;
      this.#cpu.put(guest, profileOf(past?.cpu, size.cpuMillicores, median?.cpuMillicores));
      this.#memory.put(
        guest,
        profileOf(past?.memory, size.memoryBytes / MIB, median && median.memoryBytes / MIB),
      );
    }
    this.#changed.clear();
  }
}

function profileOf(past: DemandHistory | undefined, size: number, median: number | undefined): DemandProfile {
  if (median !== undefined) return leased(median, size);
  return past?.profile(size) ?? { mean: size, peak: size, size };
}

/** Forecasts stand behind a lease: its median, and what it was given for its upper quantile. */
function leased(median: number, given: number): DemandProfile {
  return { mean: Math.min(median, given), peak: given, size: given };
}

function inBytes(sums: DemandSums): DemandSums {
  return {
    mean: sums.mean * MIB,
    rise: sums.rise * MIB,
    riseSquares: sums.riseSquares * MIB ** 2,
    size: sums.size * MIB,
    widest: sums.widest * MIB,
  };
}
