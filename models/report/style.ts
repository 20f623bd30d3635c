/**
 * The look of every report: light and dark by what the reader's system asks for. Tones are told apart by those who see
 * few colours too, and no text wears them.
 */
export const STYLE = `
:root {
  --page: #f5f4f1; --card: #fdfdfc; --edge: #e3e1dc; --ink: #171715; --soft: #5d5b56; --faint: #8b8982;
  --grid: #ebe9e5; --axis: #b9b6ae; --a: #2468c8; --b: #d9591f; --c: #12855f; --quiet: #9b988f; --band: #2468c8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131312; --card: #1c1c1a; --edge: #32312e; --ink: #f2f1ed; --soft: #b5b3ab; --faint: #85837b;
    --grid: #2a2a27; --axis: #55534d; --a: #5c9df2; --b: #f0824f; --c: #3dba8c; --quiet: #7d7b73; --band: #5c9df2;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 32px; }
h1 { margin: 0; font-size: 28px; line-height: 1.2; letter-spacing: -0.015em; font-weight: 650; overflow-wrap: anywhere; }
h2 { margin: 0; font-size: 16px; font-weight: 650; letter-spacing: -0.005em; }
h3 { margin: 0 0 2px; font-size: 13px; font-weight: 600; overflow-wrap: anywhere; }
p { margin: 0; }
.subtitle { margin-top: 6px; color: var(--soft); overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px; margin: 24px 0 12px; }
.tile, section { background: var(--card); border: 1px solid var(--edge); border-radius: 10px; }
.tile { padding: 14px 16px; display: flex; flex-direction: column; }
.tile .label { color: var(--soft); font-size: 13px; }
.tile .value { font-size: 26px; font-weight: 600; letter-spacing: -0.02em; line-height: 1.25; }
.tile .note { color: var(--faint); font-size: 12.5px; }
section { padding: 20px 22px; margin-top: 12px; min-width: 0; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 12px; margin-top: 12px; }
.columns section { margin-top: 0; }
.how { margin: 2px 0 14px; color: var(--soft); font-size: 13px; max-width: 78ch; }
.fans { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(400px, 100%), 1fr)); gap: 20px 28px; }
.fans p { color: var(--faint); font-size: 12.5px; margin-bottom: 4px; }
svg.plot { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font: 11.5px system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; fill: var(--soft); font-variant-numeric: tabular-nums; }
svg text.title { fill: var(--faint); }
.grid { stroke: var(--grid); stroke-width: 1; shape-rendering: crispEdges; }
.axis { stroke: var(--axis); stroke-width: 1; shape-rendering: crispEdges; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.line.thin { stroke-width: 1.25; }
.dashed { stroke-dasharray: 4 4; }
.line.a { stroke: var(--a); } .line.b { stroke: var(--b); } .line.c { stroke: var(--c); } .line.quiet { stroke: var(--quiet); } .line.ink { stroke: var(--ink); }
.dot { stroke: var(--card); stroke-width: 2; }
.dot.a { fill: var(--a); } .dot.b { fill: var(--b); } .dot.c { fill: var(--c); } .dot.quiet { fill: var(--quiet); } .dot.ink { fill: var(--ink); }
.hit { fill: transparent; stroke: none; }
.band { fill: var(--band); stroke: none; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 10px; padding: 0; font-size: 13px; color: var(--soft); }
.legend li { display: flex; align-items: center; gap: 7px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th { color: var(--soft); font-weight: 500; font-size: 12.5px; text-align: left; border-bottom: 1px solid var(--axis); vertical-align: bottom; }
td { border-bottom: 1px solid var(--grid); }
tr:last-child td { border-bottom: 0; }
th, td { padding: 6px 14px 6px 0; }
th:last-child, td:last-child { padding-right: 0; }
.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.text { overflow-wrap: anywhere; min-width: 9ch; }
.share { display: inline-flex; align-items: center; gap: 10px; }
.share .bar { width: 120px; height: 8px; background: var(--grid); border-radius: 4px; overflow: hidden; display: inline-block; }
.share .bar span { display: block; height: 100%; background: var(--a); border-radius: 4px; }
footer { margin-top: 24px; color: var(--faint); font-size: 12.5px; }
@media print { body { background: none; } main { padding: 0; max-width: none; } section, .tile { break-inside: avoid; } }
`;
