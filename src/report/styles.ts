/** The style sheet of all pages. */
export const PAGE_STYLES = `
:root {
  color-scheme: light dark;
  --background: #f6f7f9; --surface: #ffffff; --border: #d8dce2; --grid: #e6e9ee;
  --text: #1b1f24; --text-muted: #57606a; --accent: #0b5cad; --marked: #e8f2fc;
  --good: #1a6b32; --warning: #8a5300; --warning-surface: #fff6e0; --bad: #b3261e;
  --line-0: #1f6feb; --line-1: #d9480f; --line-2: #2b8a3e; --line-3: #9c36b5;
  --line-4: #0b7285; --line-5: #c2255c; --line-6: #846358; --line-7: #5c7c0a; --line-lightness: 42%;
}
@media (prefers-color-scheme: dark) {
  :root {
    --background: #0f1216; --surface: #181c22; --border: #343b45; --grid: #2a3039;
    --text: #e6e9ed; --text-muted: #a3adb9; --accent: #7ab7ff; --marked: #17304a;
    --good: #6fd58c; --warning: #f0b849; --warning-surface: #2e2511; --bad: #ff8a80;
    --line-0: #6ea8fe; --line-1: #ff922b; --line-2: #69db7c; --line-3: #da77f2;
    --line-4: #3bc9db; --line-5: #f783ac; --line-6: #c9a99c; --line-7: #a9d14b; --line-lightness: 66%;
  }
}
*, *::before, *::after { box-sizing: border-box; }
body { margin: 0; background: var(--background); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main, footer { max-width: 80rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
footer { color: var(--text-muted); font-size: 0.85rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5rem 0; }
h2 { font-size: 1.25rem; margin: 2rem 0 0.5rem; }
h3 { font-size: 1rem; margin: 0; }
p { margin: 0.35rem 0; }
a { color: var(--accent); }
.muted, .reading { color: var(--text-muted); }
.reading { font-size: 0.875rem; }
bdi { unicode-bidi: isolate; }

#connection { position: fixed; z-index: 1; bottom: 0; right: 0; margin: 0; padding: 0.1rem 0.7rem; font-size: 0.85rem; color: var(--text-muted); background: var(--surface); border: 1px solid var(--border); border-width: 1px 0 0 1px; border-start-start-radius: 0.5rem; }
#connection[data-state="open"] { color: var(--good); }
#connection:is([data-state="lost"], [data-state="refused"]) { color: var(--bad); }

.status { display: inline-block; padding: 0 0.5em; border: 1px solid; border-radius: 1em; font-size: 0.85rem; white-space: nowrap; }
.status.done { color: var(--good); }
.status.running, .status.pending, .status.paused { color: var(--accent); }
.status.stopped, .status.interrupted { color: var(--warning); }
.status.failed { color: var(--bad); }

.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 0.75rem; padding: 0; margin: 1rem 0; }
.cards div { background: var(--surface); border: 1px solid var(--border); border-radius: 0.5rem; padding: 0.6rem 0.8rem; }
.cards .wide { grid-column: span 2; }
.cards .wide dd { font-size: 1.05rem; }
.cards dt { color: var(--text-muted); font-size: 0.85rem; }
.cards dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.cards small { display: block; color: var(--text-muted); font-size: 0.8rem; }

.warning { background: var(--warning-surface); border-left: 4px solid var(--warning); border-radius: 0.25rem; padding: 0.5rem 0.9rem; margin: 0.6rem 0; }
.warning.error { border-color: var(--bad); }

.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
.chart { min-width: 0; margin: 0; padding: 0.8rem; background: var(--surface); border: 1px solid var(--border); border-radius: 0.5rem; display: flex; flex-direction: column; }
.chart figcaption { flex: 1 0 auto; margin-bottom: 0.5rem; }
.plot { height: 14rem; overflow: hidden; }
.plot.tall { height: min(28rem, 70vh); }
.u-select { background: color-mix(in srgb, var(--accent) 18%, transparent); }
.u-hz .u-cursor-x, .u-hz .u-cursor-y { border-color: var(--text-muted); }
.legend { display: flex; flex-wrap: wrap; gap: 0.25rem; margin-top: 0.5rem; }
.legend.tall { position: relative; max-height: 14rem; overflow-y: auto; }
.legend button { font: inherit; font-size: 0.85rem; line-height: 1.3; min-height: 1.75rem; max-width: 100%; padding: 0.15rem 0.5rem; color: var(--text); background: none; border: 1px solid var(--border); border-radius: 0.4rem; cursor: pointer; text-align: start; }
.legend button:hover, .legend button.pointed { border-color: var(--text-muted); background: var(--marked); }
.legend button[aria-pressed="false"] { color: var(--text-muted); text-decoration: line-through; }
.legend button[aria-pressed="false"] .swatch { visibility: hidden; }
.swatch { display: inline-block; width: 1.4em; margin-inline-end: 0.4em; vertical-align: middle; border-top: 3px solid; }
.swatch.dashed { border-top-style: dashed; }
.name { unicode-bidi: isolate; }
.value { margin-inline-start: 0.5em; color: var(--text-muted); font-variant-numeric: tabular-nums; }
.choice { display: block; margin-bottom: 0.5rem; }
input[type="range"] { accent-color: var(--accent); vertical-align: middle; }
select { font: inherit; max-width: 100%; padding: 0.2rem 0.4rem; color: var(--text); background: var(--surface); border: 1px solid var(--border); border-radius: 0.4rem; }

.scrolling { overflow-x: auto; background: var(--surface); border: 1px solid var(--border); border-radius: 0.5rem; margin: 0.6rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; overflow-wrap: normal; }
.scrolling > table { min-width: 100%; }
th, td { padding: 0.35rem 0.7rem; text-align: start; vertical-align: top; border-bottom: 1px solid var(--grid); max-width: 22rem; overflow-wrap: anywhere; unicode-bidi: isolate; }
thead th { color: var(--text-muted); font-weight: 600; vertical-align: bottom; overflow-wrap: normal; }
tbody th { font-weight: 600; min-width: 6rem; overflow-wrap: break-word; }
tbody tr:last-child > * { border-bottom: 0; }
.numeric { text-align: end; font-variant-numeric: tabular-nums; }
td.numeric { white-space: nowrap; }
tr.marked > * { background: var(--marked); }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; text-align: inherit; }
th button:hover { text-decoration: underline; }
th[aria-sort="ascending"] button::after { content: " \\2191"; }
th[aria-sort="descending"] button::after { content: " \\2193"; }
.best { color: var(--good); font-weight: 600; white-space: nowrap; }

.heat td { text-align: center; min-width: 5rem; font-variant-numeric: tabular-nums; }
.heat small { display: block; }
.heat-0 { background: #f7fbff; color: #14181d; } .heat-1 { background: #deebf7; color: #14181d; }
.heat-2 { background: #c6dbef; color: #14181d; } .heat-3 { background: #9ecae1; color: #14181d; }
.heat-4 { background: #7db8da; color: #14181d; } .heat-5 { background: #2f79b5; color: #ffffff; }
.heat-6 { background: #1c65a6; color: #ffffff; } .heat-7 { background: #08519c; color: #ffffff; }
.heat-8 { background: #08306b; color: #ffffff; }

.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 0.25rem 1.5rem; margin: 0.6rem 0; }
.facts div { display: flex; gap: 0.75rem; border-bottom: 1px solid var(--grid); padding: 0.2rem 0; }
.facts dt { flex: 0 0 9.5rem; color: var(--text-muted); }
.facts dd { margin: 0; min-width: 0; }

.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
.answer { background: var(--surface); border: 1px solid var(--border); border-radius: 0.5rem; padding: 0.8rem; min-width: 0; }
.text { white-space: pre-wrap; margin: 0.3rem 0 0; font: inherit; }
pre.code { white-space: pre-wrap; background: var(--surface); border: 1px solid var(--border); border-radius: 0.5rem; padding: 0.8rem; font: 0.85rem/1.45 ui-monospace, monospace; }
summary { cursor: pointer; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
@media print { .chart, .warning { break-inside: avoid; } body { background: none; } }
`;
