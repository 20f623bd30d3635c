import { homedir } from 'node:os';
import { join, resolve, sep } from 'node:path';
import { servedVersion } from '../../models/files/current-version.ts';
import { partsOf, readModel, type SavedModel, versionsIn } from '../../models/files/model-file.ts';
import { AllocatorError } from '../core/errors.ts';
import { packagePath } from '../package-path.ts';
import type { SeriesKernels } from '../wasm/series.ts';
import type { Io } from './io.ts';

/** The model that comes with the program. */
export const DEFAULT_MODEL = 'default';
/** A name is one of a folder: no path, nothing hidden. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** Where trained models are kept unless a folder is named: the user's own data. */
export function modelFolder(io: Io, named?: string): string {
  if (named !== undefined) return resolve(named);
  const data = io.env.XDG_DATA_HOME || join(io.env.HOME || homedir(), '.local', 'share');
  return join(data, 'foreshade', 'models');
}

/** The folder that ships with the program. */
export function shippedFolder(): string {
  return packagePath(join('models', 'weights'));
}

/** @throws {AllocatorError} INVALID_REQUEST when the name could leave its folder */
export function checkedName(name: string): string {
  if (NAME.test(name)) return name;
  throw new AllocatorError(
    'INVALID_REQUEST',
    'a model name has letters, digits, dots, underscores and dashes, at most 64, and begins with a letter or a digit',
  );
}

/**
 * Folder of a model's version: NAME or NAME@VERSION, the one that serves when none is named; or a path to one.
 * The user's own models go before those that ship.
 * @throws {AllocatorError} INVALID_REQUEST when there is none
 */
export async function findModel(io: Io, name: string, folder?: string): Promise<string> {
  if (name.includes(sep)) return resolve(name);
  const [plain = '', version] = name.split('@');
  checkedName(plain);
  const homes = [modelFolder(io, folder), shippedFolder()];
  for (const home of homes) {
    const folder = join(home, plain);
    const wanted =
      version === undefined
        ? await servedVersion(folder)
        : (await versionsIn(folder)).find((v) => String(v) === version);
    if (wanted !== undefined) return join(home, plain, String(wanted));
  }
  throw new AllocatorError('INVALID_REQUEST', `there is no model ${name} in ${homes.join(' or ')}`);
}

/** Find, check and read a model. */
export async function loadModel(
  io: Io,
  kernels: SeriesKernels,
  name: string,
  folder?: string,
): Promise<SavedModel> {
  return await readModel(await findModel(io, name, folder), partsOf(kernels));
}
