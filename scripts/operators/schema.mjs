// Declarations as libtorch prints them, taken apart.

/** Splits at top-level commas only: defaults such as `[1, 1]` and alias marks hold commas of their own. */
function splitTop(text) {
  const parts = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    if ('([{'.includes(text[i])) depth++;
    else if (')]}'.includes(text[i])) depth--;
    else if (text[i] === ',' && depth === 0) {
      parts.push(text.slice(start, i).trim());
      start = i + 1;
    }
  }
  const last = text.slice(start).trim();
  if (last !== '') parts.push(last);
  return parts;
}

function parseArgument(part, kwargOnly, declaration) {
  const match = /^(.*?) (\w+)(=(.*))?$/.exec(part);
  if (match === null) throw new Error(`cannot parse argument '${part}' of ${declaration}`);
  const [, type, name, , fallback] = match;
  const isOut = kwargOnly && type.includes('!');
  return { type, name, key: camel(name), kwargOnly, hasDefault: fallback !== undefined, isOut };
}

function parseReturn(part) {
  const match = /^(.*?)(?: (\w+))?$/.exec(part);
  return { type: match[1], name: match[2] === undefined ? '' : camel(match[2]) };
}

export function parseSchema(declaration) {
  const open = declaration.indexOf('(');
  const arrow = declaration.lastIndexOf(') -> ');
  const [qualified, overload = ''] = declaration.slice(0, open).split('.');
  const [namespace, name] = qualified.split('::');
  const parts = splitTop(declaration.slice(open + 1, arrow));
  const star = parts.indexOf('*');
  const args = parts
    .map((part, i) => (part === '*' ? null : parseArgument(part, star >= 0 && i > star, declaration)))
    .filter((arg) => arg !== null);
  const returnText = declaration.slice(arrow + 5).trim();
  const returns = splitTop(returnText.startsWith('(') ? returnText.slice(1, -1) : returnText).map(parseReturn);
  return { namespace, name, overload, declaration, args, returns };
}

export const camel = (name) => name.replace(/(?<=[a-z0-9])_+([a-z0-9])/gi, (_, letter) => letter.toUpperCase());

/** Which arguments it takes, apart from those that it writes into. */
export const shapeOf = (schema) =>
  schema.args
    .filter((arg) => !arg.isOut)
    .map((arg) => `${arg.type} ${arg.name}`)
    .join();
