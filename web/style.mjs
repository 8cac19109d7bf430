// The panels' stylesheet. Colours of text and ground are ComfyUI's own variables, so that every palette fits;
// the data's own are in colours.mjs.

import { DATA } from "./colours.mjs"

const variables = Object.entries(DATA).map(([name, colour]) => `--${name}: ${colour};`).join(" ")

export const STYLE = `
:host { display: block; box-sizing: border-box; }
.panel {
  ${variables}
  box-sizing: border-box; padding: 8px 10px; border-radius: 6px; min-width: 200px;
  background: var(--component-node-widget-background, var(--comfy-input-bg, #222));
  color: var(--component-node-foreground, var(--input-text, #ddd));
  font: 12px/1.45 system-ui, sans-serif; cursor: default; user-select: text;
}
.panel > * + * { margin-top: 6px; }
.head { font-weight: 600; overflow-wrap: anywhere; }
.figure { font-size: 14px; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.track { cursor: pointer; touch-action: none; border-radius: 4px; }
.says { font-size: 11px; min-height: 1.45em; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.rail { stroke: currentColor; stroke-width: 3; opacity: 0.35; stroke-linecap: round; }
.gone { stroke: var(--kept); stroke-width: 3; stroke-linecap: round; }
.stop { stroke: currentColor; stroke-width: 1.4; opacity: 0.75; }
.free-stop { fill: var(--reuse); stroke: none; opacity: 1; }
.knob { fill: var(--kept); stroke: currentColor; stroke-width: 1.5; }
.fold > * + * { margin-top: 6px; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 1px 10px; margin: 0; }
.facts dt { opacity: 0.85; }
.facts dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.free dt { text-align: right; font-variant-numeric: tabular-nums; opacity: 1; }
.warning, .error { display: flex; gap: 6px; overflow-wrap: anywhere; }
.warning > *, .error > * { min-width: 0; }
.warning::before, .error::before { content: "!"; flex: none; width: 15px; height: 15px; margin-top: 1px; border-radius: 50%;
  background: var(--alert); color: #000; font: bold 11px/15px system-ui, sans-serif; text-align: center; }
.error { color: color-mix(in srgb, var(--error) 55%, currentColor); }
.error::before { content: "×"; border-radius: 3px; background: var(--high); color: #fff; }
.quiet { opacity: 0.85; }
.detail { min-height: 4.4em; opacity: 0.9; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 12px; font-size: 11px; }
.legend span { display: inline-flex; align-items: center; gap: 5px; }
.legend i { width: 11px; height: 11px; border-radius: 2px; box-sizing: border-box; border: 1.5px solid transparent; }
.legend .kept { background: var(--kept); }
.legend .skipped { border-color: var(--gone); }
.legend .cost { width: 30px; background: linear-gradient(to right, var(--low), var(--high)); }
.legend .re-used { border-color: var(--reuse); background: radial-gradient(currentColor 30%, transparent 38%); }
details summary { cursor: pointer; }
details ul { margin: 4px 0 0; padding-left: 16px; }
.buttons { display: flex; flex-wrap: wrap; gap: 6px; }
button {
  font: inherit; color: inherit; background: transparent; border: 1px solid currentColor; border-radius: 4px;
  padding: 2px 9px; cursor: pointer; opacity: 0.9;
}
button:hover { opacity: 1; background: color-mix(in srgb, currentColor 14%, transparent); }
button:focus-visible, .track:focus-visible, .cell:focus-visible rect, summary:focus-visible { outline: 2px solid var(--kept); outline-offset: 1px; }
svg { display: block; overflow: visible; }
svg text { fill: currentColor; font: 10.5px system-ui, sans-serif; }
.tick { text-anchor: middle; opacity: 0.8; }
.tick.y { text-anchor: end; }
.name { opacity: 0.9; }
.cell { outline: none; cursor: help; }
.cell rect { stroke-width: 1.5; }
.kept rect { fill: color-mix(in srgb, var(--kept) calc(35% + 0.65 * var(--shade)), transparent); stroke: transparent; }
.skipped rect, .re-used rect {
  fill: color-mix(in srgb, color-mix(in srgb, var(--high) var(--shade), var(--low)) 78%, transparent); stroke: var(--gone);
}
.unmeasured rect { fill: transparent; }
.re-used rect { stroke: var(--reuse); }
.cross { stroke: currentColor; stroke-width: 1.2; opacity: 0.65; fill: none; }
.dot { fill: currentColor; opacity: 0.75; }
.cell:focus rect, .cell:hover rect { stroke: currentColor; }
.arc { fill: none; stroke: var(--reuse); stroke-width: 1.6; pointer-events: none; }
.grid { stroke: currentColor; opacity: 0.16; }
.axis { stroke: currentColor; opacity: 0.5; }
.target { stroke: currentColor; stroke-dasharray: 3 3; opacity: 0.6; }
.line { fill: none; stroke: var(--kept); stroke-width: 1.8; }
.best { fill: var(--kept); }
.chosen { stroke: currentColor; stroke-width: 1.5; }
.beam { fill: var(--beam); opacity: 0.85; }
.bar { height: 5px; border-radius: 3px; background: color-mix(in srgb, currentColor 18%, transparent); overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--kept); }
`
