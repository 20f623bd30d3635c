import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { refuse } from './refusal.ts';
import { readSafetensors, writeSafetensors } from './safetensors.ts';

/** What stands beside a model's weights. */
export interface ModelManifest {
  readonly format: typeof FORMAT;
  readonly name: string;
  readonly version: number;
  /** ISO 8601. */
  readonly createdAt: string;
  /** SHA-256 of weights.safetensors, hex. */
  readonly sha256: string;
  readonly inputs: number;
  readonly hidden: number;
  readonly groups: number;
  /** Horizons at which the model weighs its experts, steps. */
  readonly knots: readonly number[];
  /** What it was trained on, by set; none in a model that was imported. */
  readonly data: readonly TrainingShare[];
  /** SHA-256 over all that was learned from, hex. Absent, as all below, when it was imported. */
  readonly dataSha256?: string;
  /** Only the first so many bins of each series were learned from; absent: all. */
  readonly untilStep?: number;
  readonly seed?: number;
  readonly epochs?: number;
  /** Loss on what was kept back, in units of the pool's before training. */
  readonly heldBackLoss?: number;
  /** The same without the recurrent part. */
  readonly heldBackLossNoLstm?: number;
  /** Where a model that was not trained here comes from. */
  readonly imported?: { readonly file: string; readonly sha256: string };
}

/** What was learned from one set. */
export interface TrainingShare {
  readonly name: string;
  readonly licence: string;
  readonly series: number;
  readonly bins: number;
  /** Spacing of its bins, s; absent: the set does not say. */
  readonly stepS?: number;
  /** Losses on what was kept back of it, in units of the pool's before training; absent: nothing was. */
  readonly heldBack?: {
    readonly stretches: number;
    readonly loss: number;
    readonly lossNoLstm: number;
  };
}

/** Shapes a model must have to be served. */
export interface ModelParts {
  readonly inputs: number;
  readonly hidden: number;
  readonly groups: number;
  readonly groupRow: number;
  readonly knots: readonly number[];
}

/** Shapes that kernels serve. */
export function partsOf({
  inputs,
  hidden,
  groups,
  groupRow,
  knotSteps,
}: Omit<ModelParts, 'knots'> & { readonly knotSteps: readonly number[] }): ModelParts {
  return { inputs, hidden, groups, groupRow, knots: knotSteps };
}

export interface SavedModel {
  readonly manifest: ModelManifest;
  /** f32, as the series module holds them: cell, head, trust. */
  readonly weights: Float32Array;
}

const FORMAT = 'foreshade-series-1';
const WEIGHTS = 'weights.safetensors';
const MANIFEST = 'manifest.json';
/** Largest file that is read. */
const BYTES_MAX = 64 * 1024 * 1024;

/** Shapes of the tensors, in the order of the weights. */
function shapesOf({ inputs, hidden, groupRow, knots }: ModelParts): [string, readonly number[]][] {
  const outputs = knots.length * groupRow;
  return [
    ['cell', [inputs + hidden + 1, 4 * hidden]],
    ['head', [hidden + 1, outputs]],
    ['trust', [knots.length, groupRow]],
  ];
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/**
 * Write a model as folder/<version>, whole or not at all: it takes its place by a rename.
 * @returns the folder of the version
 */
export async function saveModel(
  folder: string,
  facts: Omit<ModelManifest, 'format' | 'version' | 'sha256'>,
  parts: ModelParts,
  weights: Float32Array,
): Promise<{ readonly path: string; readonly version: number }> {
  const tensors = new Map();
  let at = 0;
  for (const [name, shape] of shapesOf(parts)) {
    const size = shape.reduce((product, dim) => product * dim, 1);
    tensors.set(name, { shape, values: weights.slice(at, at + size) });
    at += size;
  }
  const file = writeSafetensors({ tensors, metadata: { format: FORMAT } });
  const version = Math.max(0, ...(await versionsIn(folder))) + 1;
  const manifest: ModelManifest = { format: FORMAT, ...facts, version, sha256: sha256(file) };
  const path = join(folder, String(version));
  const draft = join(folder, `.${version}-${process.pid}`);
  await mkdir(draft, { recursive: true });
  try {
    await writeFile(join(draft, WEIGHTS), file, { flush: true });
    await writeFile(join(draft, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`, { flush: true });
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw error;
  }
  return { path, version };
}

/** Versions of a model in its folder, increasing; none when it is not there. */
export async function versionsIn(folder: string): Promise<number[]> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return [];
    throw error;
  });
  return names
    .filter((name) => /^[1-9]\d{0,8}$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);
}

/**
 * Read one version of a model and check all of it: the manifest, the checksum, the shapes, each number.
 * @param path the version's folder
 * @throws {AllocatorError} INVALID_REQUEST with the rule that is broken
 */
export async function readModel(path: string, parts: ModelParts): Promise<SavedModel> {
  const model = join(basename(dirname(path)), basename(path));
  const manifest = await readManifest(path);
  const file = await readWhole(join(path, WEIGHTS), model);
  if (sha256(file) !== manifest.sha256)
    refuse(`the weights of model ${model} are not those its manifest names: the checksums differ`);
  const differs = (['inputs', 'hidden', 'groups'] as const).find((key) => manifest[key] !== parts[key]);
  if (differs !== undefined)
    refuse(
      `model ${model} has ${manifest[differs]} ${differs}; this version of the program serves ${parts[differs]}`,
    );
  if (manifest.knots.join() !== parts.knots.join())
    refuse(`model ${model} weighs its experts at other horizons than this version of the program`);
  const { tensors } = readSafetensors(file);
  const weights: number[] = [];
  for (const [name, shape] of shapesOf(parts)) {
    const tensor = tensors.get(name);
    if (tensor === undefined || tensor.shape.join() !== shape.join())
      refuse(`model ${model} must have a tensor ${name} of shape ${shape.join(' x ')}`);
    if (!tensor.values.every(Number.isFinite))
      refuse(`tensor ${name} of model ${model} has a number that is not finite`);
    for (const value of tensor.values) weights.push(value);
  }
  return { manifest, weights: Float32Array.from(weights) };
}

/** The manifest of a version, checked in its form. */
export async function readManifest(path: string): Promise<ModelManifest> {
  const model = join(basename(dirname(path)), basename(path));
  const text = Buffer.from(await readWhole(join(path, MANIFEST), model)).toString();
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch (error) {
    refuse(`the manifest of model ${model} is not JSON`, {}, error);
  }
  const manifest = (typeof found === 'object' && found !== null ? found : {}) as Partial<ModelManifest>;
  if (manifest.format !== FORMAT) refuse(`the manifest of model ${model} must have "format": "${FORMAT}"`);
  const isNumber = (value: unknown): boolean => Number.isSafeInteger(value);
  const sound =
    /^[0-9a-f]{64}$/.test(manifest.sha256 ?? '') &&
    [manifest.inputs, manifest.hidden, manifest.groups, manifest.version].every(isNumber) &&
    Array.isArray(manifest.knots) &&
    manifest.knots.every(isNumber) &&
    Array.isArray(manifest.data);
  if (!sound) refuse(`the manifest of model ${model} lacks a field, or one is not what it must be`);
  return manifest as ModelManifest;
}

async function readWhole(path: string, model: string): Promise<Uint8Array> {
  let file: Uint8Array;
  try {
    file = await readFile(path);
  } catch (error) {
    refuse(`model ${model} has no readable ${basename(path)}`, {}, error);
  }
  if (file.length > BYTES_MAX) refuse(`${basename(path)} of model ${model} is larger than any model`);
  return file;
}
