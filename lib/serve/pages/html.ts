const fields = [
  ['max_tokens', 'Tokens', '200', 'min="1" step="1"'],
  ['temperature', 'Temperature', '0.8', 'min="0" max="2" step="0.1"'],
  ['top_p', 'Top p', '', 'min="0" max="1" step="0.05"'],
  ['top_k', 'Top k', '', 'min="1" step="1"'],
  ['seed', 'Seed', '', 'step="1"'],
] as const;

/** The page at /: prompts, options, and one or two models. */
export const playgroundHtml = (hasKeys: boolean): string =>
  page(
    hasKeys,
    'Playground',
    '/',
    `<form id="form">
<label>Prompt<textarea id="prompt" rows="5" autofocus></textarea></label>
<div class="models">
<label>Model A<select id="a"></select></label>
<label>Model B<select id="b"></select></label>
</div>
<div class="options">
${fields.map(([id, label, value, rest]) => `<label>${label}<input id="${id}" type="number" value="${value}" ${rest}></label>`).join('\n')}
<label>Stop text<input id="stop" placeholder="\\n"></label>
</div>
<div class="row"><button class="main">Generate</button><button id="stop-button" type="button" disabled>Stop</button><p id="message" class="message" role="status"></p></div>
</form>
<div id="outputs" class="outputs" aria-live="polite"></div>`,
    ['/assets/playground.js'],
  );

/** The page at /runs: curves that grow, checkpoints, rollback. */
export const runsHtml = (hasKeys: boolean): string =>
  page(
    hasKeys,
    'Runs',
    '/runs',
    `<ul id="runs" class="runs"></ul>
<p id="message" class="message" role="status"></p>
<main id="charts" class="charts"></main>
<section id="checkpoints" hidden>
<h2>Checkpoints</h2>
<div class="scroll"><table><thead><tr><th>step</th><th>validation loss</th><th>saved</th><th>size</th><th></th></tr></thead><tbody id="steps"></tbody></table></div>
<pre id="compared" class="compare" hidden></pre>
</section>`,
    ['/assets/uplot.js', '/assets/runs.js'],
  );

function page(hasKeys: boolean, title: string, path: string, body: string, scripts: readonly string[]): string {
  const link = (to: string, text: string): string =>
    `<a href="${to}"${to === path ? ' aria-current="page"' : ''}>${text}</a>`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}: torchbind</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/assets/style.css">
<header><strong>torchbind</strong><nav>${link('/', 'Playground')}${link('/runs', 'Runs')}</nav><label${hasKeys ? '' : ' hidden'}>API key<input id="key" type="password" autocomplete="off"></label></header>
${body}
${scripts.map((source) => `<script src="${source}" defer></script>`).join('\n')}
</html>
`;
}
