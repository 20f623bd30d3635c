import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { AllocatorError, type ErrorCode } from '../orchestrator/core/errors.ts';

/** Where distributions put these programs; a service's path does not always hold the sbin folders. */
const FOLDERS = ['/usr/sbin', '/sbin', '/usr/bin', '/bin'] as const;
/** tc and ip answer in ms; one that waits longer for the kernel's lock is given up. */
const TIMEOUT_MS = 5_000;
/** Output of a host with some ten thousand interfaces. */
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

export type NetworkProgram = 'tc' | 'ip' | 'unshare' | 'nsenter';

/**
 * Run one command about the network, without a shell, and give its standard output.
 * @param network file of the namespace to run in; absent: our own
 * @throws {AllocatorError} NOT_SUPPORTED, GUEST_NOT_RUNNING when the device is gone, ACTUATION_REFUSED
 */
export type RunNetworkCommand = (
  program: NetworkProgram,
  args: readonly string[],
  options?: { readonly network?: string | undefined; readonly input?: string },
) => Promise<string>;

/** What the kernel's and the programs' words mean. All else is a refusal. */
const MEANINGS: readonly (readonly [RegExp, ErrorCode])[] = [
  [/Cannot find device|does not exist|No such device/i, 'GUEST_NOT_RUNNING'],
  [/kind is unknown|not found|Unknown device type|not supported/i, 'NOT_SUPPORTED'],
  [/not permitted|Permission denied|ENOENT|No such file/i, 'NOT_SUPPORTED'],
];

export const runNetworkCommand: RunNetworkCommand = (program, args, { network, input } = {}) => {
  const [file = '', ...rest] = [
    ...(network === undefined ? [] : [pathOf('nsenter'), `--net=${network}`]),
    pathOf(program),
    ...args,
  ];
  const limits = {
    timeout: TIMEOUT_MS,
    maxBuffer: OUTPUT_BYTES_MAX,
    env: { LC_ALL: 'C', PATH: FOLDERS.join(':') },
  };
  return new Promise((resolve, reject) => {
    const child = execFile(file, rest, limits, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      const message = stderr.trim() || error.message;
      const code = MEANINGS.find(([pattern]) => pattern.test(message))?.[1] ?? 'ACTUATION_REFUSED';
      reject(new AllocatorError(code, `${program}: ${message}`, {}, { cause: error }));
    });
    child.stdin?.on('error', () => {}); // a program that ends without reading its input explains itself
    child.stdin?.end(input);
  });
};

function pathOf(program: NetworkProgram): string {
  return FOLDERS.map((folder) => `${folder}/${program}`).find((path) => existsSync(path)) ?? program;
}
