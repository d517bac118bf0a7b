/** What both pages share; colours are those of `metrics.html`. */
export const siteStyle = `
:root { --line: var(--grid); --accent: #1d5fd1; --on-accent: #ffffff; --field: #f6f8fa; --bad: #b3261e; }
@media screen and (prefers-color-scheme: dark) {
  :root { --accent: #6ea8fe; --on-accent: #0d1117; --field: #1c2128; --bad: #ff8a80; }
}
:root {
  --series-1: #1d5fd1; --series-2: #c8401f; --series-3: #1a7f37; --series-4: #8250df; --series-5: #9a6700; --series-6: #0e7490;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --series-1: #6ea8fe; --series-2: #ff8a65; --series-3: #56d364; --series-4: #bc8cff; --series-5: #e3b341; --series-6: #4dd0e1;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 0 1rem 3rem; }
header { align-items: center; display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; padding: 0.75rem 0; }
header strong { font-size: 1.1rem; }
nav { display: flex; gap: 1rem; }
nav a { color: var(--faint); padding: 0.4rem 0; text-decoration: none; }
nav a[aria-current] { border-bottom: 2px solid var(--accent); color: var(--ink); }
header label { margin-left: auto; }
header input { width: 9rem; }
label { color: var(--faint); display: grid; font-size: 13px; gap: 0.2rem; min-width: 0; }
header label { align-items: center; display: flex; gap: 0.5rem; }
input, select, textarea, button {
  background: var(--field); border: 1px solid var(--line); border-radius: 6px; color: var(--ink); font: inherit;
  max-width: 100%; min-height: 2.5rem; padding: 0.4rem 0.6rem; width: 100%;
}
/* Smaller text makes a phone zoom into a field. */
@media (pointer: coarse) { input, select, textarea { font-size: 16px; } }
textarea { line-height: 1.5; min-height: 7rem; resize: vertical; }
button { cursor: pointer; width: auto; }
button.main { background: var(--accent); border-color: var(--accent); color: var(--on-accent); font-weight: 600; padding: 0.4rem 1.4rem; }
button:disabled { cursor: default; opacity: 0.5; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
form { display: grid; gap: 0.9rem; }
.options { display: grid; gap: 0.75rem; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
.models { display: grid; gap: 0.75rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); }
.row { align-items: center; display: flex; flex-wrap: wrap; gap: 0.75rem; }
.message { color: var(--faint); margin: 0; overflow-wrap: anywhere; }
.message.bad { color: var(--bad); }
.outputs { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); margin-top: 1.25rem; }
.outputs section { border: 1px solid var(--line); border-radius: 8px; min-width: 0; padding: 0.75rem 1rem; }
.outputs h2 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
.outputs pre { font: 14px/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; margin: 0.6rem 0 0; min-height: 6rem; overflow-wrap: anywhere; white-space: pre-wrap; }
.outputs .prompt { color: var(--faint); }
main.charts { margin-top: 1.5rem; }
.runs { display: grid; gap: 0.4rem; list-style: none; margin: 0 0 1rem; padding: 0; }
.runs li { align-items: center; border: 1px solid var(--line); border-radius: 8px; display: flex; flex-wrap: wrap; gap: 0.25rem 1rem; padding: 0.3rem 0.75rem; }
.runs label { align-items: center; color: var(--ink); cursor: pointer; display: flex; flex: 1 1 12rem; font-size: 14px; gap: 0.6rem; min-height: 2.5rem; overflow-wrap: anywhere; }
.runs input { accent-color: var(--accent); flex: none; height: 1.1rem; min-height: 0; width: 1.1rem; }
.runs span { color: var(--faint); font-size: 13px; font-variant-numeric: tabular-nums; }
.runs i { border-radius: 2px; flex: none; height: 4px; width: 1.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: 0.35rem 0.8rem 0.35rem 0; text-align: left; white-space: nowrap; }
th { color: var(--faint); font-size: 13px; font-weight: normal; }
td button, td a { font-size: 13px; }
td button { min-height: 2.2rem; }
td a { color: var(--accent); }
h2 { font-size: 1.1rem; margin: 1.5rem 0 0.5rem; }
.badge { border: 1px solid var(--accent); border-radius: 1rem; color: var(--accent); font-size: 12px; padding: 0 0.5rem; }
pre.compare { background: var(--field); border-radius: 8px; font-size: 12px; overflow-x: auto; padding: 0.75rem; }
/* A phone has no room for them; the buttons matter more. */
@media (max-width: 40rem) { th:nth-child(3), td:nth-child(3), th:nth-child(4), td:nth-child(4) { display: none; } }
[hidden] { display: none !important; }
`;
