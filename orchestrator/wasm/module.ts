import assert from 'node:assert';
import { readFile } from 'node:fs/promises';

/** The part of the WebAssembly API that is used; @types/node leaves it to the DOM library. */
declare const WebAssembly: {
  instantiate(
    bytes: Uint8Array,
    imports: Record<string, Record<string, (...values: number[]) => unknown>>,
  ): Promise<{ readonly instance: { readonly exports: object } }>;
};
export interface ModuleMemory {
  readonly buffer: ArrayBuffer;
}

/** `debug` is the unoptimised build; both give the same bits. */
export type ModuleBuild = 'release' | 'debug';

/** Text of an AssemblyScript string: UTF-16, its byte length in the word before it. */
function readText(memory: ModuleMemory, at: number): string {
  if (at === 0) return '';
  const bytes = new DataView(memory.buffer).getUint32(at - 4, true);
  return Buffer.from(memory.buffer, at, bytes).toString('utf16le');
}

/**
 * Load a compiled module from beside the compiled program. Each call gives an instance with a memory of its own; a
 * failed check inside it becomes an AssertionError with the module's own words.
 * @param name as assembly/build.mjs lists it
 */
export async function loadModule<Exports extends { readonly memory: ModuleMemory }>(
  name: string,
  build: ModuleBuild = 'release',
): Promise<Exports> {
  const file = build === 'debug' ? `${name}.debug.wasm` : `${name}.wasm`;
  const bytes = await readFile(new URL(`../../assembly/${file}`, import.meta.url));
  let memory: ModuleMemory | undefined;
  const abort = (message = 0, source = 0, line = 0): never => {
    if (memory === undefined) throw new assert.AssertionError({ message: 'the kernels failed to start' });
    const text = `${readText(memory, message)} (${readText(memory, source)}:${line})`;
    throw new assert.AssertionError({ message: text });
  };
  const { instance } = await WebAssembly.instantiate(bytes, { env: { abort } });
  const exports = instance.exports as Exports;
  memory = exports.memory;
  return exports;
}
