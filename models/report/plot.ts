import { type Markup, markup } from './markup.ts';
import { ticksOf, tickText } from './ticks.ts';

/** A class of style.ts. */
export type Tone = 'a' | 'b' | 'c' | 'quiet' | 'ink';

/** What is drawn, in the order given. NaN breaks a line. */
export type Mark =
  | {
      readonly kind: 'line';
      readonly points: readonly Point[];
      readonly tone: Tone;
      readonly label: string;
      readonly dashed?: boolean;
      readonly thin?: boolean;
      readonly dots?: boolean;
    }
  | {
      readonly kind: 'band';
      readonly points: readonly { readonly x: number; readonly low: number; readonly high: number }[];
      readonly opacity: number;
    };

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface Plot {
  /** Read to those who do not see it. */
  readonly description: string;
  readonly xTitle: string;
  readonly yTitle: string;
  /** Ends of an axis; absent: what the marks need. */
  readonly x?: readonly [number, number];
  readonly y?: readonly [number, number];
  /** The axis of y begins at zero, so that heights can be compared. */
  readonly fromZero?: boolean;
  readonly marks: readonly Mark[];
  /** In units of the drawing, which is as wide as its place. */
  readonly size?: { readonly width: number; readonly height: number };
  /** Texts of x, where it is no plain number. */
  readonly xText?: (x: number) => string;
}

const SIZE = { width: 520, height: 280 };
const MARGIN = { top: 22, right: 14, bottom: 38, left: 54 };
/** Points of a line beyond which none can be pointed at. */
const TIPS_MAX = 120;

/** An inline SVG. What a point says when it is pointed at stands in its title: a page has no scripts. */
export function plot(question: Plot): Markup {
  const { description, marks, xTitle, yTitle, size = SIZE } = question;
  const { width, height } = size;
  const inner = { x0: MARGIN.left, x1: width - MARGIN.right, y0: height - MARGIN.bottom, y1: MARGIN.top };
  const xs = marks.flatMap((mark) => mark.points.map(({ x }) => x));
  const ys = marks.flatMap((mark) =>
    mark.kind === 'line'
      ? mark.points.map(({ y }) => y)
      : mark.points.flatMap(({ low, high }) => [low, high]),
  );
  if (question.fromZero) ys.push(0);
  // Epochs and steps are counted: their axis ends where they do, and has no halves.
  const isCounted = xs.every(Number.isInteger);
  const xTicks = ticksOf(
    question.x ?? rangeOf(xs),
    6,
    question.x !== undefined || isCounted,
    isCounted ? 1 : 0,
  );
  const yTicks = ticksOf(question.y ?? rangeOf(ys), 5, question.y !== undefined);
  const place = {
    x: scaleOf([xTicks.low, xTicks.high], [inner.x0, inner.x1]),
    y: scaleOf([yTicks.low, yTicks.high], [inner.y0, inner.y1]),
  };
  const xText = question.xText ?? ((x: number) => tickText(x, xTicks.step));
  const grid = yTicks.values.map((y) => {
    const at = place.y(y);
    return markup`<line class="grid" x1="${inner.x0}" x2="${inner.x1}" y1="${at}" y2="${at}"/><text x="${inner.x0 - 8}" y="${at}" dy="0.35em" text-anchor="end">${tickText(y, yTicks.step)}</text>`;
  });
  const feet = xTicks.values.map(
    (x) =>
      markup`<text x="${place.x(x)}" y="${inner.y0 + 16}" text-anchor="middle">${tickText(x, xTicks.step)}</text>`,
  );
  return markup`<svg class="plot" viewBox="0 0 ${width} ${height}" role="img" aria-label="${description}">
${grid}<line class="axis" x1="${inner.x0}" x2="${inner.x1}" y1="${inner.y0}" y2="${inner.y0}"/>${feet}
<text class="title" x="${inner.x0 - 44}" y="10">${yTitle}</text><text class="title" x="${inner.x1}" y="${height - 4}" text-anchor="end">${xTitle}</text>
${marks.map((mark) => drawn(mark, place, xText, yTicks.step))}</svg>`;
}

interface Places {
  x(value: number): number;
  y(value: number): number;
}

function drawn(mark: Mark, place: Places, xText: (x: number) => string, yStep: number): Markup {
  if (mark.kind === 'band') {
    const known = mark.points.filter(({ low, high }) => Number.isFinite(low) && Number.isFinite(high));
    const up = known.map(({ x, high }) => `${place.x(x)},${place.y(high)}`);
    const down = known.map(({ x, low }) => `${place.x(x)},${place.y(low)}`).reverse();
    return markup`<polygon class="band" fill-opacity="${mark.opacity}" points="${[...up, ...down].join(' ')}"/>`;
  }
  const { points, tone, label, dashed, thin, dots } = mark;
  const kind = `line ${tone}${dashed ? ' dashed' : ''}${thin ? ' thin' : ''}`;
  const known = points.filter(({ x, y }) => Number.isFinite(x) && Number.isFinite(y));
  const tip = ({ x, y }: Point): string => `${label}, ${xText(x)}: ${tickText(y, yStep / 100)}`;
  const circles = known.map((point) => {
    const at = [place.x(point.x), place.y(point.y)] as const;
    const dot = dots ? markup`<circle class="dot ${tone}" cx="${at[0]}" cy="${at[1]}" r="4.5"/>` : undefined;
    return markup`<g>${dot}<circle class="hit" cx="${at[0]}" cy="${at[1]}" r="9"><title>${tip(point)}</title></circle></g>`;
  });
  return markup`<path class="${kind}" d="${pathOf(points, place)}"/>${known.length <= TIPS_MAX ? circles : undefined}`;
}

function pathOf(points: readonly Point[], place: Places): string {
  let isDown = false;
  return points
    .map(({ x, y }) => {
      if (!Number.isFinite(x) || !Number.isFinite(y)) {
        isDown = false;
        return '';
      }
      const step = `${isDown ? 'L' : 'M'}${place.x(x)},${place.y(y)}`;
      isDown = true;
      return step;
    })
    .join('');
}

function scaleOf(from: readonly [number, number], to: readonly [number, number]): (value: number) => number {
  const ratio = (to[1] - to[0]) / (from[1] - from[0]);
  return (value) => Math.round((to[0] + (value - from[0]) * ratio) * 100) / 100;
}

function rangeOf(values: readonly number[]): [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return low > high ? [0, 1] : [low, high];
}
