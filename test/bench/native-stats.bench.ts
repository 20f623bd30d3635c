/**
 * Goal: how long the statistics of 1,000 guests, 88 parameters each, hold up the event loop, and how long four hung
 * calls hold up a file read.
 * Method: the addon over the shim. A loop of setImmediate notes the longest gap between its turns during each call: what
 * any other callback would have waited, other programs' turns on the processor included. So the same loop without a call
 * (`idle`), the thread's own processor time (`cpu`), the same answer turned into objects on the JavaScript thread and a
 * fixed piece of work are measured beside it, in five interleaved rounds; the best round counts, since the machines are
 * shared. Prints one JSON document; exits 1 when a bar is missed.
 */
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import type { DomainRef, DomainStats, Libvirt } from '../../libvirt-adapter/libvirt.ts';
import { NativeLibvirt } from '../../libvirt-adapter/native/connection.ts';
import { addonUnavailableReason, buildShim } from './libvirt-shim.ts';

const DOMAINS = 1_000;
const PARAMETERS = 88;
const ROUNDS = 5;
const CALLS_PER_ROUND = 100;
const READS = 100;
/** Guests that are asked to sleep: enough of them that every slow lane is in a hung call. */
const SLEEPERS = 16;
const SLEEP_MS = 3_000;
const BLOCKED_P99_MS_MAX = 10;
/** Above this the idle loop's own gaps hide what a call costs: then the thread's processor time is judged instead. */
const IDLE_P99_MS_MAX = BLOCKED_P99_MS_MAX / 2;
const READ_DELAY_MS_MAX = 50;

const self = fileURLToPath(import.meta.url);

function quantile(values: readonly number[], level: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(level * sorted.length))] ?? Number.NaN;
}

/** The longest time, ms, that the event loop did not turn while `work` ran. */
async function longestGapMs(work: () => Promise<unknown>): Promise<number> {
  let longest = 0;
  let last = performance.now();
  let isOver = false;
  const turn = (): void => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    if (!isOver) setImmediate(turn);
  };
  setImmediate(turn);
  await work();
  isOver = true;
  turn();
  return longest;
}

/** Processor time of this thread, ms, from Linux's scheduler: exact to the nanosecond, blind to other programs. */
function threadCpuMs(): number {
  return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
}

async function cpuOfMs(work: () => Promise<unknown>): Promise<number> {
  const before = threadCpuMs();
  await work();
  return threadCpuMs() - before;
}

async function repeat(times: number, measure: () => Promise<number>): Promise<number[]> {
  const results: number[] = [];
  for (let i = 0; i < times; ++i) results.push(await measure());
  return results;
}

/** What a binding that makes objects does on the JavaScript thread. */
function toObjects(stats: DomainStats): Record<string, bigint>[] {
  return stats.domains.map((_, d) => {
    const object: Record<string, bigint> = {};
    for (let i = stats.offsets[d] ?? 0; i < (stats.offsets[d + 1] ?? 0); ++i) {
      object[stats.keys[stats.keyIds[i] ?? 0] ?? ''] = stats.values[i] ?? 0n;
    }
    return object;
  });
}

/** A fixed piece of work, ms: how fast the machine is at this moment. */
function calibrationMs(): number {
  const started = performance.now();
  let x = 1;
  for (let i = 0; i < 20_000_000; ++i) x = (x * 1_103_515_245 + 12_345) | 0;
  if (x === 0) throw new Error('the generator never gives 0 here');
  return performance.now() - started;
}

async function readMs(): Promise<number> {
  const started = performance.now();
  await readFile(self);
  return performance.now() - started;
}

/** Milliseconds that the shim itself spent on the last answer. */
async function shimMs(libvirt: Libvirt, guest: DomainRef): Promise<number> {
  return Number(await libvirt.qemuMonitorCommand(guest, 'shim-time')) / 1e6;
}

async function measureRound(libvirt: Libvirt, guest: DomainRef): Promise<Record<string, number>> {
  const ask = (): Promise<DomainStats> => libvirt.allDomainStats(['state']);
  const calls: number[] = [];
  const callsWithoutShim: number[] = [];
  const calibration = calibrationMs();
  const idle = await repeat(CALLS_PER_ROUND, () => longestGapMs(() => sleep(10)));
  const packed = await repeat(CALLS_PER_ROUND, () => longestGapMs(ask));
  const cpu = await repeat(CALLS_PER_ROUND, async () => {
    const started = performance.now();
    const cpuMs = await cpuOfMs(ask);
    const callMs = performance.now() - started;
    calls.push(callMs);
    callsWithoutShim.push(callMs - (await shimMs(libvirt, guest)));
    return cpuMs;
  });
  const objects = await repeat(10, () => longestGapMs(async () => toObjects(await ask())));
  return {
    calibrationMs: calibration,
    idleP50Ms: quantile(idle, 0.5),
    idleP99Ms: quantile(idle, 0.99),
    blockedP50Ms: quantile(packed, 0.5),
    blockedP99Ms: quantile(packed, 0.99),
    cpuP50Ms: quantile(cpu, 0.5),
    cpuP99Ms: quantile(cpu, 0.99),
    objectsP50Ms: quantile(objects, 0.5),
    callP50Ms: quantile(calls, 0.5),
    callWithoutShimP50Ms: quantile(callsWithoutShim, 0.5),
  };
}

async function measureReads(
  libvirt: Libvirt,
): Promise<{ freeMaxMs: number; hungMaxMs: number; delayMs: number }> {
  const guests = (await libvirt.listDomains()).slice(0, SLEEPERS);
  const free = await repeat(READS, readMs);
  const sleeping = guests.map((guest) =>
    libvirt.qemuAgentCommand(guest, `sleep ${SLEEP_MS}`, 5).catch(() => {}),
  );
  const hung = await repeat(READS, readMs);
  void Promise.all(sleeping);
  const [freeMaxMs, hungMaxMs] = [Math.max(...free), Math.max(...hung)];
  return { freeMaxMs, hungMaxMs, delayMs: Math.max(0, hungMaxMs - quantile(free, 0.5)) };
}

const unbuilt = addonUnavailableReason();
const shim = unbuilt ?? buildShim();
if (typeof shim === 'string') {
  process.stderr.write(`native-stats skipped: ${shim}\n`);
  process.stdout.write(`${JSON.stringify({ bench: 'native-stats', skipped: shim })}\n`);
} else {
  const libvirt = await NativeLibvirt.open(`shim:///${DOMAINS}`, { library: { libvirt: shim.path } });
  await repeat(20, () => longestGapMs(() => libvirt.allDomainStats(['state'])));
  const rounds: Record<string, number>[] = [];
  for (let i = 0; i < ROUNDS; ++i)
    rounds.push(await measureRound(libvirt, await libvirt.lookupByName('guest-0')));
  const reads = await measureReads(libvirt);
  await libvirt.close();
  shim.remove();

  const best = Object.fromEntries(
    Object.keys(rounds[0] ?? {}).map((name) => [
      name,
      Math.min(...rounds.map((round) => round[name] ?? NaN)),
    ]),
  );
  const isQuiet = (best.idleP99Ms ?? NaN) <= IDLE_P99_MS_MAX;
  const judgedMs = (isQuiet ? best.blockedP99Ms : best.cpuP99Ms) ?? NaN;
  const bars = {
    blockedP99: {
      judgedBy: isQuiet ? 'blockedP99Ms' : 'cpuP99Ms',
      ms: judgedMs,
      underMs: BLOCKED_P99_MS_MAX,
    },
    readDelay: { ms: reads.delayMs, underMs: READ_DELAY_MS_MAX },
    passed: judgedMs < BLOCKED_P99_MS_MAX && reads.delayMs < READ_DELAY_MS_MAX,
  };
  const size = { domains: DOMAINS, parameters: PARAMETERS, rounds: ROUNDS, callsPerRound: CALLS_PER_ROUND };
  process.stdout.write(`${JSON.stringify({ bench: 'native-stats', ...size, best, reads, bars })}\n`);
  if (!bars.passed) process.exitCode = 1;
}
