import { FIELDS, type Forecast, LEVELS, QUANTILE_LEVELS, type Track } from '../core/forecast.ts';
import type { GuestId } from '../core/guest.ts';
import type { GuestSample } from '../core/sample.ts';
import type { SeriesKernels } from '../wasm/series.ts';
import { type CourseRecord, decodeCourse, encodeCourse } from './course-record.ts';
import { fitsDueAt } from './fit-schedule.ts';
import { Grid } from './grid.ts';
import { readingsOf } from './readings.ts';

/** Guests whose courses are kept; the one least recently read gives way. As many as the request forecaster holds. */
const GUESTS_MAX = 1024;
/** Bins of a track before it answers: as many as an expert needs behind it before it is held against an outcome. */
export const BINS_MIN = 8;
/** Forecasts kept: a guest is asked of several times a second or not at all; 12 KiB each. */
const FORESEEN_MAX = 128;
/** Pieces of one guest's work that may wait; more is done at once. A gap of a day causes some 130. */
const DUE_MAX = 256;
/** Pieces done in one go, a full sample's mostly, and bins in a piece: no call waits longer than a few ms. */
const PIECES_AT_ONCE = 16;
const PIECE_BINS_MAX = 16;

/** What the two tracks differ in. */
interface TrackShape {
  readonly stepMs: number;
  /** Bins after which the course is expected to repeat; 0: it is not. */
  readonly season: number;
  readonly runMax: number;
  /** Farthest step that is forecast, bins. */
  readonly reach: number;
  /** Bins without a reading after which the course is told by it no more. */
  readonly staleBins: number;
}

/** Bins of a day on the long track. */
const DAY_BINS = 288;
export const TRACKS: Readonly<Record<Track, TrackShape>> = {
  // 192 s: of what lies farther ahead, a memory of 240 bins has too few outcomes to learn by.
  short: { stepMs: 1000, season: 0, runMax: 16, reach: 192, staleBins: 60 },
  long: { stepMs: 300_000, season: DAY_BINS, runMax: DAY_BINS, reach: 720, staleBins: 24 },
};

// Pieces of work that wait, four numbers each: what, field, value, count.
const SHORT_BINS = 0;
const LONG_BINS = 1;
const FIT_TURN = 2;
const PIECE = 4;

/** One track of one guest. */
interface GuestTrack {
  readonly grid: Grid;
  /** Bins of each field that its series has taken. */
  readonly taken: Float64Array;
  /** States of the fields' series, one behind the other; absent before the first bin. */
  states: Uint8Array | undefined;
}

interface Course {
  readonly short: GuestTrack;
  long: GuestTrack;
  /** By field, fits of the long track that are to be made; bit f: fit f. */
  readonly fits: Uint8Array;
  /** Work in order, PIECE numbers each. */
  readonly due: number[];
}

/** What a guest's own course foresees. */
export type CourseForecast = Pick<Forecast, 'originMs' | 'knots' | 'values' | 'peak'> & {
  /** Bins that the field with the most has taken. */
  readonly bins: number;
};

/**
 * The courses of all guests on both tracks. Their states live here and are paged into one slot of the kernels for whatever is
 * done to them. What they are is a function of the samples and their order alone, whenever the work is done.
 */
export class GuestCourses {
  readonly #kernels: SeriesKernels;
  readonly #defer: ((work: () => void) => void) | undefined;
  readonly #courses = new Map<GuestId, Course>();
  readonly #pages: Readonly<Record<Track, { readonly slot: number; readonly state: Uint8Array }>>;
  readonly #steps: Readonly<Record<Track, readonly number[]>>;
  readonly #readings = new Float64Array(FIELDS);
  /** What was foreseen of the tracks that were asked of last, until their next bin or fit. */
  readonly #foreseen = new Map<GuestTrack, CourseForecast>();
  /** Guests with work, in the order it came. */
  readonly #waiting = new Set<Course>();

  /**
   * @param kernels with a model; they are its own from here on
   * @param defer runs a piece of work soon, but not at once; absent: everything is done at once
   */
  constructor(kernels: SeriesKernels, defer?: (work: () => void) => void) {
    this.#kernels = kernels;
    this.#defer = defer;
    const page = (slot: number) => ({ slot, state: kernels.state(slot) });
    this.#pages = { short: page(kernels.slots), long: page(0) };
    const within = (reach: number) => kernels.knotSteps.filter((step) => step <= reach);
    this.#steps = { short: within(TRACKS.short.reach), long: within(TRACKS.long.reach) };
  }

  /** Take a sample into both tracks. Work for the kernels may be put off. */
  observe(sample: GuestSample): void {
    const course = this.#claim(sample.guest);
    const { atMs, periodMs } = sample;
    readingsOf(sample, this.#readings);
    const shortBins = this.#noting(course, SHORT_BINS);
    const longBins = this.#noting(course, LONG_BINS);
    for (const [f, value] of this.#readings.entries()) {
      if (Number.isNaN(value)) continue;
      const width = Math.max(1, periodMs);
      course.short.grid.take(f, value, atMs, width, shortBins);
      course.long.grid.take(f, value, atMs, width, longBins);
    }
    if (sample.cadence === 'full') course.due.push(FIT_TURN, 0, 0, 0);
    if (course.due.length > 0) this.#schedule(course);
  }

  /** Bins that the field with the most has taken. */
  bins(guest: GuestId, track: Track): number {
    const grid = this.#courses.get(guest)?.[track].grid;
    let most = 0;
    for (let f = 0; f < FIELDS; f += 1) most = Math.max(most, grid?.bins(f) ?? 0);
    return most;
  }

  /**
   * What a guest's course foresees from its newest bin on; undefined before BINS_MIN bins, or when the newest is too long ago.
   * The peak is, level by level, the largest of the knots: the highest level of usage at one of them, which is at most that of
   * the highest usage between them. It is kept until the next bin: the same arrays are given again, and must not be changed.
   */
  forecast(guest: GuestId, track: Track, nowMs: number): CourseForecast | undefined {
    const course = this.#courses.get(guest);
    if (course === undefined || this.bins(guest, track) < BINS_MIN) return undefined;
    const { stepMs, staleBins } = TRACKS[track];
    const { grid } = course[track];
    if (nowMs - grid.endMs > staleBins * stepMs) return undefined;
    this.#catchUp(course);
    const own = course[track];
    const foreseen = this.#foreseen.get(own) ?? this.#foresee(own, track);
    this.#foreseen.delete(own);
    this.#foreseen.set(own, foreseen);
    const [oldest] = this.#foreseen.keys();
    if (this.#foreseen.size > FORESEEN_MAX && oldest !== undefined) this.#foreseen.delete(oldest);
    return foreseen;
  }

  #foresee(own: GuestTrack, track: Track): CourseForecast {
    const { grid } = own;
    const steps = this.#steps[track];
    const values = new Float64Array(FIELDS * steps.length * LEVELS).fill(Number.NaN);
    const peak = new Float64Array(FIELDS * LEVELS).fill(Number.NaN);
    this.#kernels.levels.set(QUANTILE_LEVELS);
    let bins = 0;
    for (let f = 0; f < FIELDS; f += 1) {
      if (grid.bins(f) === 0) continue;
      bins = Math.max(bins, grid.bins(f));
      this.#infer(own, track, f, values.subarray(f * steps.length * LEVELS));
      for (let l = 0; l < LEVELS; l += 1) {
        let largest = 0;
        for (let k = 0; k < steps.length; k += 1)
          largest = Math.max(largest, values[(f * steps.length + k) * LEVELS + l] as number);
        peak[f * LEVELS + l] = largest;
      }
    }
    const knots = steps.map((step) => (step * TRACKS[track].stepMs) / 1000);
    return { originMs: grid.endMs, knots, values, peak, bins };
  }

  /** Guests that are known, the least recently read first. */
  guests(): GuestId[] {
    return [...this.#courses.keys()];
  }

  /** The long track of a guest as a file's content; undefined before its first bin. */
  record(guest: GuestId): Uint8Array | undefined {
    const course = this.#courses.get(guest);
    if (course === undefined) return undefined;
    this.#catchUp(course);
    const { grid, taken, states } = course.long;
    return states && encodeCourse({ guest, rows: grid.rows, taken, fits: course.fits, states });
  }

  /**
   * Go on with a guest's long track where a record ends; its short track begins anew.
   * @returns the guest
   * @throws {Error} that says what is wrong with the record
   */
  resume(content: Uint8Array): GuestId {
    const { guest, rows, taken, fits, states } = decodeCourse(content, this.#pages.long.state.length);
    this.forget(guest);
    const course = this.#claim(guest);
    course.long = newTrack('long', longPhaseMs(guest), { rows, taken, states });
    course.fits.set(fits);
    return guest;
  }

  /** Drop what is known of a guest. */
  forget(guest: GuestId): void {
    const course = this.#courses.get(guest);
    if (course === undefined) return;
    this.#waiting.delete(course);
    this.#courses.delete(guest);
  }

  /** Serve other weights from the next forecast on; what the courses themselves taught stays. @param weights f32[modelSize], finite */
  adopt(weights: Float32Array): void {
    this.#kernels.adopt(weights);
    this.#foreseen.clear();
  }

  /** A guest's course, made for it if need be; it becomes the most recently read. */
  #claim(guest: GuestId): Course {
    const course = this.#courses.get(guest) ?? newCourse(guest);
    this.#courses.delete(guest);
    this.#courses.set(guest, course);
    if (this.#courses.size > GUESTS_MAX) {
      const [oldest] = this.#courses.keys();
      if (oldest !== undefined) this.forget(oldest);
    }
    return course;
  }

  #noting({ due }: Course, what: number) {
    return (field: number, value: number, count: number): void => {
      for (let left = count; left > 0; left -= PIECE_BINS_MAX)
        due.push(what, field, value, Math.min(left, PIECE_BINS_MAX));
    };
  }

  #schedule(course: Course): void {
    if (this.#defer === undefined || course.due.length > DUE_MAX * PIECE) {
      this.#catchUp(course);
      return;
    }
    const isIdle = this.#waiting.size === 0;
    this.#waiting.add(course);
    if (isIdle) this.#defer(this.#workOn);
  }

  /** Do the work of the guest that waited longest, and come again while another waits. */
  readonly #workOn = (): void => {
    const [course] = this.#waiting;
    if (course === undefined) return;
    this.#catchUp(course, PIECES_AT_ONCE);
    if (this.#waiting.size > 0) this.#defer?.(this.#workOn);
  };

  /** Do what is due of one guest, in order. @param piecesMax absent: all of it */
  #catchUp(course: Course, piecesMax = Number.POSITIVE_INFINITY): void {
    const { due } = course;
    const end = Math.min(due.length, piecesMax * PIECE);
    for (let i = 0; i < end; i += PIECE) {
      const [what, field = 0, value = 0, count = 0] = due.slice(i, i + PIECE);
      if (what === FIT_TURN) this.#fitOne(course);
      else if (what === SHORT_BINS) this.#refresh(course.short, 'short', { field, value, count });
      else
        course.fits[field] =
          (course.fits[field] ?? 0) | this.#refresh(course.long, 'long', { field, value, count });
    }
    // Set back if more is to do: behind those that wait.
    this.#waiting.delete(course);
    if (end < due.length) this.#waiting.add(course);
    due.splice(0, end);
  }

  /** Let a field's series take bins of one value. @returns the fits that fell due meanwhile */
  #refresh(track: GuestTrack, name: Track, { field, value, count }: Bins): number {
    const { call, fits } = this.#kernels;
    const { slot, state } = this.#pages[name];
    const own = this.#stateOf(track, name, field);
    this.#foreseen.delete(track);
    const bins = track.taken[field] as number;
    if (bins > 0) state.set(own);
    else call.open(slot, TRACKS[name].season, track.grid.clock(field));
    let due = 0;
    for (let i = 1; i <= count; i += 1) {
      call.refresh(slot, value);
      due |= fitsDueAt(bins + i, fits);
    }
    track.taken[field] = bins + count;
    own.set(state);
    return due;
  }

  /** Make one of the fits that are to be made, if there is one. */
  #fitOne({ long, fits }: Course): void {
    const field = fits.findIndex((due) => due !== 0);
    if (field < 0) return;
    const due = fits[field] as number;
    const fit = 31 - Math.clz32(due);
    fits[field] = due & ~(1 << fit);
    const { slot, state } = this.#pages.long;
    const own = this.#stateOf(long, 'long', field);
    this.#foreseen.delete(long);
    state.set(own);
    this.#kernels.call.fit(slot, fit);
    own.set(state);
  }

  /** Quantiles of a field at every step into `values`. */
  #infer(track: GuestTrack, name: Track, field: number, values: Float64Array): void {
    const { call, quantiles, levelsMax } = this.#kernels;
    const { slot, state } = this.#pages[name];
    const steps = this.#steps[name];
    state.set(this.#stateOf(track, name, field));
    this.#kernels.steps.set(steps);
    call.aim(slot);
    call.forecast(slot, steps.length, LEVELS);
    // No usage is below nothing, whatever a regression says.
    for (let k = 0; k < steps.length; k += 1)
      for (let l = 0; l < LEVELS; l += 1)
        values[k * LEVELS + l] = Math.max(0, quantiles[k * levelsMax + l] as number);
  }

  #stateOf(track: GuestTrack, name: Track, field: number): Uint8Array {
    const size = this.#pages[name].state.length;
    track.states ??= new Uint8Array(FIELDS * size);
    return track.states.subarray(field * size, (field + 1) * size);
  }
}

/** Bins of one value, of one field. */
interface Bins {
  readonly field: number;
  readonly value: number;
  readonly count: number;
}

function newCourse(guest: GuestId): Course {
  return {
    short: newTrack('short', 0),
    long: newTrack('long', longPhaseMs(guest)),
    fits: new Uint8Array(FIELDS),
    due: [],
  };
}

function newTrack(
  name: Track,
  phaseMs: number,
  held?: Pick<CourseRecord, 'rows' | 'taken' | 'states'>,
): GuestTrack {
  const grid = new Grid({ ...TRACKS[name], phaseMs }, held?.rows);
  const taken = held?.taken ?? new Float64Array(FIELDS);
  return { grid, taken, states: held?.states };
}

/** Where a guest's bins of five minutes begin: each guest's elsewhere, so that their work does not come all at once. FNV-1a. */
export function longPhaseMs(guest: GuestId): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < guest.length; i += 1) hash = Math.imul(hash ^ guest.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % TRACKS.long.stepMs;
}
