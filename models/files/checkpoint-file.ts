import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { refuse } from './refusal.ts';
import { readSafetensors, type TensorFile, writeSafetensors } from './safetensors.ts';

/** Where an unfinished training stands. */
export interface Checkpoint<Facts> {
  /** f32 by name. */
  readonly tensors: Readonly<Record<string, Float32Array>>;
  /** Whatever JSON keeps as it is; its numbers come back to the bit. */
  readonly facts: Facts;
}

const FORMAT = 'foreshade-checkpoint-1';

function checksum(tensors: TensorFile['tensors'], facts: string): string {
  const hash = createHash('sha256').update(facts);
  for (const [name, { values }] of tensors)
    hash.update(name).update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  return hash.digest('hex');
}

/** Write a checkpoint in the place of the one before: whole, by a rename, and on the disk before it returns. */
export async function saveCheckpoint(path: string, checkpoint: Checkpoint<unknown>): Promise<void> {
  const tensors = new Map(
    Object.entries(checkpoint.tensors).map(([name, values]) => [name, { shape: [values.length], values }]),
  );
  const facts = JSON.stringify(checkpoint.facts);
  const metadata = { format: FORMAT, facts, sha256: checksum(tensors, facts) };
  const draft = `${path}.${process.pid}`;
  await mkdir(dirname(path), { recursive: true });
  try {
    await writeFile(draft, writeSafetensors({ tensors, metadata }), { flush: true });
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}

/**
 * Read a checkpoint as this version of the program wrote it.
 * @returns undefined when there is none
 * @throws {AllocatorError} INVALID_REQUEST when it is damaged or of another version
 */
export async function readCheckpoint<Facts>(path: string): Promise<Checkpoint<Facts> | undefined> {
  const file = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (file === undefined) return undefined;
  const { tensors, metadata } = readSafetensors(file);
  const { format, facts = '', sha256 } = metadata;
  if (format !== FORMAT) refuse('the checkpoint is of another version of the program', { path });
  if (sha256 !== checksum(tensors, facts))
    refuse('the checkpoint is damaged: its checksum differs', { path });
  const values = [...tensors].map(([name, tensor]) => [name, tensor.values] as const);
  return { tensors: Object.fromEntries(values), facts: JSON.parse(facts) as Facts };
}
