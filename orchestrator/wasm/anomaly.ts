import assert from 'node:assert';
import { loadModule, type ModuleBuild, type ModuleMemory } from './module.ts';

/** Functions of the module as assembly/anomaly/index.ts exports them; addresses are byte offsets. */
interface AnomalyExports {
  readonly memory: ModuleMemory;
  open(slot: number, metrics: number): void;
  rewind(slot: number): void;
  skip(slot: number): void;
  measure(slot: number): void;
  closeMeasure(slot: number): void;
  relate(slot: number): void;
  closeRelate(slot: number): void;
  rate(slot: number): number;
  score(slot: number): number;
  explain(slot: number): void;
  sampleAt(): number;
  measuresAt(): number;
  decadesAt(): number;
  evidenceAt(): number;
  tailOf(slot: number, track: number): number;
  metricsMax(): number;
  guestsMax(): number;
  tracksSize(): number;
  knotsSize(): number;
}

/** Rows at the begin of a history that only move the means of the past: seven half-lives of the slowest. */
const SETTLING_ROWS = 200;
/** Least rows of a history, and of them the share that may settle. */
export const HISTORY_ROWS_MIN = 100;
const SETTLING_SHARE = 0.25;
/** The tail starts at the highest hundredth of the history, and is fitted to ten values at least. */
const TAIL_SHARE = 0.01;
const TAIL_VALUES_MIN = 10;
/** Least tail index: a history that repeats itself exactly would make any other value infinitely surprising. */
const TAIL_INDEX_MIN = 0.02;
/** Least start of a tail: measures are about 1 over a history, and 0 throughout if it never moved. */
const TAIL_START_MIN = 1e-9;

/** A row of readings, one a metric in a fixed order; NaN: missing. Infinite values are refused. */
export type Readings = ArrayLike<number>;

/** The anomaly kernels. One instance remembers a bounded number of guests; it is not shared. */
export class Anomalies {
  readonly #call: AnomalyExports;
  readonly #free: number[];
  /** Metrics of a guest at most. */
  readonly metricsMax: number;
  readonly historyRowsMin = HISTORY_ROWS_MIN;

  private constructor(call: AnomalyExports) {
    this.#call = call;
    this.metricsMax = call.metricsMax();
    this.#free = Array.from({ length: call.guestsMax() }, (_, i) => call.guestsMax() - 1 - i);
  }

  static async load(build: ModuleBuild = 'release'): Promise<Anomalies> {
    return new Anomalies(await loadModule<AnomalyExports>('anomaly', build));
  }

  /** A guest with so many metrics. Close it to make room; asserts that there is room. */
  open(metrics: number): GuestAnomalies {
    const slot = this.#free.pop();
    assert(slot !== undefined, 'more guests are open than the anomaly kernels remember');
    return new GuestAnomalies(this.#call, slot, metrics, () => this.#free.push(slot));
  }
}

/** The anomaly score of one guest: learn a history once, then score row after row; learn again to renew it. */
export class GuestAnomalies {
  readonly #call: AnomalyExports;
  readonly #slot: number;
  readonly #close: () => void;
  readonly #sample: Float64Array;
  readonly #measures: Float64Array;
  readonly #evidence: Float64Array;
  readonly #metrics: number;
  #isTaught = false;
  #isOpen = true;

  /** Made by `Anomalies.open`. */
  constructor(call: AnomalyExports, slot: number, metrics: number, close: () => void) {
    const view = (at: number, length: number) => new Float64Array(call.memory.buffer, at, length);
    this.#call = call;
    this.#slot = slot;
    this.#close = close;
    this.#metrics = metrics;
    call.open(slot, metrics);
    this.#sample = view(call.sampleAt(), metrics);
    this.#measures = view(call.measuresAt(), call.tracksSize());
    this.#evidence = view(call.evidenceAt(), metrics);
  }

  /**
   * Learn what is usual from a history, oldest row first; what was learned before is forgotten. What is scored next is
   * taken to follow its last row.
   * @param history HISTORY_ROWS_MIN rows at least, with readings in more than the first quarter
   */
  learn(history: readonly Readings[]): void {
    assert(this.#isOpen, 'the guest was closed');
    assert(history.length >= HISTORY_ROWS_MIN, `a history has ${HISTORY_ROWS_MIN} rows at least`);
    const { measure, relate } = this.#call;
    this.#isTaught = false;
    this.#call.open(this.#slot, this.#metrics);
    this.#pass(history, () => measure(this.#slot));
    this.#call.closeMeasure(this.#slot);
    this.#pass(history, () => relate(this.#slot));
    this.#call.closeRelate(this.#slot);
    const tracks = Array.from(this.#measures, (): number[] => []);
    this.#pass(history, () => {
      if (this.#call.rate(this.#slot) === 0) return;
      for (const [track, values] of tracks.entries()) values.push(this.#measures[track] as number);
    });
    for (const [track, values] of tracks.entries()) this.#setTail(track, Float64Array.from(values).sort());
    this.#isTaught = true;
  }

  #pass(history: readonly Readings[], take: () => void): void {
    this.#call.rewind(this.#slot);
    const settling = Math.min(SETTLING_ROWS, Math.floor(history.length * SETTLING_SHARE));
    for (const [i, row] of history.entries()) {
      this.#write(row);
      if (i < settling) this.#call.skip(this.#slot);
      else take();
    }
  }

  #write(row: Readings): void {
    assert.equal(row.length, this.#metrics, 'a row has one reading a metric');
    for (let m = 0; m < this.#metrics; m += 1) {
      const value = row[m] as number;
      assert(
        value < Infinity && value > -Infinity ? true : Number.isNaN(value),
        'readings are finite or NaN',
      );
      this.#sample[m] = value;
    }
  }

  /** @param sorted measures of the history, increasing */
  #setTail(track: number, sorted: Float64Array): void {
    const n = sorted.length;
    const count = Math.min(n, Math.max(TAIL_VALUES_MIN, Math.floor(n * TAIL_SHARE)));
    const start = Math.max(sorted[n - count] as number, TAIL_START_MIN);
    const base = Math.log10((n + 1) / (count + 1));
    const index =
      sorted.subarray(n - count).reduce((sum, value) => sum + Math.log(Math.max(value, start) / start), 0) /
      count;
    const knots = this.#call.knotsSize();
    const tail = new Float64Array(this.#call.memory.buffer, this.#call.tailOf(this.#slot, track), knots + 2);
    for (let k = 0; k < knots - 1; k += 1) {
      // So many of the history are at least as large at this place of the table; one is the value that is judged.
      const larger = (n + 1) * 10 ** ((-base * k) / (knots - 1)) - 1;
      const place = Math.min(Math.max(Math.round(n - larger), 0), n - 1);
      tail[k] = Math.min(sorted[place] as number, start);
    }
    tail.set([start, base, 1 / Math.max(index, TAIL_INDEX_MIN)], knots - 1);
  }

  /**
   * The anomaly score of the next row, in [0, 1]: s / (1 + s), s being by how many decades it is out of the usual, so that
   * 0.5 is seen once in ten rows, 0.75 once in a thousand. It depends on this row and those before it only.
   * @returns NaN when nothing was read
   */
  score(row: Readings): number {
    assert(this.#isOpen && this.#isTaught, 'a guest is open and has learned before it is scored');
    this.#write(row);
    const decades = this.#call.score(this.#slot);
    return decades / (1 + decades);
  }

  /**
   * Which metrics drove the score of the row before: shares that add up to 1, or all 0 when nothing was out of the usual.
   * To be asked right after `score` of this guest, before any other of the same instance is scored.
   */
  evidence(): Float64Array {
    assert(this.#isOpen && this.#isTaught, 'a guest is open and has learned before it is explained');
    this.#call.explain(this.#slot);
    return this.#evidence.slice();
  }

  close(): void {
    assert(this.#isOpen, 'the guest was closed before');
    this.#isOpen = false;
    this.#close();
  }
}
