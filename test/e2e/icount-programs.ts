import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runCommand } from '../../libvirt-adapter/lab/command.ts';
import type { LabGuest } from '../../libvirt-adapter/lab/guest.ts';

const SOURCE = fileURLToPath(new URL('../../../test/e2e/icount-program.S', import.meta.url));

/** A program of icount-program.S. */
export interface IcountProgram {
  /** Its name below /tmp in the guest. */
  readonly name: string;
  readonly iterations: number;
  readonly body: 'mix' | 'crypto' | 'spin';
}

/** Instructions of one iteration, by class. */
export const MIX = { system: 1, vector: 2, branch: 2, memory: 4, other: 4 } as const;
export const MIX_INSTRUCTIONS = 13;
export const CRYPTO = { crypto: 3, branch: 1, other: 2 } as const;
export const SPIN_INSTRUCTIONS = 4;

/** Compile a program in `folder` and put it into the guest. @returns its path there */
export async function installProgram(
  guest: LabGuest,
  folder: string,
  program: IcountProgram,
): Promise<string> {
  const file = join(folder, program.name);
  const defines = [`-DITERATIONS=${program.iterations}`, `-D${program.body.toUpperCase()}`];
  await runCommand('gcc', [
    '-nostdlib',
    '-static',
    '-s',
    '-Wl,--build-id=none',
    ...defines,
    '-o',
    file,
    SOURCE,
  ]);
  const path = `/tmp/${program.name}`;
  const text = readFileSync(file).toString('base64');
  const script = `mkdir -p /tmp && echo ${text} | base64 -d > ${path} && chmod +x ${path}`;
  const { exitCode, stderr } = await guest.exec('/bin/sh', '-c', script);
  if (exitCode !== 0) throw new Error(`${path} cannot be written in the guest: ${stderr}`);
  return path;
}
