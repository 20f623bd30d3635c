import { setTimeout as sleep } from 'node:timers/promises';
import { INSTRUCTION_CLASSES, type InstructionClass } from '../../orchestrator/core/sample.ts';
import type { GuestReadings } from '../host-readings.ts';
import { IcountReader, type IcountRecord } from '../icount-reader.ts';
import { ProcessReadings } from '../process-readings.ts';
import type { LabGuest } from './guest.ts';
import { StepCourse } from './step-course.ts';

/**
 * Between looks at the threads' waits, ms: about a cut of 1,000,000 instructions, so that a wait is told of the cut it was
 * in, and 3 % of a core.
 */
const HOST_PERIOD_MS = 2;
/** Between looks inside the guest, ms: each costs it some 50,000 instructions. */
const MEMORY_PERIOD_MS = 10;
/** A workload that executes nothing for so long has ended or hangs, ms. */
const STALL_MS = 20_000;

/** What one vCPU did between two of its cuts. */
export interface RecordedCut {
  readonly vcpu: number;
  /** End, on the host's monotonic clock, ns. */
  readonly atNs: number;
  /** Executed in it: the distance of the cuts, to within a translation block. */
  readonly instructions: number;
  /** From the cut before to this one, ns. */
  readonly timeNs: number;
  /** Of that, how long the vCPU's thread was runnable and waited for a host CPU, ns; NaN where nobody looked. */
  readonly delayNs: number;
  /** What the guest could not give back when it was last asked before the cut, bytes; NaN before the first answer. */
  readonly memoryBytes: number;
  /** Executed in it by class, together `instructions`. */
  readonly classes: Readonly<Record<InstructionClass, number>>;
}

/** Records what a lab guest executes, cut by cut. The guest's plugin must cut and tell all classes apart. */
export class CutRecorder {
  readonly #guest: LabGuest;
  readonly #reader: IcountReader;
  readonly #process: GuestReadings;

  private constructor(guest: LabGuest, reader: IcountReader, process: GuestReadings) {
    this.#guest = guest;
    this.#reader = reader;
    this.#process = process;
  }

  /** @throws {Error} when the guest does not run or nothing counts its instructions */
  static async open(guest: LabGuest): Promise<CutRecorder> {
    if (guest.icountFile === undefined) throw new Error(`${guest.name}: this QEMU takes no TCG plugins`);
    const process = await new ProcessReadings().open(guest.uuid);
    if (process === undefined) throw new Error(`${guest.name} does not run`);
    return new CutRecorder(guest, new IcountReader(guest.icountFile), process);
  }

  /**
   * Record from now on until `count` cuts are complete, those of all vCPUs together. What a vCPU executed before its first
   * cut is not told: it began before.
   * @param onProgress told how many there are, some times a second
   * @returns in the order in which they were cut
   * @throws {Error} when cuts were lost, or none came for a while
   */
  async record(
    count: number,
    { signal, onProgress }: { signal: AbortSignal; onProgress?: (count: number) => void },
  ): Promise<RecordedCut[]> {
    const delays = new Map<number, StepCourse>();
    const memory = new StepCourse();
    const askMemory = async (): Promise<void> => {
      const usedBytes = await this.#guest.runner.memoryUsed();
      memory.add(nowNs(), usedBytes); // nothing is told of a cut that was not known at its end
    };
    // The first looks come before the first cut, the last after the last: so each cut's waits are known.
    await askMemory();
    this.#lookAtWaits(delays);
    const cuts = new CutCursor(this.#reader);
    let isOver = false;
    const goOnAsking = async (): Promise<void> => {
      for (; !isOver; await sleep(MEMORY_PERIOD_MS)) await askMemory();
    };
    const look = async (): Promise<void> => {
      for (let enough = false; !enough; await sleep(HOST_PERIOD_MS)) {
        signal.throwIfAborted();
        enough = cuts.take() >= count;
        this.#lookAtWaits(delays);
        onProgress?.(Math.min(count, cuts.count));
      }
    };
    try {
      await Promise.race([look(), goOnAsking()]);
    } finally {
      isOver = true;
    }
    return cuts.intervals().map(([from, to]) => toRecorded(from, to, delays.get(to.vcpu), memory));
  }

  close(): void {
    this.#reader.close();
    this.#process.close();
  }

  #lookAtWaits(delays: Map<number, StepCourse>): void {
    const at = nowNs();
    for (const [vcpu, times] of (this.#process.read()?.vcpus ?? []).entries()) {
      if (times === undefined) continue;
      const course = delays.get(vcpu) ?? new StepCourse();
      delays.set(vcpu, course);
      course.add(at, times.delayNs);
    }
  }
}

/** The cuts since it was made, as they come. */
class CutCursor {
  readonly #reader: IcountReader;
  readonly #cuts: IcountRecord[] = [];
  readonly #vcpus = new Set<number>();
  #next: bigint;
  #latestAtMs = performance.now();

  constructor(reader: IcountReader) {
    this.#reader = reader;
    this.#next = reader.records(2n ** 63n).next;
  }

  /** Cuts that have one of the same vCPU before them. */
  get count(): number {
    return this.#cuts.length - this.#vcpus.size;
  }

  /** @returns as `count` */
  take(): number {
    for (let hasMore = true; hasMore; ) {
      const found = this.#reader.records(this.#next);
      if (found.lost > 0n) throw new Error(`${found.lost} cuts were overwritten before they were read`);
      if (found.records.length > 0) this.#latestAtMs = performance.now();
      for (const cut of found.records) this.#vcpus.add(cut.vcpu);
      this.#cuts.push(...found.records);
      this.#next = found.next;
      hasMore = found.hasMore;
    }
    if (performance.now() - this.#latestAtMs > STALL_MS)
      throw new Error(`the guest executed next to nothing for ${STALL_MS / 1000} s`);
    return this.count;
  }

  /** Each cut with the one of its vCPU before it. */
  intervals(): (readonly [IcountRecord, IcountRecord])[] {
    const last = new Map<number, IcountRecord>();
    return this.#cuts.flatMap((cut) => {
      const before = last.get(cut.vcpu);
      last.set(cut.vcpu, cut);
      return before === undefined ? [] : [[before, cut] as const];
    });
  }
}

function toRecorded(
  from: IcountRecord,
  to: IcountRecord,
  delay: StepCourse | undefined,
  memory: StepCourse,
): RecordedCut {
  const began = Number(from.monotonicNs);
  const ended = Number(to.monotonicNs);
  const delayNs = delay === undefined ? Number.NaN : delay.between(ended) - delay.between(began);
  return {
    vcpu: to.vcpu,
    atNs: ended,
    instructions: Number(to.instructions - from.instructions),
    timeNs: ended - began,
    delayNs,
    memoryBytes: memory.latest(ended),
    classes: Object.fromEntries(
      INSTRUCTION_CLASSES.map((name) => [
        name,
        Number((to.classes?.get(name) ?? 0n) - (from.classes?.get(name) ?? 0n)),
      ]),
    ) as Record<InstructionClass, number>,
  };
}

/** The host's monotonic clock, that of the plugin's cuts; exact to 2^53 ns, 104 days of uptime. */
function nowNs(): number {
  return Number(process.hrtime.bigint());
}
