import { AllocatorError } from '../core/errors.ts';

/** One field of a request and the rule it breaks. */
export interface FieldViolation {
  /** Path in the message, snake_case: `params["rows"]`, `ttl_ms`. */
  readonly field: string;
  readonly rule: string;
}

/** Violations reported of one request; a client that broke more mends these first. */
const VIOLATIONS_MAX = 10;
/** Longest part of the client's own words repeated in an error. */
const QUOTE_CHARS_MAX = 64;

/** A request that breaks rules of the contract, all of them named. */
export class ValidationError extends AllocatorError {
  readonly violations: readonly FieldViolation[];

  /** @param violations at least one */
  constructor(violations: readonly FieldViolation[]) {
    const reported = violations.slice(0, VIOLATIONS_MAX);
    const unreported = violations.length - reported.length;
    const sentences = reported.map(({ field, rule }) => `${field} ${rule}`);
    if (unreported > 0) sentences.push(`${unreported} more`);
    super('INVALID_REQUEST', `${sentences.join('; ')}.`, {
      field: reported[0]?.field ?? '',
      rule: reported[0]?.rule ?? '',
    });
    this.violations = reported;
  }
}

/** Collects what is wrong with one message, so that everything is reported together. */
export class Violations {
  readonly #found: FieldViolation[];
  readonly #prefix: string;

  private constructor(found: FieldViolation[], prefix: string) {
    this.#found = found;
    this.#prefix = prefix;
  }

  static ofMessage(): Violations {
    return new Violations([], '');
  }

  /** For a message inside this one, at `path`; what it adds is settled here. */
  within(path: string): Violations {
    return new Violations(this.#found, `${this.#prefix}${path}.`);
  }

  add(field: string, rule: string): void {
    this.#found.push({ field: this.#prefix + field, rule });
  }

  /** @throws {ValidationError} when anything was added */
  settle(): void {
    if (this.#found.length > 0) throw new ValidationError(this.#found);
  }
}

/** The client's own words, quoted and cut to a bounded length. */
export function quoted(text: string): string {
  return text.length > QUOTE_CHARS_MAX
    ? `${JSON.stringify(text.slice(0, QUOTE_CHARS_MAX))}…`
    : JSON.stringify(text);
}
