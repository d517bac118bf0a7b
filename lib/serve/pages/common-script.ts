/** What the scripts of both pages begin with. */
export const commonScript = String.raw`'use strict';
const element = (id) => document.getElementById(id);
const keyField = element('key');
try {
  keyField.value = sessionStorage.getItem('torchbind-key') ?? '';
} catch {
  // A browser that keeps nothing asks again.
}
keyField.addEventListener('change', () => {
  try {
    sessionStorage.setItem('torchbind-key', keyField.value);
  } catch {}
  dispatchEvent(new Event('key'));
});

/** Asks the server; an answer that is an error is thrown. */
async function ask(path, { body, signal } = {}) {
  const headers = {};
  if (keyField.value !== '') headers.authorization = 'Bearer ' + keyField.value;
  if (body !== undefined) headers['content-type'] = 'application/json';
  const response = await fetch(path, {
    method: body === undefined ? 'GET' : 'POST',
    headers,
    signal,
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  throw new Error(error?.message ?? 'The server answered with status ' + response.status + '.');
}

function show(node, text, isBad = false) {
  node.textContent = text;
  node.classList.toggle('bad', isBad);
}

/** A new element with texts and elements in it. */
function make(name, attributes, ...content) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in node && typeof value !== 'string') node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...content);
  return node;
}
`;
