import type { GuestState } from '../../orchestrator/core/guest.ts';
import { type Fields, isFields, numberIn, textIn } from './answers.ts';

/** What a running guest's balloon says, bytes. What is not its size is the guest's claim. */
export interface BalloonReading {
  readonly actualBytes: number;
  /** Memory the guest sees. */
  readonly totalBytes: number | undefined;
  readonly freeBytes: number | undefined;
  readonly majorFaults: number | undefined;
  readonly swapInBytes: number | undefined;
  readonly swapOutBytes: number | undefined;
  /** When the guest last told, seconds since epoch. */
  readonly toldAtS: number | undefined;
}

/** State of a guest from `status/current`, or from the node's list, which does not tell a paused one. */
export function stateOf(fields: Fields): GuestState {
  const qmp = textIn(fields, 'qmpstatus');
  if (textIn(fields, 'status') !== 'running') return 'shut-off';
  if (qmp === 'internal-error' || qmp === 'guest-panicked') return 'crashed';
  return qmp === undefined || qmp === 'running' ? 'running' : 'paused';
}

/**
 * The balloon of `status/current`. Its schema does not name `balloon` and `ballooninfo`, which every version of Proxmox VE
 * answers for a running guest that has the device; undefined without.
 */
export function balloonOf(fields: Fields): BalloonReading | undefined {
  const info = isFields(fields.ballooninfo) ? fields.ballooninfo : {};
  const actualBytes = numberIn(info, 'actual') ?? numberIn(fields, 'balloon');
  if (actualBytes === undefined || actualBytes === 0) return undefined;
  return {
    actualBytes,
    totalBytes: numberIn(info, 'total_mem'),
    freeBytes: numberIn(info, 'free_mem') ?? numberIn(fields, 'freemem'),
    majorFaults: numberIn(info, 'major_page_faults'),
    swapInBytes: numberIn(info, 'mem_swapped_in'),
    swapOutBytes: numberIn(info, 'mem_swapped_out'),
    toldAtS: numberIn(info, 'last_update'),
  };
}
