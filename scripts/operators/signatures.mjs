// TypeScript signatures of operators.

const TS_TYPES = {
  Tensor: 'Tensor',
  int: 'number',
  SymInt: 'number',
  float: 'number',
  bool: 'boolean',
  SymBool: 'boolean',
  Scalar: 'Scalar',
  ScalarType: 'DType',
  Layout: 'Layout',
  MemoryFormat: 'MemoryFormat',
  Device: 'DeviceName',
  Generator: 'Generator',
  Storage: 'Tensor',
  QScheme: 'number',
};

const REDUCE = ['sum', 'prod', 'mean', 'amax', 'amin'];

/** The values of arguments of type `str`: by operator and argument, else by argument. The schemas do not have them. */
const STRINGS = {
  approximate: ['none', 'tanh'],
  interpolation: ['linear', 'lower', 'higher', 'midpoint', 'nearest'],
  norm: ['forward', 'backward', 'ortho'],
  ord: ['fro', 'nuc'],
  padding: ['valid', 'same'],
  padding_side: ['right', 'left'],
  reduce: REDUCE,
  rounding_mode: ['trunc', 'floor'],
  side: ['left', 'right'],
  UPLO: ['L', 'U'],
  'linalg_cond.p': ['fro', 'nuc'],
  'linalg_lstsq.driver': ['gels', 'gelsy', 'gelsd', 'gelss'],
  'linalg_qr.mode': ['reduced', 'complete', 'r'],
  'linalg_svd.driver': ['gesvd', 'gesvdj', 'gesvda'],
  'linalg_svdvals.driver': ['gesvd', 'gesvdj', 'gesvda'],
  'pad.mode': ['constant', 'reflect', 'replicate', 'circular'],
  'index_reduce.reduce': REDUCE.filter((name) => name !== 'sum'),
  'scatter.reduce': ['add', 'multiply'],
  'segment_reduce.reduce': ['sum', 'prod', 'mean', 'max', 'min'],
};

/** The TypeScript of an argument: strings are unions of their values. */
function tsArgument(schema, arg) {
  const base = arg.type.replace('?', '');
  if (base !== 'str') return tsType(arg.type);
  const values = STRINGS[`${schema.name.replace(/_$/, '')}.${arg.name}`] ?? STRINGS[arg.name];
  if (values === undefined)
    throw new Error(`the values of '${arg.name}' of ${schema.declaration} are unknown: add them to STRINGS`);
  return [...values.map((value) => `'${value}'`), ...(arg.type.endsWith('?') ? ['null'] : [])].join(' | ');
}

/** `Tensor(a!)[]? x=[]` and the like as TypeScript; undefined for types that TypeScript users cannot make. */
function tsType(type) {
  const plain = type.replace(/\([a-z0-9!|*> -]+\)/gi, '');
  const optional = plain.endsWith('?');
  const base = optional ? plain.slice(0, -1) : plain;
  const list = /^(.*?)\[(\d*)\]$/.exec(base);
  let text;
  if (list === null) {
    text = TS_TYPES[base];
  } else {
    const element = tsType(list[1]);
    if (element === undefined) return undefined;
    const item = element.includes('|') ? `(${element})` : element;
    text = list[2] === '' ? `readonly ${item}[]` : `readonly ${item}[] | ${element}`;
  }
  if (text === undefined) return undefined;
  return optional ? `${text} | null` : text;
}

const RESERVED = new Set('var with default new delete in function this class return case switch'.split(' '));
export const reserved = (name) => (RESERVED.has(name) ? `${name}_` : name);

/** Interfaces of the named tuples that operators return, by name. */
export class TupleTypes {
  interfaces = new Map();

  nameFor(returns, types) {
    const words = returns.map(
      (r, i) => r.name[0].toUpperCase() + r.name.slice(1) + (types[i].endsWith('[]') ? 'List' : ''),
    );
    const name = words.join('');
    const fields = returns.map((r, i) => `readonly ${r.name}: ${types[i]}`).join('; ');
    const text = `export interface ${name} extends NamedTuple<[${types.join(', ')}], { ${fields} }> {}`;
    if ((this.interfaces.get(name) ?? text) !== text) throw new Error(`two named tuples are called ${name}`);
    this.interfaces.set(name, text);
    return name;
  }
}

/** What an operator gives back; undefined where JavaScript has no form of it. */
function returnType(schema, asMethod, tuples) {
  const types = schema.returns.map((r) => tsType(r.type)?.replace(/^readonly /, ''));
  if (types.includes(undefined)) return undefined;
  if (types.length === 0) return 'void';
  if (types.length === 1) return asMethod && writesItself(schema) ? 'this' : types[0];
  if (schema.returns.every((r) => r.name !== '')) return tuples.nameFor(schema.returns, types);
  return `[${types.join(', ')}]`;
}

/** `add_` and the like return the tensor that they are called on. */
function writesItself(schema) {
  const self = schema.args[0];
  return self.type.includes('!') && schema.returns[0].type === self.type && /^Tensor\(/.test(self.type);
}

/** `out` in the options of a function, from the overload that writes into given tensors. */
function outField(variant) {
  const outs = variant?.args.filter((arg) => arg.isOut) ?? [];
  if (outs.length === 0) return [];
  const types = outs.map((arg) => tsType(arg.type));
  return [`out?: ${types.length === 1 ? types[0] : `readonly [${types.join(', ')}]`}`];
}

/** How many of the required arguments are tensors at the front, which callers do not name: `softmax(x, { dim: -1 })`. */
function leadingTensors(required) {
  const count = required.findIndex((arg) => arg.ts !== 'Tensor');
  return count < 0 ? required.length : count;
}

/**
 * The signatures of one overload: what is required, then any defaulted or keyword argument in trailing options, or the
 * defaulted ones by position, all of them or the first few with the rest in options; and all but the tensors at the front by name.
 */
export function signatures(schema, { asMethod, outVariant, numberFirst, tuples }) {
  const args = asMethod ? schema.args.slice(1) : schema.args;
  const typed = args.map((arg) => ({ ...arg, ts: tsArgument(schema, arg) }));
  const result = returnType(schema, asMethod, tuples);
  if (result === undefined || typed.some((arg) => arg.ts === undefined)) return [];
  if (numberFirst) typed[0].ts = 'Scalar';
  const required = typed.filter((arg) => !arg.kwargOnly && !arg.hasDefault);
  const optional = typed.filter((arg) => !arg.kwargOnly && arg.hasDefault);
  const keywords = typed.filter((arg) => arg.kwargOnly);
  // `Generator? generator` without a default is optional to a caller all the same.
  const must = keywords.filter((arg) => !arg.hasDefault && !arg.type.endsWith('?'));
  const mark = must.length > 0 ? '' : '?';
  const field = (arg) => `${arg.key}${must.includes(arg) || required.includes(arg) ? '' : '?'}: ${arg.ts}`;
  const options = (fields, isOptional = must.length === 0) => {
    const all = [...fields.map(field), ...outField(outVariant)];
    return all.length === 0 ? [] : [`options${isOptional ? '?' : ''}: { ${all.join('; ')} }`];
  };
  const param = (arg) => `${reserved(arg.key)}: ${arg.ts}`;
  const forms = [[...required.map(param), ...options([...optional, ...keywords])]];
  if (optional.length > 0) {
    const positional = optional.map((arg) => `${reserved(arg.key)}${mark}: ${arg.ts}`);
    forms.push([...required.map(param), ...positional, ...options(keywords)]);
  }
  // Options after some of the optional arguments: `conv2d(x, w, b, { stride: 2 })`.
  for (let count = 1; count < optional.length; count++) {
    const positional = optional.slice(0, count).map((arg) => `${reserved(arg.key)}: ${arg.ts} | undefined`);
    forms.push([...required.map(param), ...positional, ...options([...optional.slice(count), ...keywords], false)]);
  }
  const sizes = required.length === 1 && optional.length === 0 && /^(Sym)?[iI]nt\[\]$/.test(required[0].type);
  if (asMethod && sizes && must.length === 0) forms.push([`...${reserved(required[0].key)}: number[]`]);
  const unnamed = leadingTensors(required);
  const isOperand = (arg) => arg.ts === 'Tensor' || (arg.ts === 'Scalar' && !/value/i.test(arg.key)); // as in `add(1)`
  if (!required.every(isOperand)) {
    const named = [...required.slice(unnamed), ...optional, ...keywords];
    forms.push([...required.slice(0, unnamed).map(param), ...options(named, false)]);
  }
  return [...new Set(forms.map((form) => `(${form.join(', ')}): ${result}`))];
}
