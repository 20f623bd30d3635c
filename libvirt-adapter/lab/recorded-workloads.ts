import { setTimeout as sleep } from 'node:timers/promises';
import type { LabGuest } from './guest.ts';
import type { RunRequest } from './runner-client.ts';

/** Something a guest does over and over until it is told to stop. */
export interface RecordedWorkload {
  /** Lower case, digits and dashes. */
  readonly name: string;
  /** Put what it needs into the guest. Its cost is not part of what is recorded. */
  prepare(guest: LabGuest): Promise<void>;
  /** Resolves once it runs, with what ends it. */
  start(guest: LabGuest): Promise<() => Promise<void>>;
}

/** Folder in the guest of what a shell loop reads. The guest's root is its initramfs, so that it is memory of the guest. */
const FOLDER = '/recorded';
/** A shell loop ends by itself after so long, should nobody end it, s. */
const LOOP_S_MAX = 600;
/** Between two runs of the runner's: none starts before its clock was read. */
const ERROR_PAUSE_MS = 200;

type Run = Pick<RunRequest, 'workload' | 'params'>;

/** The runner's own workloads, one run after another, from the first again after the last. Seeds count up. */
function runs(name: string, list: readonly [Run, ...Run[]]): RecordedWorkload {
  return {
    name,
    prepare: async () => undefined,
    start: async (guest) => {
      const stop = new AbortController();
      const loop = (async () => {
        for (let i = 0; !stop.signal.aborted; i += 1) {
          const run = list[i % list.length] ?? list[0];
          const outcome = await guest.runner.run({ ...run, seed: i }, { signal: stop.signal });
          if (outcome.status !== 'done') await sleep(ERROR_PAUSE_MS);
        }
      })();
      // A failure is told by whoever awaits the end, not by the process.
      loop.catch(() => undefined);
      return async () => {
        stop.abort();
        await loop;
      };
    },
  };
}

async function shell(guest: LabGuest, script: string): Promise<void> {
  const { exitCode, stderr } = await guest.exec('/bin/sh', '-c', script);
  if (exitCode !== 0) throw new Error(`${guest.name}: "${script}" ended with ${exitCode}: ${stderr.trim()}`);
}

/** A command of the guest's busybox in an endless loop, in a session of its own that can be ended as a whole. */
function loop(name: string, command: string, preparation = 'true'): RecordedWorkload {
  return {
    name,
    prepare: (guest) => shell(guest, `mkdir -p ${FOLDER} && cd ${FOLDER} && ${preparation}`),
    start: async (guest) => {
      const body = `cd ${FOLDER}; echo $$ > pid; while true; do ${command}; done`;
      await shell(guest, `timeout ${LOOP_S_MAX} setsid sh -c '${body}' < /dev/null > /dev/null 2>&1 &`);
      return () => shell(guest, `kill -9 -$(cat ${FOLDER}/pid); rm -rf ${FOLDER}`);
    },
  };
}

const encode = (input_mib: number, level: number, mode: string): Run => ({
  workload: 'encode',
  params: { input_mib, level, mode },
});

/** What a recording is of: work of many kinds, steady and in phases, on the processor, memory, disk and network. */
export const RECORDED_WORKLOADS: readonly RecordedWorkload[] = [
  runs('encode', [encode(60, 4, 'best'), encode(200, 6, 'fast'), encode(30, 8, 'balanced')]),
  runs('query', [
    { workload: 'query', params: { rows: 500_000, joins: 3 } },
    { workload: 'query', params: { rows: 100_000, joins: 0 } },
    { workload: 'query', params: { rows: 1_500_000, joins: 1 } },
  ]),
  runs('transfer', [
    { workload: 'transfer', params: { files: 40, size_kib: 512 } },
    { workload: 'transfer', params: { files: 200, size_kib: 16 } },
  ]),
  loop('sha256sum', 'sha256sum file', 'head -c 4194304 /dev/urandom > file'),
  loop('gzip', 'gzip -c file', 'seq 200000 > file'),
  loop('sort', 'sort -r file', 'seq 100000 > file'),
  loop('awk', 'awk "BEGIN { for (i = 1; i < 100000; i++) s += sqrt(i) * sin(i) }"'),
  loop('count', 'i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done'),
  loop('processes', 'for i in 1 2 3 4 5 6 7 8; do echo $i | cat | wc; done'),
];
