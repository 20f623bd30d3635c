import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { AllocatorError } from '../../orchestrator/core/errors.ts';
import type { ScoredSeries } from './detection.ts';

/** A file of scores, `series,t,score`, that is there whole or not at all: it is written beside its place and then moved. */
export class ScoreFile {
  readonly #path: string;
  readonly #draft: string;
  readonly #file: number;
  #isOpen = true;

  /**
   * @param replace an existing file may be replaced
   * @throws {AllocatorError} INVALID_REQUEST when it exists, or cannot be written
   */
  constructor(path: string, replace: boolean) {
    if (existsSync(path) && !replace)
      throw new AllocatorError('INVALID_REQUEST', `${path} exists: --force replaces it`);
    this.#path = path;
    this.#draft = `${path}.${process.pid}.part`;
    try {
      this.#file = openSync(this.#draft, 'wx');
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new AllocatorError('INVALID_REQUEST', `${path} cannot be written: ${reason}`);
    }
    writeSync(this.#file, 'series,t,score\n');
  }

  /** A row without a score has an empty one. */
  add({ series, times, scores }: ScoredSeries): void {
    const name = /[",\r\n]/.test(series) ? `"${series.replaceAll('"', '""')}"` : series;
    const lines = times.map((time, i) => {
      const score = scores[i] as number;
      return `${name},${time},${Number.isNaN(score) ? '' : score}\n`;
    });
    writeSync(this.#file, lines.join(''));
  }

  /** Put the file in its place. */
  finish(): void {
    fsyncSync(this.#file);
    this.#end();
    renameSync(this.#draft, this.#path);
  }

  /** Leave no trace, unless it is finished. */
  discard(): void {
    if (!this.#isOpen) return;
    this.#end();
    rmSync(this.#draft, { force: true });
  }

  #end(): void {
    this.#isOpen = false;
    closeSync(this.#file);
  }
}
