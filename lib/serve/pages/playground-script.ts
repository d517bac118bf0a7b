/** What the page at / runs. */
export const playgroundScript = String.raw`
const form = element('form');
const message = element('message');
let running;

async function loadModels() {
  try {
    const { data } = await (await ask('/v1/models')).json();
    const wanted = new URLSearchParams(location.search).getAll('model');
    for (const [place, id] of ['a', 'b'].entries()) {
      const select = element(id);
      const before = select.value || wanted[place] || (place === 0 ? data[0]?.id : '');
      const options = data.map((model) => {
        const step = model.step === null || model.id.includes('@') ? '' : ' (step ' + model.step + ')';
        return make('option', { value: model.id }, model.id + step);
      });
      if (id === 'b') options.unshift(make('option', { value: '' }, 'none'));
      select.replaceChildren(...options);
      select.value = before;
      if (select.selectedIndex < 0) select.selectedIndex = 0;
    }
    show(message, data.length === 0 ? 'No models found.' : '');
  } catch (error) {
    show(message, error.message, true);
  }
}

function parameters() {
  const body = { prompt: element('prompt').value, stream: true, stream_options: { include_usage: true } };
  for (const name of ['max_tokens', 'temperature', 'top_p', 'top_k', 'seed']) {
    const { value } = element(name);
    if (value !== '') body[name] = Number(value);
  }
  const stop = element('stop').value.replaceAll('\\n', '\n');
  if (stop !== '') body.stop = [stop];
  return body;
}

/** Writes what a model generates into a section of its own, as it comes. */
async function generate(model, body, signal) {
  const title = make('h2', {}, model);
  const facts = make('p', { class: 'message' }, 'waiting');
  const text = make('span', { class: 'text' });
  element('outputs').append(make('section', {}, title, facts, make('pre', {}, make('span', { class: 'prompt' }, body.prompt), text)));
  const began = performance.now();
  let first, reason, tokens, step;
  try {
    const response = await ask('/v1/completions', { body: { ...body, model }, signal });
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      first ??= performance.now();
      step = event.system_fingerprint.replace('torchbind-step-', 'step ');
      const [choice] = event.choices;
      if (choice) text.append(choice.text);
      reason = choice?.finish_reason ?? reason;
      tokens = event.usage?.completion_tokens ?? tokens;
      if (choice) show(facts, step + ', writing');
    }
    const seconds = (performance.now() - first) / 1000;
    // A text that comes at once has no speed.
    const speed = tokens > 1 && seconds > 0.1 ? ', ' + Math.round((tokens - 1) / seconds) + ' tokens/s' : '';
    const wait = ', first after ' + Math.round(first - began) + ' ms';
    show(facts, step + ', ' + tokens + ' tokens' + speed + wait + ', ended by ' + reason);
  } catch (error) {
    if (signal.aborted) show(facts, 'stopped');
    else show(facts, error.message, true);
  }
}

/** The data of server-sent events. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (text + value).split('\n\n');
    text = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, '');
      if (data !== '[DONE]') yield JSON.parse(data);
    }
  }
}

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  running?.abort();
  const mine = (running = new AbortController());
  element('outputs').replaceChildren();
  show(message, '');
  element('stop-button').disabled = false;
  const models = [element('a').value, element('b').value].filter((model) => model !== '');
  const body = parameters();
  await Promise.all(models.map((model) => generate(model, body, mine.signal)));
  if (running === mine) element('stop-button').disabled = true;
});
element('stop-button').addEventListener('click', () => running?.abort());
element('prompt').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
addEventListener('key', loadModels);
element('a').addEventListener('focus', loadModels, { once: true });
loadModels();
`;
