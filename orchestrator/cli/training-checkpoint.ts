import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Checkpoint, readCheckpoint, saveCheckpoint } from '../../models/files/checkpoint-file.ts';
import type { TrainingState } from '../../models/train/train.ts';
import { AllocatorError } from '../core/errors.ts';
import type { Io } from './io.ts';

type Facts = Pick<TrainingState, 'identity' | 'epochs'>;

/** Where an unfinished training of a model stands: a file beside its versions. */
export class TrainingCheckpoint {
  readonly #io: Io;
  readonly #path: string;
  #epochs = 0;

  /** @param home the model's folder */
  constructor(io: Io, home: string) {
    this.#io = io;
    this.#path = join(home, 'checkpoint.safetensors');
  }

  /**
   * What to go on from, and say so; undefined: from the beginning.
   * @throws {AllocatorError} INVALID_REQUEST when it is damaged
   */
  async find(resume: boolean): Promise<TrainingState | undefined> {
    if (!resume) {
      if (existsSync(this.#path))
        this.#io.err('a stopped training of this name is given up: --resume would go on with it\n');
      return undefined;
    }
    const found = await readCheckpoint<Facts>(this.#path);
    if (found === undefined) {
      this.#io.err('no training of this name was stopped: it begins at the beginning\n');
      return undefined;
    }
    const state = stateOf(found);
    this.#epochs = state.epochs.length;
    this.#io.err(`going on after epoch ${this.#epochs}\n`);
    return state;
  }

  async keep({ identity, epochs, model, best, moments }: TrainingState): Promise<void> {
    await saveCheckpoint(this.#path, { tensors: { model, best, moments }, facts: { identity, epochs } });
    this.#epochs = epochs.length;
  }

  /** Say what is kept of a training that was interrupted. */
  tellStopped(): void {
    const kept = this.#epochs === 0 ? 'before its first epoch was done' : `epoch ${this.#epochs} is kept`;
    this.#io.err(`the training was stopped, ${kept}: --resume goes on with it\n`);
  }

  /** The training is done. */
  async remove(): Promise<void> {
    await rm(this.#path, { force: true });
  }
}

function stateOf({ tensors: { model, best, moments }, facts }: Checkpoint<Facts>): TrainingState {
  if (model === undefined || best === undefined || moments === undefined)
    throw new AllocatorError('INVALID_REQUEST', 'the checkpoint lacks a tensor');
  return { ...facts, model, best, moments };
}
