import type * as Ort from 'onnxruntime-web';

/** The part of onnxruntime's interface that is used; both packages have it. */
export type OnnxRuntime = Pick<typeof Ort, 'InferenceSession' | 'Tensor' | 'env'>;

/** onnxruntime in WebAssembly, one thread. */
export async function loadOnnxWeb(): Promise<OnnxRuntime> {
  const ort = await import('onnxruntime-web');
  ort.env.wasm.numThreads = 1;
  return ort;
}

/**
 * onnxruntime's native build, when it is installed; it is no dependency, being 290 MB:
 * `ONNXRUNTIME_NODE_INSTALL=skip npm install --no-save onnxruntime-node@1.30.0`.
 */
export async function loadOnnxNode(): Promise<OnnxRuntime | undefined> {
  const name: string = 'onnxruntime-node';
  try {
    const { default: ort } = (await import(name)) as { default: OnnxRuntime };
    return ort;
  } catch {
    return undefined;
  }
}

/** One model in one runtime, one thread. */
export class OnnxSession {
  readonly #ort: OnnxRuntime;
  readonly #session: Ort.InferenceSession;
  readonly #inputs: number;
  readonly #hidden: number;

  private constructor(ort: OnnxRuntime, session: Ort.InferenceSession, inputs: number, hidden: number) {
    this.#ort = ort;
    this.#session = session;
    this.#inputs = inputs;
    this.#hidden = hidden;
  }

  static async open(
    ort: OnnxRuntime,
    file: Uint8Array,
    inputs: number,
    hidden: number,
  ): Promise<OnnxSession> {
    const options = { intraOpNumThreads: 1, interOpNumThreads: 1 };
    return new OnnxSession(ort, await ort.InferenceSession.create(file, options), inputs, hidden);
  }

  /** What a run takes, in the runtime's own tensors: a window and an empty state, or one step and the state given. */
  feeds(xs: Float32Array, h = new Float32Array(this.#hidden), c = new Float32Array(this.#hidden)) {
    const { Tensor } = this.#ort;
    return {
      x: new Tensor('float32', xs, [xs.length / this.#inputs, 1, this.#inputs]),
      h: new Tensor('float32', h, [1, 1, this.#hidden]),
      c: new Tensor('float32', c, [1, 1, this.#hidden]),
    };
  }

  async run(feeds: ReturnType<OnnxSession['feeds']>) {
    const results = await this.#session.run(feeds);
    const of = (name: string) => results[name]?.data as Float32Array;
    return { y: of('y'), h: of('h_out'), c: of('c_out') };
  }

  async release(): Promise<void> {
    await this.#session.release();
  }
}
