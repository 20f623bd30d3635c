import { existsSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { ShadowError } from '../../orchestrator/core/shadow.ts';
import { type SeriesRows, SeriesSet, type SetFacts } from '../data/series-set.ts';

/** A file of a labelled set; `series` is the train part where there is a test part. */
export type PartName = 'series' | 'test' | 'labels';

/** Endings of a part's file, in order of preference. */
const ENDINGS = ['.csv.gz', '.csv', '.parquet'];

/** @returns undefined when the set has no such part */
export function fileOf(folder: string, part: PartName): string | undefined {
  return ENDINGS.map((ending) => join(folder, part + ending)).find((file) => existsSync(file));
}

/** One part of a set, read as a series set. */
export class Part {
  readonly facts: SetFacts;
  readonly metrics: readonly string[];
  readonly #set: SeriesSet;
  readonly #file: string;
  readonly #view: string;

  private constructor(set: SeriesSet, file: string, view: string) {
    this.facts = set.facts;
    this.metrics = set.metrics;
    this.#set = set;
    this.#file = file;
    this.#view = view;
  }

  /** @throws {ShadowError} SET_REFUSED, naming the part's file */
  static async open(folder: string, part: PartName): Promise<Part> {
    const file = fileOf(folder, part);
    if (file === undefined)
      throw new ShadowError('SET_REFUSED', `${folder} has no ${part}.csv.gz, ${part}.csv or ${part}.parquet`);
    // The reader knows a set by its folder: this one has the part in the series' place.
    const view = mkdtempSync(join(tmpdir(), 'foreshade-part-'));
    try {
      symlinkSync(join(folder, 'dataset.json'), join(view, 'dataset.json'));
      symlinkSync(file, join(view, basename(file).replace(part, 'series')));
      return new Part(await SeriesSet.open(view), file, view);
    } catch (error) {
      rmSync(view, { recursive: true, force: true });
      throw named(error, file, view, folder);
    }
  }

  /** @throws {ShadowError} SET_REFUSED, naming the part's file */
  async read(metrics: readonly string[]): Promise<{ count: number; series: AsyncGenerator<SeriesRows> }> {
    try {
      return await this.#set.read(metrics);
    } catch (error) {
      throw named(error, this.#file, this.#view);
    }
  }

  close(): void {
    this.#set.close();
    rmSync(this.#view, { recursive: true, force: true });
  }
}

function named(error: unknown, file: string, view: string, folder = ''): unknown {
  if (!(error instanceof ShadowError)) return error;
  const message = error.message.includes('dataset.json')
    ? error.message.replaceAll(view, folder)
    : `${file}: ${error.message.replaceAll(`${view}/`, '')}`;
  return new ShadowError(error.code, message, { cause: error });
}
