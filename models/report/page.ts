import { type Markup, markup, type Part } from './markup.ts';
import { STYLE } from './style.ts';

/** A report as a whole. */
export interface Page {
  readonly title: string;
  /** One line below the title. */
  readonly subtitle: string;
  /** The figures that matter most. */
  readonly tiles: readonly Tile[];
  readonly sections: readonly Markup[];
  /** ISO 8601. */
  readonly madeAt: string;
}

export interface Tile {
  readonly label: string;
  readonly value: string;
  readonly note?: string;
}

/** One HTML document that needs nothing from anywhere: its policy forbids scripts, requests and foreign styles. */
export function pageText({ title, subtitle, tiles, sections, madeAt }: Page): string {
  const body = markup`<main>
<header><h1>${title}</h1><p class="subtitle">${subtitle}</p></header>
<div class="tiles">${tiles.map(tile)}</div>
${sections}
<footer>Made by foreshade at <time datetime="${madeAt}">${madeAt.slice(0, 16).replace('T', ' ')} UTC</time>.</footer>
</main>`;
  const head = markup`<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${title}</title>`;
  // The style is fixed, and the only part of a page that is not markup.
  return `<!doctype html>\n<html lang="en">\n<head>\n${head.text}\n<style>${STYLE}</style>\n</head>\n<body>\n${body.text}\n</body>\n</html>\n`;
}

function tile({ label, value, note }: Tile): Markup {
  return markup`<div class="tile"><span class="label">${label}</span><span class="value">${value}</span>${
    note === undefined ? undefined : markup`<span class="note">${note}</span>`
  }</div>`;
}

/** A part of a page. @param note says how to read it */
export function section(title: string, note: string, ...content: readonly Part[]): Markup {
  return markup`<section><h2>${title}</h2><p class="how">${note}</p>${content}</section>\n`;
}

/** Parts side by side, where the page is wide enough. */
export function columns(...sections: readonly Markup[]): Markup {
  return markup`<div class="columns">${sections}</div>`;
}

/** What the tones of a plot mean. */
export function legend(
  entries: readonly { readonly tone: string; readonly label: string; readonly dashed?: boolean }[],
): Markup {
  const line = (tone: string, dashed = false): Markup =>
    markup`<svg class="key" width="22" height="8" aria-hidden="true"><line class="line ${tone}${dashed ? ' dashed' : ''}" x1="1" y1="4" x2="21" y2="4"/></svg>`;
  return markup`<ul class="legend">${entries.map(
    ({ tone, label, dashed }) => markup`<li>${line(tone, dashed)}${label}</li>`,
  )}</ul>`;
}

/** A column of a table: its cells are texts or markup. */
export interface Column {
  readonly head: string;
  readonly numeric?: boolean;
}

export function dataTable(heads: readonly Column[], rows: readonly (readonly Part[])[]): Markup {
  const kind = (i: number): string => (heads[i]?.numeric === true ? 'num' : 'text');
  return markup`<div class="scroll"><table><thead><tr>${heads.map(
    ({ head }, i) => markup`<th scope="col" class="${kind(i)}">${head}</th>`,
  )}</tr></thead><tbody>${rows.map(
    (row) => markup`<tr>${row.map((cell, i) => markup`<td class="${kind(i)}">${cell}</td>`)}</tr>`,
  )}</tbody></table></div>`;
}

/** A share as a bar with its text. @param share in [0, 1] */
export function shareBar(share: number, text: string): Markup {
  const percent = (Math.min(Math.max(share, 0), 1) * 100).toFixed(1);
  return markup`<span class="share"><span class="bar"><span style="width:${percent}%"></span></span>${text}</span>`;
}
