/** What a scripted guest would use if nothing held it back. */
export interface FakeDemand {
  readonly cpuMillicores?: number;
  /** Memory the guest cannot give back, its kernel included. */
  readonly memoryKib?: number;
  readonly diskReadBytesPerS?: number;
  readonly diskWriteBytesPerS?: number;
  readonly netRxBytesPerS?: number;
  readonly netTxBytesPerS?: number;
}

/** What the guest has at that moment; a demand may react to it. */
export interface FakeHeld {
  readonly cpuMillicores: number;
  readonly vcpusOnline: number;
  readonly memoryKib: number;
}

/** Demand at a time. @param sinceBootMs ms the guest has run since it was started or reset */
export type FakeDemandCurve = (sinceBootMs: number, held: FakeHeld) => FakeDemand;

/** How a guest's agent behaves: a hung one lets each call wait for its time-out. */
export type FakeAgent = 'absent' | 'disconnected' | 'answers' | 'hangs';

/** A guest of the fake hypervisor. Every field but the name has a default that gives an obliging guest. */
export interface FakeGuestScript {
  readonly name: string;
  /** Absent: made from the name, the same each time. */
  readonly uuid?: string;
  /** `kvm`, or `qemu` for emulation, which crashes when a vCPU is plugged after an unplug. */
  readonly type?: 'kvm' | 'qemu';
  readonly state?: 'running' | 'paused' | 'shutoff';
  readonly vcpusMax?: number;
  readonly vcpusPlugged?: number;
  /** Boot memory: the balloon's maximum. */
  readonly bootMemoryKib?: number;
  /** Balloon's actual size at the start; absent: all boot memory. */
  readonly balloonKib?: number;
  /** Sizes of virtio-mem devices. */
  readonly virtioMemKib?: readonly number[];
  /** Requests to shrink virtio-mem at which the guest finds pages in use and keeps half of what it should give. */
  readonly virtioMemBusyRequests?: number;
  readonly disks?: readonly string[];
  /** libvirt interface types, as `network`, `ethernet` or `user`. */
  readonly interfaces?: readonly string[];
  /** Limits in force from the start, in libvirt's units. */
  readonly globalQuotaUs?: number;
  readonly demand?: FakeDemandCurve;
  /** Speed at which the guest gives memory back (deflate: it gets more). `false`: no balloon device. */
  readonly balloon?: false | { readonly growKibPerS?: number; readonly shrinkKibPerS?: number };
  /** The balloon never shrinks the guest below this, whatever its target. */
  readonly balloonStuckAtKib?: number;
  readonly agent?: FakeAgent;
  /** Share of what the guest may use that a busy host really runs, in (0, 1]; absent: all of it. */
  readonly hostShare?: number;
  /** From the plug call to the vCPU being online in the guest. */
  readonly onlineDelayMs?: number;
  /** Instructions that one CPU nanosecond executes; absent: no counter. */
  readonly instructionsPerNs?: number;
  /** Counts of perf events by one CPU nanosecond. */
  readonly perfPerNs?: Readonly<Record<string, number>>;
  /** Perf events that the definition switches on at each start. */
  readonly perfEvents?: readonly string[];
  /** The guest stays when it is asked to shut down. */
  readonly ignoresShutdown?: boolean;
  /** The guest gives a vCPU back when asked. */
  readonly vcpuUnplugWorks?: boolean;
  /** Extra arguments of QEMU, as in the domain XML's qemu:commandline. */
  readonly qemuArguments?: readonly string[];
}

/** Demand that does not change. */
export function steady(demand: FakeDemand): FakeDemandCurve {
  return () => demand;
}

/** A course of demands; the last one lasts. @param phases each with how long it lasts, ms */
export function phases(
  course: readonly { readonly forMs: number; readonly demand: FakeDemand }[],
): FakeDemandCurve {
  return (sinceBootMs) => {
    let endMs = 0;
    for (const phase of course) {
      endMs += phase.forMs;
      if (sinceBootMs < endMs) return phase.demand;
    }
    return course.at(-1)?.demand ?? {};
  };
}
