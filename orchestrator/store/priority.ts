import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { setPriority } from 'node:os';

/** The lowest there is: beside a busy thread of the service each of ours takes a seventieth of a core. */
export const WORKER_NICENESS = 19;

/**
 * Put every thread of this process below those that answer somebody: an allocation must not wait for it. Linux keeps
 * priorities by thread. A new thread takes that of the thread that starts it, but a database works on threads that Node
 * started before anything else ran.
 * @param isIdle nobody waits for this process: it also gives its processor up the moment another thread wakes, and not at the
 *               end of its slice, and its requests to the disk come after all others. Without `chrt` only niceness counts.
 */
export function yieldToOthers(isIdle: boolean): void {
  for (const thread of readdirSync('/proc/self/task')) setPriority(Number(thread), WORKER_NICENESS);
  if (isIdle)
    spawnSync('chrt', ['--all-tasks', '--idle', '--pid', '0', String(process.pid)], { stdio: 'ignore' });
}
