import { MIB } from '../orchestrator/core/profile.ts';
import type { GuestSample } from '../orchestrator/core/sample.ts';

/** A size that moved by less between two samples stood still. */
const STILL_BYTES = MIB;

type Memory = NonNullable<GuestSample['memory']>;

/**
 * Memory a guest cannot give back: balloon actual - usable. The two come from different moments, up to a second apart,
 * and while the balloon moves their difference is off by what it moved. Then the guest's own pair, available - usable,
 * is taken, which is of one moment, and to it the memory that the guest never sees, as it was when all stood still.
 */
export class MemoryUse {
  #last: Memory | undefined;
  /** balloon - available while both stood still: the kernel's own share. */
  #unseenBytes: number | undefined;

  /** undefined where it is not known at this moment. */
  take(memory: Memory | undefined): number | undefined {
    const last = this.#last;
    this.#last = memory;
    if (memory?.usableBytes === undefined) return undefined;
    const { balloonBytes, availableBytes, usableBytes } = memory;
    if (availableBytes === undefined) return Math.max(0, balloonBytes - usableBytes);
    const isStill = isNear(last?.balloonBytes, balloonBytes) && isNear(last?.availableBytes, availableBytes);
    if (isStill) this.#unseenBytes = balloonBytes - availableBytes;
    // Below 0 the guest counts its balloon as used memory: its own pair then moves with the balloon and says nothing.
    if (this.#unseenBytes === undefined || (!isStill && this.#unseenBytes < 0)) return undefined;
    return Math.max(0, availableBytes - usableBytes + this.#unseenBytes);
  }

  clear(): void {
    this.#last = undefined;
    this.#unseenBytes = undefined;
  }
}

function isNear(earlier: number | undefined, now: number): boolean {
  return earlier !== undefined && Math.abs(now - earlier) < STILL_BYTES;
}
