import { closeSync, openSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Io } from './io.ts';

/** Text gathered before it is written, when nobody waits for each line. */
const WRITE_CHARS = 65_536;

/** What the command line says of the file. */
interface DecisionFileOptions {
  readonly out?: string;
  readonly json?: boolean;
  readonly speed: number;
}

/** Where the decisions of a replay go: a file, or stdout; with `json` and no file nowhere. */
export class DecisionFile {
  readonly #emit: (text: string) => void;
  readonly #file: number | undefined;
  readonly #gathered: number;
  #text = '';
  #isOpen = true;

  /** @throws {Error} when the file cannot be written */
  constructor(io: Io, { out, json, speed }: DecisionFileOptions) {
    const file = out === undefined ? undefined : opened(resolve(out));
    this.#file = file;
    this.#gathered = speed === Number.POSITIVE_INFINITY ? WRITE_CHARS : 0;
    if (file !== undefined) this.#emit = (text) => writeFileSync(file, text);
    else this.#emit = json ? () => {} : io.out;
  }

  write(text: string): void {
    this.#text += text;
    if (this.#text.length >= this.#gathered) this.#flush();
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    try {
      this.#flush();
    } finally {
      if (this.#file !== undefined) closeSync(this.#file);
    }
  }

  #flush(): void {
    if (this.#text !== '') this.#emit(this.#text);
    this.#text = '';
  }
}

function opened(path: string): number {
  try {
    return openSync(path, 'w');
  } catch (cause) {
    throw new Error(`${path} cannot be written: ${(cause as Error).message}`, { cause });
  }
}
