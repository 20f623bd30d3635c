import { pause, type TimerClock } from '../../orchestrator/core/timer-clock.ts';
import { fieldsOf, textIn } from './answers.ts';
import type { ProxmoxApi } from './api.ts';
import { ProxmoxError } from './errors.ts';

const STATUS_CALL = '/nodes/{node}/tasks/{upid}/status';
/** A changed limit is in force within a tenth of a second; a look costs pveproxy a few milliseconds. */
const POLL_MS_MIN = 100;
const POLL_MS_MAX = 1_000;
/** Longest wait for a task. A DIMM that will not go takes Proxmox VE about 20 s each, a vCPU 5. */
const TASK_MS_MAX = 120_000;
/** UPID:NODE:PID:PSTART:STARTTIME:TYPE:ID:USER: */
const UPID = /^UPID:[^:\s]+:[0-9A-Fa-f]+:[0-9A-Fa-f]+:[0-9A-Fa-f]+:[^:\s]*:[^:\s]*:[^:\s]+:$/;

/**
 * Wait for the end of a task that a change has begun.
 * @param answer of the change: its UPID, or null where there was nothing to do
 * @throws {ProxmoxError} `answered` when the task failed, `unanswered` when it did not end in time
 */
export async function finished(
  api: ProxmoxApi,
  clock: TimerClock,
  { node, call, answer }: { readonly node: string; readonly call: string; readonly answer: unknown },
): Promise<void> {
  if (answer === null) return;
  if (typeof answer !== 'string' || !UPID.test(answer))
    throw new ProxmoxError(call, 'unreadable', 200, 'the answer is not the id of a task');
  const startMs = clock.monotonicMs();
  for (let waitMs = POLL_MS_MIN; ; waitMs = Math.min(2 * waitMs, POLL_MS_MAX)) {
    const status = fieldsOf(await api.get(STATUS_CALL, { node, upid: answer }), STATUS_CALL);
    if (textIn(status, 'status') === 'stopped') {
      const outcome = textIn(status, 'exitstatus') ?? 'it ended without a status';
      // A warning is said to the operator in the task's log; the change was carried out.
      if (outcome === 'OK' || outcome.startsWith('WARNINGS')) return;
      throw new ProxmoxError(call, 'answered', 0, `the task failed: ${outcome}`);
    }
    if (clock.monotonicMs() - startMs > TASK_MS_MAX)
      throw new ProxmoxError(call, 'unanswered', 0, 'the task did not end in time');
    await pause(clock, waitMs);
  }
}
