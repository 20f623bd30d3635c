import { percentText } from '../backtest/guests/guest-rows.ts';
import { DIRECTIONS, type Direction } from '../backtest/packing/pack.ts';
import {
  isKept,
  type PackingPair,
  type PackingRow,
  packingCells,
  pairsOf,
} from '../backtest/packing/packing-rows.ts';
import { OVERLOAD_MAX } from '../backtest/packing/rules.ts';
import type { Markup } from './markup.ts';
import { columns, dataTable, legend, pageText, section, type Tile } from './page.ts';
import { type Mark, type Point, plot, type Tone } from './plot.ts';

/** What a backtest of packing found, for its report. */
export interface PackingStory {
  readonly dataset: string;
  readonly guests: number;
  /** A host, in words. */
  readonly host: string;
  readonly rows: readonly PackingRow[];
  /** ISO 8601. */
  readonly madeAt: string;
}

/** Rules that are drawn in colour; of the others a setting is a dot of its own. */
const TONES: Readonly<Record<string, Tone>> = { 'joint-tail': 'a', 'sum-of-p99': 'b', coach: 'c' };
/** Overload that is drawn; what has less stands at the edge, which reads as none. */
const DRAWN_FROM = 1e-5;
const DRAWN_TO = 0.1;

const HALVES: Readonly<Record<Direction, string>> = {
  forward: 'Planned on the first half',
  reverse: 'Planned on the second half',
};

/** The report of a backtest of packing: one HTML document that needs nothing beside it. */
export function packingReport(story: PackingStory): string {
  const { dataset, guests, host, rows, madeAt } = story;
  const [one, two] = DIRECTIONS.map((direction) => halfSection(rows, direction));
  return pageText({
    title: `Packing of ${dataset}`,
    subtitle: `${guests} guests on hosts of ${host} · planned on one half of the month, judged on the other`,
    madeAt,
    tiles: tilesOf(pairsOf(rows)),
    sections: [columns(one as Markup, two as Markup), tableSection(rows)],
  });
}

function tilesOf(pairs: readonly PackingPair[]): Tile[] {
  const hostsOf = ({ forward, reverse }: PackingPair): string => `${forward.hosts} / ${reverse.hosts}`;
  const fixed = pairs.filter(
    (pair) => isKept(pair) && !['joint-tail', 'clairvoyant'].includes(pair.forward.rule),
  );
  const [best] = fixed.sort((a, b) => a.forward.hosts + a.reverse.hosts - b.forward.hosts - b.reverse.hosts);
  const shown: [string, PackingPair | undefined][] = [
    ['joint tail', pairs.find(({ forward }) => forward.rule === 'joint-tail')],
    [`best fixed rule, ${best?.forward.rule} ${best?.forward.setting}`, best],
    ['clairvoyant', pairs.find(({ forward }) => forward.rule === 'clairvoyant')],
  ];
  return shown.flatMap(([label, pair]) =>
    pair === undefined
      ? []
      : {
          label: `hosts: ${label}`,
          value: hostsOf(pair),
          note: `overloaded ${percentText(pair.forward.overloadMean)} / ${percentText(pair.reverse.overloadMean)}`,
        },
  );
}

function halfSection(rows: readonly PackingRow[], direction: Direction): Markup {
  const played = rows.filter((row) => row.direction === direction);
  const lines = [...new Set(played.map(({ rule }) => rule))].map((rule) => ({
    label: rule,
    tone: TONES[rule] ?? ('ink' as const),
    points: played.filter((row) => row.rule === rule).map(pointOf),
  }));
  const most = Math.max(...played.map(({ hosts }) => hosts));
  const x = Math.log10(OVERLOAD_MAX);
  const limit = { label: `${percentText(OVERLOAD_MAX)} of the steps`, tone: 'quiet' as const, dashed: true };
  return section(
    HALVES[direction],
    'Hosts that a rule takes, and the share of their steps in which demand then passed one. Lower is better, and so is further left; what lies right of the dashed line is overloaded too often. A line is one rule at all its margins.',
    legend([...lines.filter(({ label }) => label in TONES), { label: 'others', tone: 'ink' }, limit]),
    plot({
      description: `Hosts against overload of each rule, ${HALVES[direction].toLowerCase()}`,
      xTitle: 'overloaded, powers of ten',
      yTitle: 'hosts',
      x: [Math.log10(DRAWN_FROM), Math.log10(DRAWN_TO)],
      fromZero: true,
      xText: (at) => (10 ** at <= DRAWN_FROM ? 'hardly overloaded' : `${percentText(10 ** at)} overloaded`),
      marks: [
        { kind: 'line', ...limit, points: [0, most].map((y) => ({ x, y })) },
        ...lines.map((line): Mark => ({ kind: 'line', ...line, dots: true })).reverse(),
      ],
    }),
  );
}

function pointOf({ overloadMean, hosts }: PackingRow): Point {
  return { x: Math.log10(Math.min(DRAWN_TO, Math.max(DRAWN_FROM, overloadMean))), y: hosts };
}

function tableSection(rows: readonly PackingRow[]): Markup {
  return section(
    'Scores',
    'Planned on the first half and judged on the second / the other way round.',
    dataTable(
      [
        { head: 'rule' },
        { head: 'setting' },
        ...['hosts', 'overloaded', 'worst host'].map((head) => ({ head, numeric: true })),
        { head: `${percentText(OVERLOAD_MAX)} both ways` },
      ],
      packingCells(rows),
    ),
  );
}
