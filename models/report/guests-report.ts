import { paretoPoints } from '../backtest/guests/frontier.ts';
import {
  byPolicy,
  type GuestRow,
  gapClosed,
  percentText,
  shownCells,
} from '../backtest/guests/guest-rows.ts';
import { GUEST_RESOURCES, type GuestResource } from '../backtest/guests/guest-series.ts';
import type { Markup } from './markup.ts';
import { columns, dataTable, legend, pageText, section } from './page.ts';
import { type Mark, type Point, plot, type Tone } from './plot.ts';

/** What a backtest of guests found, for its report. */
export interface GuestsStory {
  /** The set that was judged, and the one that parameters were fixed on. */
  readonly dataset: string;
  readonly fit: string;
  readonly guests: number;
  readonly lead: number;
  readonly targets: readonly number[];
  readonly rows: readonly GuestRow[];
  /** ISO 8601. */
  readonly madeAt: string;
}

/** Policies with a line of their own; the others are single points or far away. */
const LINES: readonly { readonly policy: string; readonly tone: Tone }[] = [
  { policy: 'window-max', tone: 'b' },
  { policy: 'last-value', tone: 'c' },
  { policy: 'seasonal-naive', tone: 'quiet' },
];
/** Violations that are drawn: rarer ones are a handful of bins. */
const DRAWN_FROM = 1e-4;
const DRAWN_TO = 0.3;

/** The report of a backtest of guests: one HTML document that needs nothing beside it. */
export function guestsReport(story: GuestsStory): string {
  const { dataset, fit, guests, lead, rows, madeAt } = story;
  const [one, two, three, four] = GUEST_RESOURCES.map((resource) => frontierSection(story, resource));
  return pageText({
    title: `Allocation policies on ${dataset}`,
    subtitle: `${guests} guests in bins of five minutes · decided ${lead} ahead · our parameters fixed on ${fit}`,
    madeAt,
    tiles: rows
      .filter(({ target }) => target !== null && target === story.targets[0])
      .map((row) => ({
        label: `${row.resource}: gap closed`,
        value: percentText(gapClosed(row, rows).share),
        note: `at ${percentText(row.score.violation)} of bins short`,
      })),
    sections: [
      columns(one as Markup, two as Markup),
      columns(three as Markup, four as Markup),
      tableSection(story),
    ],
  });
}

function frontierSection({ rows }: GuestsStory, resource: GuestResource): Markup {
  const policies = byPolicy(rows, resource);
  const pointsOf = (policy: string): Point[] =>
    paretoPoints((policies.get(policy) ?? []).map(({ score }) => score))
      .filter(({ violation }) => violation >= DRAWN_FROM && violation <= DRAWN_TO)
      .map(({ violation, slack }) => ({ x: Math.log10(violation), y: slack }));
  const lines = LINES.map(({ policy, tone }) => ({ tone, label: policy, points: pointsOf(policy) }));
  const own = { tone: 'a' as const, label: 'foreshade', points: pointsOf('foreshade') };
  const least = policies.get('oracle')?.[0]?.score.slack ?? Number.NaN;
  const ends = [Math.log10(DRAWN_FROM), Math.log10(DRAWN_TO)] as const;
  const oracle = {
    tone: 'ink' as const,
    label: 'oracle',
    points: ends.map((x) => ({ x, y: least })),
    dashed: true,
  };
  const swept = new Set(['foreshade', 'oracle', ...LINES.map(({ policy }) => policy)]);
  const singles = [...policies.keys()]
    .filter((policy) => !swept.has(policy))
    .map(
      (policy): Mark => ({ kind: 'line', tone: 'ink', label: policy, points: pointsOf(policy), dots: true }),
    );
  return section(
    resource,
    'Slack that a policy leaves at each share of bins in which it falls short; lower is better. Its best settings only. Dots are policies with their makers’ constants.',
    legend([own, ...lines, oracle]),
    plot({
      description: `Slack against violation of each policy, for ${resource}`,
      xTitle: 'bins short, powers of ten',
      yTitle: 'slack',
      x: ends,
      fromZero: true,
      xText: (x) => `${percentText(10 ** x)} short`,
      marks: [
        { kind: 'line', ...oracle },
        ...lines.map((line): Mark => ({ kind: 'line', ...line })),
        ...singles,
        { kind: 'line', ...own, dots: true },
      ],
    }),
  );
}

function tableSection({ rows, targets }: GuestsStory): Markup {
  const heads = [
    'target',
    'bins short',
    'volume short',
    'slack',
    'p95 of guests',
    'changes a day',
    'gap closed',
  ];
  return section(
    'Scores',
    'Of a policy with many settings those nearest to each target. The gap is that from the best other policy to the oracle, at the violation that came about.',
    dataTable(
      [
        { head: 'resource' },
        { head: 'policy' },
        ...heads.map((head) => ({ head, numeric: true })),
        { head: 'setting' },
      ],
      shownCells(rows, targets),
    ),
  );
}
