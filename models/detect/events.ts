import { fallingOrder, keyOf } from './precision-recall.ts';

/** Alarms closer than so many steps are one episode. */
export const EPISODE_STEPS = 12;

/** Scored and labelled points of a set: its series one behind the other. */
export interface LabelledPoints {
  /** NaN: not scored, and never an alarm. */
  readonly scores: Float64Array;
  /** 1: anomalous, 0: not. */
  readonly labels: Uint8Array;
  /** Time of each point, in steps. */
  readonly steps: Float64Array;
  /** First point of each series. */
  readonly starts: readonly number[];
}

/** What alarms find within a budget of false ones. */
export interface EventsFound {
  /** Runs of labelled points. */
  readonly events: number;
  readonly found: number;
  /** Alarm episodes that touch no labelled point. */
  readonly falseEpisodes: number;
  /** A score from here on is an alarm; above 1: none is. */
  readonly threshold: number;
}

/**
 * Lower one threshold for all points, score by score, until the false alarm episodes pass the budget. It is not lowered
 * further, even where episodes grow together again: an alarm that never ends would be one episode, and find everything.
 * @param budget false alarm episodes allowed
 */
export function findEvents(points: LabelledPoints, budget: number): EventsFound {
  const { scores } = points;
  const alarms = new Alarms(points);
  const order = fallingOrder(scores);
  let best = { found: 0, falseEpisodes: 0, threshold: Number.POSITIVE_INFINITY };
  for (const [place, i] of order.entries()) {
    const key = keyOf(scores, i);
    if (key < 0) break;
    alarms.raise(i);
    const next = order[place + 1];
    if (next !== undefined && keyOf(scores, next) === key) continue;
    if (alarms.falseEpisodes > budget) break;
    best = { found: alarms.found, falseEpisodes: alarms.falseEpisodes, threshold: key };
  }
  return { events: alarms.events, ...best };
}

/** Alarms as they are raised: their episodes, joined as they come close, and the events they touch. */
class Alarms {
  falseEpisodes = 0;
  found = 0;
  readonly events: number;
  readonly #points: LabelledPoints;
  /** The event of each point, -1: none. */
  readonly #event: Int32Array;
  readonly #isFound: Uint8Array;
  /** The series of each point. */
  readonly #series: Uint32Array;
  /** Towards an episode's first alarm; -1: no alarm. */
  readonly #parent: Int32Array;
  /** Of an episode's root: it touches a labelled point. */
  readonly #isTrue: Uint8Array;

  constructor(points: LabelledPoints) {
    const size = points.labels.length;
    this.#points = points;
    this.#series = new Uint32Array(size);
    for (const [s, start] of points.starts.entries()) this.#series.fill(s, start);
    this.#event = new Int32Array(size).fill(-1);
    let events = 0;
    for (let i = 0; i < size; i += 1) {
      if (points.labels[i] !== 1) continue;
      const goesOn = i > 0 && points.labels[i - 1] === 1 && this.#series[i - 1] === this.#series[i];
      if (!goesOn) events += 1;
      this.#event[i] = events - 1;
    }
    this.events = events;
    this.#isFound = new Uint8Array(events);
    this.#parent = new Int32Array(size).fill(-1);
    this.#isTrue = new Uint8Array(size);
  }

  raise(i: number): void {
    const event = this.#event[i] as number;
    this.#parent[i] = i;
    this.#isTrue[i] = event >= 0 ? 1 : 0;
    if (event < 0) this.falseEpisodes += 1;
    else if (this.#isFound[event] === 0) {
      this.#isFound[event] = 1;
      this.found += 1;
    }
    this.#joinNext(i, -1);
    this.#joinNext(i, 1);
  }

  /** Join the nearest alarm of one side, if it is close. */
  #joinNext(i: number, side: 1 | -1): void {
    const { steps } = this.#points;
    for (let j = i + side; this.#series[j] === this.#series[i]; j += side) {
      if (Math.abs((steps[j] as number) - (steps[i] as number)) >= EPISODE_STEPS) return;
      if (this.#parent[j] === -1) continue;
      this.#join(i, j);
      return;
    }
  }

  #join(a: number, b: number): void {
    const [from, to] = [this.#rootOf(a), this.#rootOf(b)];
    if (from === to) return;
    const [isFromTrue, isToTrue] = [this.#isTrue[from] === 1, this.#isTrue[to] === 1];
    if (!isFromTrue || !isToTrue) this.falseEpisodes -= 1;
    this.#parent[from] = to;
    this.#isTrue[to] = isFromTrue || isToTrue ? 1 : 0;
  }

  #rootOf(i: number): number {
    let at = i;
    while (this.#parent[at] !== at) {
      const above = this.#parent[at] as number;
      this.#parent[at] = this.#parent[above] as number;
      at = this.#parent[at] as number;
    }
    return at;
  }
}
