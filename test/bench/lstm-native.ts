import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { LstmModel } from '../kernels/lstm-oracle.ts';

const SOURCE = fileURLToPath(new URL('../../../test/bench/lstm-native.cpp', import.meta.url));
/** Sums may be fused and nothing traps; no licence to reorder. */
const MATH = ['-ffp-contract=fast', '-fno-trapping-math', '-fno-signed-zeros', '-ffinite-math-only'];
const BUILDS = {
  /** Vectors as wide as WebAssembly's, with fused multiply-add. */
  'native-128': ['-mavx2', '-mfma', '-DLANES=4'],
  /** All the machine has. */
  'native-256': ['-march=native', '-DLANES=8'],
} as const;
export type NativeBuild = keyof typeof BUILDS;

export interface CallTimes {
  readonly p50Us: number;
  readonly p999Us: number;
}

/** The same model in compiled C++, in a process of its own that measures itself. */
export class NativeLstm {
  readonly #folder: string;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;

  private constructor(folder: string, child: ChildProcessWithoutNullStreams) {
    this.#folder = folder;
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** @returns why it cannot be had here, when it cannot */
  static start(build: NativeBuild, model: LstmModel, xs: Float32Array): NativeLstm | string {
    const folder = mkdtempSync(join(tmpdir(), 'foreshade-lstm-'));
    const program = join(folder, build);
    const flags = ['-O3', ...MATH, ...BUILDS[build], SOURCE, '-o', program];
    const compiler = spawnSync('g++', flags, { encoding: 'utf8' });
    if (compiler.error !== undefined || compiler.status !== 0) {
      rmSync(folder, { recursive: true, force: true });
      return `${build} does not compile here: ${compiler.error?.message ?? compiler.stderr}`;
    }
    const { inputs, hidden, outputs, cell, head } = model;
    const shape = Int32Array.of(inputs, hidden, outputs, xs.length / inputs);
    const parts = [shape, Float32Array.from(cell), Float32Array.from(head), xs];
    const file = join(folder, 'model');
    writeFileSync(file, Buffer.concat(parts.map((part) => new Uint8Array(part.slice().buffer))));
    return new NativeLstm(folder, spawn(program, [file]));
  }

  async #ask(line: string): Promise<number[]> {
    this.#child.stdin.write(`${line}\n`);
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error('the native peer ended');
    return (value as string).trim().split(' ').map(Number);
  }

  async time(kind: 'window' | 'stateful' | 'calibrate', calls: number): Promise<CallTimes> {
    const [p50 = Number.NaN, p999 = Number.NaN] = await this.#ask(`${kind} ${calls}`);
    return { p50Us: p50 / 1000, p999Us: p999 / 1000 };
  }

  outputs(): Promise<number[]> {
    return this.#ask('outputs 1');
  }

  stop(): void {
    this.#child.stdin.end();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
