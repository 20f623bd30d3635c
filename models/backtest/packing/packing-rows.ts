import { percentText } from '../guests/guest-rows.ts';
import type { Direction, PackingScore } from './pack.ts';
import { OVERLOAD_MAX } from './rules.ts';

/** One rule at one setting, one way round. */
export interface PackingRow extends PackingScore {
  readonly rule: string;
  readonly setting: string;
  readonly direction: Direction;
}

/** A setting both ways round. */
export interface PackingPair {
  readonly forward: PackingRow;
  readonly reverse: PackingRow;
}

/** Settings in the order of the rows; one that was not played both ways is left out. */
export function pairsOf(rows: readonly PackingRow[]): PackingPair[] {
  return rows
    .filter(({ direction }) => direction === 'forward')
    .flatMap((forward) => {
      const reverse = rows.find(
        ({ rule, setting, direction }) =>
          rule === forward.rule && setting === forward.setting && direction === 'reverse',
      );
      return reverse === undefined ? [] : { forward, reverse };
    });
}

/** Both halves were overloaded no more than a host may be. */
export function isKept({ forward, reverse }: PackingPair): boolean {
  return forward.overloadMean <= OVERLOAD_MAX && reverse.overloadMean <= OVERLOAD_MAX;
}

/** What a person is shown, a line a setting: rule, setting, hosts, overload, that of the worst host, whether it was kept. */
export function packingCells(rows: readonly PackingRow[]): string[][] {
  return pairsOf(rows).map((pair) => {
    const { forward, reverse } = pair;
    const both = (text: (row: PackingRow) => string): string => `${text(forward)} / ${text(reverse)}`;
    return [
      forward.rule,
      forward.setting,
      both(({ hosts }) => String(hosts)),
      both(({ overloadMean }) => percentText(overloadMean)),
      both(({ overloadWorst }) => percentText(overloadWorst)),
      isKept(pair) ? 'kept' : '',
    ];
  });
}
