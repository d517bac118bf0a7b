/**
 * How distributed checkpoints hold an optimizer. Python's `optimizer.state_dict()` numbers the parameters, and the numbers become
 * text; `get_optimizer_state_dict` has their names instead; with `flatten_optimizer_state_dict` (torchtitan) each value has a key
 * of its own, `state.<name>.exp_avg` and `param_groups.<name>.lr`.
 */
export type OptimizerForm = 'numbers' | 'names' | 'flat';

type Dict = Map<unknown, unknown>;

/** The form of an optimizer's state dict in a distributed checkpoint, or undefined if the value is not one. */
export function optimizerFormOf(value: unknown): OptimizerForm | undefined {
  if (!(value instanceof Map)) return undefined;
  const groups: unknown = value.get('param_groups');
  if (Array.isArray(groups)) {
    const params = (groups as unknown[]).flatMap((group) =>
      group instanceof Map ? (group.get('params') as unknown) : [],
    );
    return params.some((param) => typeof param === 'string') ? 'names' : 'numbers';
  }
  return [...value.keys()].some((key) => /^param_groups\../.test(String(key))) ? 'flat' : undefined;
}

/** The state dict as `optimizer.state_dict()` has it: parameters by number, with their names where the file has them. */
export function numberedOptimizer(value: unknown): unknown {
  switch (optimizerFormOf(value)) {
    case 'numbers':
      return withNumbers(value as Dict);
    case 'names':
      return fromNames(value as Dict);
    case 'flat':
      return fromNames(unflattened(value as Dict));
    default:
      return value;
  }
}

/** A numbered state dict in another form. `param_names` tells the names. */
export function optimizerAs(
  form: OptimizerForm,
  stateDict: ReadonlyMap<string, unknown>,
): ReadonlyMap<string, unknown> {
  const groups = stateDict.get('param_groups') as Dict[];
  const names = new Map(
    groups.flatMap((group) => {
      const [params, known] = [group.get('params'), group.get('param_names')] as [unknown[], string[] | undefined];
      return params.map((param, i) => [param, known?.[i]] as const);
    }),
  );
  if (form === 'numbers' || [...names.values()].includes(undefined)) return stateDict;
  const state = new Map(Array.from(stateDict.get('state') as Dict, ([index, values]) => [names.get(index)!, values]));
  const named = groups.map((group) => {
    const { params, param_names: _, ...values } = Object.fromEntries(group) as Record<string, unknown>;
    return new Map(Object.entries({ ...values, params: (params as unknown[]).map((param) => names.get(param)!) }));
  });
  return form === 'names'
    ? new Map<string, unknown>([
        ['state', state],
        ['param_groups', named],
      ])
    : flattened(state, named);
}

function withNumbers(dict: Dict): Dict {
  return new Map(dict).set(
    'state',
    renamed(dict.get('state'), (key) => (/^\d{1,15}$/.test(key) ? Number(key) : key)),
  );
}

function renamed(state: unknown, rename: (key: string) => unknown): Dict {
  // Python leaves out an empty dict.
  return new Map(
    Array.from(state instanceof Map ? (state as Dict) : [], ([key, values]) => [rename(String(key)), values]),
  );
}

/** The names in `params` become numbers, and stay as `param_names`. */
function fromNames(dict: Dict): Dict {
  const numbers = new Map<string, number>();
  const groups = (dict.get('param_groups') as unknown[]).map((group) => {
    if (!(group instanceof Map)) return group;
    const params: unknown = group.get('params');
    if (!Array.isArray(params)) return group as unknown;
    const names = params.map(String);
    for (const name of names) numbers.set(name, numbers.size);
    return new Map(group as Dict)
      .set(
        'params',
        names.map((name) => numbers.get(name)),
      )
      .set('param_names', names);
  });
  const state = renamed(dict.get('state'), (key) => numbers.get(key) ?? key);
  return new Map(dict).set('state', state).set('param_groups', groups);
}

/** Parameters with equal options are of one group, in the order in which they come. */
function unflattened(dict: Dict): Dict {
  const state = new Map<string, Dict>();
  const options = new Map<string, Dict>();
  for (const [key, value] of dict) {
    const [, part, name, field] = /^(state|param_groups)\.(.+)\.([^.]+)$/s.exec(String(key)) ?? [];
    if (name === undefined) continue;
    const target = part === 'state' ? state : options;
    if (!target.has(name)) target.set(name, new Map());
    target.get(name)!.set(field, value);
  }
  const groups = new Map<string, Dict>();
  for (const [name, values] of options) {
    values.delete('params');
    values.delete('param_names');
    const text = JSON.stringify([...values]);
    if (!groups.has(text)) groups.set(text, new Map<unknown, unknown>(values).set('params', []));
    (groups.get(text)!.get('params') as string[]).push(name);
  }
  return new Map<unknown, unknown>([
    ['state', state],
    ['param_groups', [...groups.values()]],
  ]);
}

function flattened(state: ReadonlyMap<string, unknown>, groups: readonly Dict[]): Map<string, unknown> {
  const flat = new Map<string, unknown>();
  for (const [name, values] of state)
    for (const [field, value] of values as Dict) flat.set(`state.${name}.${String(field)}`, value);
  for (const group of groups) {
    for (const name of group.get('params') as string[])
      for (const [field, value] of group)
        if (field !== 'params') flat.set(`param_groups.${name}.${String(field)}`, value);
  }
  return flat;
}
