/** What the page at /runs runs, after the script that draws charts. */
export const runsScript = String.raw`
const message = element('message');
const SERIES = 6;
let runs = [];
let chosen = new Set(new URLSearchParams(location.search).getAll('run'));
/** By run: its charts as last fetched, and their version. */
const fetched = new Map();
let drawn;
let shape = '';

async function loadRuns() {
  const answer = await (await ask('/api/runs')).json();
  const isNew = JSON.stringify(answer.runs) !== JSON.stringify(runs);
  runs = answer.runs;
  chosen = new Set([...chosen].filter((name) => runs.some((run) => run.name === name)));
  const newest = [...runs].sort((a, b) => (b.saved ?? '').localeCompare(a.saved ?? ''))[0];
  if (chosen.size === 0 && newest) chosen.add(newest.name);
  if (isNew) listRuns();
}

function listRuns() {
  element('runs').replaceChildren(...runs.map((run) => {
    const box = make('input', { type: 'checkbox', value: run.name, checked: chosen.has(run.name) });
    box.addEventListener('change', () => {
      if (box.checked) chosen.add(run.name);
      else chosen.delete(run.name);
      listRuns();
      element('runs').querySelector('[value="' + CSS.escape(run.name) + '"]')?.focus();
      refresh();
    });
    const mark = make('i', {});
    const place = [...chosen].indexOf(run.name);
    if (place >= 0) mark.style.background = 'var(' + colourOf(place) + ')';
    const best = run.checkpoints.find(({ kind, step }) => kind === 'step' && step === run.best);
    const facts = (run.step === null ? 'no checkpoint' : 'step ' + run.step.toLocaleString('en')) +
      (best && best.loss !== null ? ', best validation loss ' + best.loss.toFixed(4) : '');
    return make('li', {}, make('label', {}, box, mark, run.name), make('span', {}, facts));
  }));
  listCheckpoints();
}

const colourOf = (place) => '--series-' + ((place % SERIES) + 1);

function listCheckpoints() {
  const run = chosen.size === 1 ? runs.find(({ name }) => chosen.has(name)) : undefined;
  const steps = run?.checkpoints.filter(({ kind }) => kind === 'step') ?? [];
  element('checkpoints').hidden = steps.length === 0;
  element('steps').replaceChildren(...steps.map((checkpoint) => {
    const isCurrent = checkpoint.step === run.step;
    const marks = [isCurrent && 'current', checkpoint.step === run.best && 'best'].filter(Boolean);
    const actions = make('div', { class: 'row' }, make('a', { href: '/?' + pair(run.name, checkpoint.id) }, isCurrent ? 'try' : 'A/B'));
    if (!isCurrent) {
      const button = make('button', { type: 'button' }, 'roll back');
      button.addEventListener('click', () => rollBack(run, checkpoint.step));
      const compare = make('button', { type: 'button' }, 'compare');
      compare.addEventListener('click', () => compareSteps(run, checkpoint.step));
      actions.append(compare, button);
    }
    return make('tr', {},
      make('td', {}, checkpoint.step.toLocaleString('en') + ' ', ...marks.flatMap((mark) => [make('span', { class: 'badge' }, mark), ' '])),
      make('td', {}, checkpoint.loss === null ? '' : checkpoint.loss.toFixed(4)),
      make('td', {}, new Date(checkpoint.saved).toLocaleString()),
      make('td', {}, (checkpoint.size / 1e6).toFixed(1) + ' MB'),
      make('td', {}, actions));
  }));
}

const pair = (a, b) => new URLSearchParams(a === b ? [['model', a]] : [['model', a], ['model', b]]).toString();

async function rollBack(run, step) {
  const later = run.checkpoints.filter(({ kind, step: other }) => kind === 'step' && other > step).length;
  if (!confirm('Make step ' + step + ' of ' + run.name + ' the current one? This deletes ' + later + ' later checkpoints.')) return;
  try {
    await ask('/api/runs/' + encodeURIComponent(run.name) + '/rollback', { body: { step } });
    await loadRuns();
    element('compared').hidden = true;
    show(message, run.name + ' is at step ' + step + ' again.');
  } catch (error) {
    show(message, error.message, true);
  }
}

async function compareSteps(run, step) {
  const text = element('compared');
  text.hidden = false;
  text.textContent = 'comparing';
  try {
    const query = new URLSearchParams({ a: step, b: run.step });
    const answer = await (await ask('/api/runs/' + encodeURIComponent(run.name) + '/compare?' + query)).json();
    text.textContent = 'step ' + step + ' and step ' + run.step + '\n\n' + answer.text;
  } catch (error) {
    text.textContent = error.message;
  }
}

/** Looks for newer points of the runs that are shown. */
async function loadCharts() {
  let isNew = false;
  for (const name of fetched.keys()) if (!chosen.has(name)) isNew = fetched.delete(name);
  for (const name of chosen) {
    const known = fetched.get(name);
    const query = known ? '?version=' + encodeURIComponent(known.version) : '';
    const response = await ask('/api/runs/' + encodeURIComponent(name) + '/charts' + query);
    if (response.status === 204) continue;
    fetched.set(name, await response.json());
    isNew = true;
  }
  if (isNew) draw();
}

function draw() {
  const names = [...chosen].filter((name) => fetched.has(name));
  const charts = names.length === 1 ? fetched.get(names[0]).charts : compared(names);
  const now = JSON.stringify(charts.map(({ title, labels }) => [title, labels]));
  if (drawn && now === shape) return drawn.update(charts);
  drawn?.remove();
  shape = now;
  drawn = drawCharts(charts, element('charts'));
}

/** One curve for each run in each chart: of the loss that of the validation part, if there is one. */
function compared(names) {
  const titles = [...new Set(names.flatMap((name) => fetched.get(name).charts.map(({ title }) => title)))];
  return titles.map((title) => {
    const curves = [...chosen].flatMap((name, place) => {
      const chart = fetched.get(name)?.charts.find((one) => one.title === title);
      if (!chart) return [];
      const index = ['validation', 'train', 'batch'].map((label) => chart.labels.indexOf(label)).find((at) => at >= 0) ?? 0;
      const points = chart.data[0].map((step, i) => [step, chart.data[index + 1][i]]).filter(([, value]) => value !== null);
      return [{ name, colour: colourOf(place), data: [points.map(([step]) => step), points.map(([, value]) => value)] }];
    });
    const fromZero = names.some((name) => fetched.get(name).charts.find((one) => one.title === title)?.fromZero);
    return {
      title,
      fromZero,
      labels: curves.map(({ name }) => name),
      colours: curves.map(({ colour }) => colour),
      data: uPlot.join(curves.map(({ data }) => data)),
    };
  }).filter(({ data }) => data[0].length > 0);
}

let timer;
async function refresh() {
  clearTimeout(timer);
  try {
    await loadRuns();
    await loadCharts();
    if (message.classList.contains('bad') || runs.length === 0)
      show(message, runs.length === 0 ? 'No runs yet. Start the server with --checkpoint-dir, the directory of your models.' : '');
  } catch (error) {
    show(message, error.message, true);
  }
  // A page that nobody looks at asks for nothing.
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(refresh, 2000);
}
document.addEventListener('visibilitychange', () => !document.hidden && refresh());
addEventListener('key', refresh);
refresh();
`;
