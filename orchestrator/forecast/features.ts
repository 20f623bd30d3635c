import { AllocatorError } from '../core/errors.ts';
import { NAME_CHARS_MAX, PARAMS_MAX, type Params, type ParamValue, TEXT_CHARS_MAX } from '../core/request.ts';

/** Numeric coordinates that belong to one parameter each; more numbers than this share the last two. */
const NUMERIC_OWN = 14;
export const NUMERIC = 16;
/** Categories of a workload that have a coordinate each; more share 4 coordinates as one of 16 sign patterns. */
const CATEGORY_OWN = 20;
const CATEGORY_SHARED = 4;
const CATEGORY_AT = NUMERIC;
const SHARED_AT = CATEGORY_AT + CATEGORY_OWN;
/** "This parameter was not given", hashed by name: two parameters that collide look alike only when both are absent. */
const MISSING_AT = SHARED_AT + CATEGORY_SHARED;
const MISSING = 7;
/** "Something here was never seen": an unknown parameter or category, so that the forecast widens. */
const NOVEL_AT = MISSING_AT + MISSING;
export const DIMS = NOVEL_AT + 1;
/** Words of a text that count. A parameter is a phrase, not a document. */
const WORDS_MAX = 32;
/** Length of a text's word coordinates: texts differ less than categories do. */
const TEXT_WEIGHT = 0.5;
const HOUR_MS = 3_600_000;

/** What a workload's schema knows of one parameter. */
type Field =
  | { readonly kind: 'number' | 'size'; readonly at: number }
  | { readonly kind: 'time'; readonly sine: number; readonly cosine: number }
  | { readonly kind: 'category'; readonly values: Set<string> }
  | { readonly kind: 'text'; readonly at: number };

/** FNV-1a over UTF-16 units. Source: Fowler, Noll, Vo, "FNV hash", 32 bits. */
export function hash32(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

/** sign(x) log(1 + |x|): a power law of x becomes a straight line, and zero and negatives keep a place. */
export function signedLog(x: number): number {
  return Math.sign(x) * Math.log1p(Math.abs(x));
}

function refuse(name: string, rule: string): never {
  throw new AllocatorError('INVALID_REQUEST', `Parameter "${name.slice(0, NAME_CHARS_MAX)}" ${rule}.`, {
    parameter: name.slice(0, NAME_CHARS_MAX),
  });
}

function checkParam(name: string, param: ParamValue): void {
  if (name.length === 0 || name.length > NAME_CHARS_MAX) {
    refuse(name, `must have a name of 1 to ${NAME_CHARS_MAX} characters`);
  }
  if (param.kind === 'category' || param.kind === 'text') {
    if (typeof param.value !== 'string' || param.value.length > TEXT_CHARS_MAX) {
      refuse(name, `must be a text of at most ${TEXT_CHARS_MAX} characters`);
    }
  } else if (!Number.isFinite(param.value)) {
    refuse(name, 'must be a finite number');
  } else if (param.kind === 'size' && param.value < 0) {
    refuse(name, 'is a size and must not be negative');
  }
}

/**
 * Refuse parameters no forecast can be made from.
 * @throws {AllocatorError} INVALID_REQUEST
 */
export function checkParams(params: Params): void {
  let count = 0;
  for (const name in params) {
    count += 1;
    if (count > PARAMS_MAX) {
      throw new AllocatorError('INVALID_REQUEST', `A request has at most ${PARAMS_MAX} parameters.`, {
        most: PARAMS_MAX,
      });
    }
    checkParam(name, params[name] as ParamValue);
  }
}

/**
 * Coordinates of one workload's requests: places are given to parameters and categories in the order they are
 * learned, so the workload's own first ones never collide. `admit` is for learning, `encode` serves both.
 */
export class ParamSchema {
  readonly #fields = new Map<string, Field>();
  #numeric = 0;
  readonly #categories = new Map<string, number>();

  /**
   * Take a learned request's parameters into the schema.
   * @returns coordinates that earlier runs must now carry as 1: they did not have these parameters
   */
  admit(params: Params): number[] {
    const missing: number[] = [];
    for (const name of Object.keys(params).sort()) {
      const param = params[name] as ParamValue;
      const field = this.#fields.get(name);
      if (field === undefined) {
        if (this.#fields.size >= PARAMS_MAX) continue;
        this.#fields.set(name, this.#newField(name, param));
        missing.push(missingAt(name));
      }
      if (param.kind === 'category') this.#admitCategory(name, param.value);
    }
    return missing;
  }

  /**
   * Write a request's coordinates.
   * @param row f64[DIMS], overwritten; NaN: a number that was not given
   * @returns true when something in it was never learned
   */
  encode(params: Params, row: Float64Array): boolean {
    row.fill(Number.NaN, 0, NUMERIC);
    row.fill(0, NUMERIC);
    let novel = false;
    for (const [name, field] of this.#fields) {
      const param = params[name];
      if (param === undefined || param.kind !== field.kind) row[missingAt(name)] = 1;
      else if (!this.#encodeField(name, field, param, row)) novel = true;
    }
    for (const name in params) if (!this.#fields.has(name)) novel = true;
    if (novel) row[NOVEL_AT] = 1;
    return novel;
  }

  #newField(name: string, param: ParamValue): Field {
    switch (param.kind) {
      case 'number':
      case 'size':
      case 'text':
        return { kind: param.kind, at: this.#numericAt(name) };
      case 'time':
        return { kind: 'time', sine: this.#numericAt(name), cosine: this.#numericAt(`${name} cosine`) };
      case 'category':
        return { kind: 'category', values: new Set() };
    }
  }

  #numericAt(name: string): number {
    if (this.#numeric >= NUMERIC_OWN) return NUMERIC_OWN + (hash32(name) % (NUMERIC - NUMERIC_OWN));
    this.#numeric += 1;
    return this.#numeric - 1;
  }

  #admitCategory(name: string, value: string): void {
    const key = `${name}=${value}`;
    if (this.#categories.size < CATEGORY_OWN && !this.#categories.has(key)) {
      this.#categories.set(key, CATEGORY_AT + this.#categories.size);
    }
  }

  /** False when the value is a category never learned. */
  #encodeField(name: string, field: Field, param: ParamValue, row: Float64Array): boolean {
    if (field.kind === 'category') return this.#encodeCategory(`${name}=${String(param.value)}`, row);
    if (field.kind === 'time') {
      const angle = (2 * Math.PI * (Number(param.value) % (24 * HOUR_MS))) / (24 * HOUR_MS);
      addAt(row, field.sine, Math.sin(angle));
      addAt(row, field.cosine, Math.cos(angle));
    } else if (field.kind === 'text') {
      encodeWords(String(param.value), row);
      addAt(row, field.at, Math.log1p(String(param.value).length));
    } else {
      addAt(row, field.at, signedLog(Number(param.value)));
    }
    return true;
  }

  #encodeCategory(key: string, row: Float64Array): boolean {
    const at = this.#categories.get(key);
    if (at !== undefined) row[at] = 1;
    else if (this.#categories.size < CATEGORY_OWN) return false;
    else addPattern(row, hash32(key), 1 / Math.sqrt(CATEGORY_SHARED));
    return true;
  }
}

function missingAt(name: string): number {
  return MISSING_AT + (hash32(name) % MISSING);
}

/** Add to a numeric coordinate; NaN there means nothing was added yet. */
function addAt(row: Float64Array, at: number, value: number): void {
  const held = row[at] as number;
  row[at] = Number.isNaN(held) ? value : held + value;
}

/** Add one of 16 sign patterns to the shared coordinates. */
function addPattern(row: Float64Array, hash: number, weight: number): void {
  for (let i = 0; i < CATEGORY_SHARED; i += 1) {
    const held = row[SHARED_AT + i] as number;
    row[SHARED_AT + i] = held + ((hash >>> (8 + i)) & 1 ? weight : -weight);
  }
}

function encodeWords(text: string, row: Float64Array): void {
  const words = text
    .toLowerCase()
    .split(/[^\p{L}\p{N}]+/u, WORDS_MAX)
    .filter(Boolean);
  const weight = TEXT_WEIGHT / Math.sqrt(CATEGORY_SHARED * Math.max(1, words.length));
  for (const word of words) addPattern(row, hash32(word), weight);
}
