import { join } from 'node:path';
import { servedVersion } from '../models/files/current-version.ts';
import { type ModelParts, partsOf, readModel } from '../models/files/model-file.ts';
import type { Config } from './config.ts';
import { AllocatorError } from './core/errors.ts';
import { packagePath } from './package-path.ts';
import type { SeriesKernels } from './wasm/series.ts';

/** How often it is looked which version serves: a promotion is in force within so much. */
const LOOK_EVERY_MS = 2000;

/** A version of a model in its folder. */
interface ServedVersion {
  /** NAME@VERSION, for people. */
  readonly label: string;
  readonly path: string;
}

/** What is told of a model that changes, or cannot. */
export interface ModelListener {
  readonly onModel: (weights: Float32Array, label: string) => void;
  /** The one before goes on serving. */
  readonly onRefused: (cause: unknown) => void;
}

/** The model that the configuration names, and whichever version of it serves as time goes on. */
export class ServedModel {
  readonly #name: string;
  readonly #folders: readonly string[];
  readonly #parts: ModelParts;
  #path = '';
  #timer: NodeJS.Timeout | undefined;
  #isLooking = false;
  #refusal = '';

  /** Looks in the configured folder first, then among the models that ship. */
  constructor(config: Pick<Config, 'model' | 'stateDir'>, kernels: SeriesKernels) {
    this.#parts = partsOf(kernels);
    this.#name = config.model.name;
    const own = config.model.folder ?? join(config.stateDir, 'models');
    this.#folders = [own, packagePath(join('models', 'weights'))];
  }

  /**
   * Read the version that serves, and check all of it.
   * @throws {AllocatorError} INVALID_REQUEST when there is none, or when it is not what its manifest says
   */
  async read(): Promise<{ readonly weights: Float32Array; readonly label: string }> {
    const { path, label } = await this.#find();
    const { weights } = await readModel(path, this.#parts);
    this.#path = path;
    return { weights, label };
  }

  /** Tell of each version that begins to serve. @returns what ends it */
  follow(listener: ModelListener): () => void {
    this.#timer = setInterval(() => void this.#look(listener), LOOK_EVERY_MS).unref();
    return () => clearInterval(this.#timer);
  }

  async #look({ onModel, onRefused }: ModelListener): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    try {
      const { path, label } = await this.#find();
      if (path === this.#path) return;
      this.#path = path;
      const { weights } = await readModel(path, this.#parts);
      onModel(weights, label);
      this.#refusal = '';
    } catch (cause) {
      // Once, not at every look.
      const refusal = String(cause);
      if (refusal !== this.#refusal) onRefused(cause);
      this.#refusal = refusal;
    } finally {
      this.#isLooking = false;
    }
  }

  async #find(): Promise<ServedVersion> {
    for (const folder of this.#folders) {
      const version = await servedVersion(join(folder, this.#name));
      if (version === undefined) continue;
      return {
        label: `${this.#name}@${version}`,
        path: join(folder, this.#name, String(version)),
      };
    }
    throw new AllocatorError(
      'INVALID_REQUEST',
      `there is no model ${this.#name} in ${this.#folders.join(' or ')}: see model.name and model.folder of the configuration`,
    );
  }
}
