import { loadModule, type ModuleBuild, type ModuleMemory } from '../../orchestrator/wasm/module.ts';

/** What assembly/lstm/index.ts exports; addresses and sizes are numbers. */
export interface LstmExports {
  readonly memory: ModuleMemory;
  freeAt(): number;
  freeBytes(): number;
  areFinite(at: number, size: number): number;
  isShape(inputs: number, hidden: number): number;
  weightsSize(inputs: number, hidden: number): number;
  denseSize(inputs: number, outputs: number): number;
  sigmoids(at: number, size: number): void;
  tanhs(at: number, size: number): void;
  step(x: number, h: number, c: number, weights: number, inputs: number, hidden: number, gates: number): void;
  sequence(
    steps: number,
    x: number,
    h: number,
    c: number,
    weights: number,
    inputs: number,
    hidden: number,
    gates: number,
  ): void;
  batch(
    rows: number,
    x: number,
    h: number,
    c: number,
    weights: number,
    inputs: number,
    hidden: number,
    gates: number,
  ): void;
  dense(h: number, weights: number, inputs: number, outputs: number, y: number): void;
  denseRows(rows: number, h: number, weights: number, inputs: number, outputs: number, y: number): void;
  bytesOfDenseScratch(inputs: number, outputs: number): number;
  denseBackward(
    rows: number,
    h: number,
    dy: number,
    weights: number,
    inputs: number,
    outputs: number,
    gradient: number,
    dh: number,
    scratch: number,
  ): void;
  bytesOfTape(steps: number, rows: number, hidden: number): number;
  tapeHidden(tape: number, slot: number, rows: number, hidden: number): number;
  tapeCell(tape: number, slot: number, steps: number, rows: number, hidden: number): number;
  carryTape(steps: number, rows: number, hidden: number, tape: number): void;
  forwardTape(
    steps: number,
    rows: number,
    x: number,
    weights: number,
    inputs: number,
    hidden: number,
    tape: number,
  ): void;
  bytesOfBackwardScratch(rows: number, hidden: number): number;
  backwardTape(
    steps: number,
    rows: number,
    x: number,
    weights: number,
    inputs: number,
    hidden: number,
    tape: number,
    dh: number,
    gradient: number,
    scratch: number,
  ): void;
  sumOfSquares(at: number, size: number): number;
  clipFactor(squares: number, most: number): number;
  adamStep(
    parameters: number,
    gradient: number,
    m: number,
    v: number,
    size: number,
    count: number,
    rate: number,
    factor: number,
  ): void;
}

/** One instance, whose memory is handed out from the front. */
export class LstmModule {
  readonly call: LstmExports;
  #at: number;
  readonly #end: number;

  constructor(call: LstmExports) {
    this.call = call;
    this.#at = call.freeAt();
    this.#end = this.#at + call.freeBytes();
  }

  /** Numbers in the module's memory, zero; their address is `byteOffset`. */
  take(size: number): Float32Array {
    const view = new Float32Array(this.call.memory.buffer, this.#at, size).fill(0);
    this.#at = (view.byteOffset + view.byteLength + 63) & ~63;
    if (this.#at > this.#end) throw new RangeError('the module has no more memory');
    return view;
  }

  /** The same, filled. */
  put(values: ArrayLike<number>): Float32Array {
    const view = this.take(values.length);
    view.set(values);
    return view;
  }

  /** Give everything back; views handed out before must not be used again. */
  clear(): void {
    this.#at = this.call.freeAt();
  }
}

export async function loadLstm(build: ModuleBuild = 'release'): Promise<LstmModule> {
  return new LstmModule(await loadModule<LstmExports>('lstm', build));
}
