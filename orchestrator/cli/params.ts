import { InvalidArgumentError } from 'commander';
import type { ParamValue } from '../../proto/gen/foreshade/v1/resources.ts';
import type { ParamValue as CoreParam } from '../core/request.ts';
import { wireParam } from '../service/answers.ts';
import { localTime, parseBytes, parseTimeMs, size } from './quantities.ts';

const RULE =
  'A parameter is name=value (a number, else a category), or name:kind=value with kind number, category, text, size or time.';

/** Collects `--param` options into a request's parameters. @throws {InvalidArgumentError} */
export function collectParam(
  text: string,
  collected: Readonly<Record<string, ParamValue>> = {},
): Readonly<Record<string, ParamValue>> {
  const [, name, kind, value] = /^([^=:]+)(?::([a-z]+))?=(.*)$/s.exec(text) ?? [];
  if (name === undefined || value === undefined) throw new InvalidArgumentError(RULE);
  if (Object.hasOwn(collected, name)) throw new InvalidArgumentError(`The parameter ${name} is given twice.`);
  return { ...collected, [name]: wireParam(paramOf(kind, value)) };
}

function paramOf(kind: string | undefined, value: string): CoreParam {
  const isNumber = value.trim() !== '' && Number.isFinite(Number(value));
  switch (kind) {
    case undefined:
      return isNumber ? { kind: 'number', value: Number(value) } : { kind: 'category', value };
    case 'number':
      if (!isNumber) throw new InvalidArgumentError(`"${value}" is not a finite number.`);
      return { kind, value: Number(value) };
    case 'category':
    case 'text':
      return { kind, value };
    case 'size':
      return { kind, value: parseBytes(value) };
    case 'time':
      return { kind, value: parseTimeMs(value, Date.now()) };
    default:
      throw new InvalidArgumentError(RULE);
  }
}

/** A parameter for people. */
export function paramText({ kind }: ParamValue): string {
  switch (kind?.$case) {
    case 'number':
      return String(kind.number);
    case 'category':
      return kind.category;
    case 'text':
      return JSON.stringify(kind.text);
    case 'sizeBytes':
      return size(kind.sizeBytes);
    case 'timeMs':
      return localTime(kind.timeMs);
    case undefined:
      return '-';
  }
}
