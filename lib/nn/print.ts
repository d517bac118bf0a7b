/** What a module's tree is printed from. */
interface Printed {
  extraRepr(): string;
  isList(): boolean;
  namedChildren(): [string, Printed][];
  children(): Printed[];
}

/**
 * The tree of a module, as Python's `repr` prints it: its class, what `extraRepr` says, and its children under their names. Equal neighbours
 * in a list are printed once, with their count.
 */
export function formatModule(module: Printed, above: readonly Printed[] = []): string {
  // A module that contains itself would print forever. Python fails there.
  if (above.includes(module)) return `${module.constructor.name}(...)`;
  const path = [...above, module];
  const extra = module.extraRepr();
  const extraLines = extra === '' ? [] : extra.split('\n');
  const children = module.isList()
    ? listLines(module, path)
    : module.namedChildren().map(([name, child]) => `(${name}): ${indented(formatModule(child, path))}`);
  const name = module.constructor.name;
  if (children.length === 0 && extraLines.length <= 1) return `${name}(${extra})`;
  return `${name}(\n  ${[...extraLines, ...children].join('\n  ')}\n)`;
}

/** One line for each run of neighbours that print the same (PyTorch's `ModuleList.__repr__`). */
function listLines(list: Printed, path: readonly Printed[]): string[] {
  const runs: { first: number; last: number; text: string }[] = [];
  for (const [index, child] of list.children().entries()) {
    const text = formatModule(child, path);
    const run = runs.at(-1);
    if (run?.text === text) run.last = index;
    else runs.push({ first: index, last: index, text });
  }
  return runs.map(({ first, last, text }) =>
    first === last ? `(${first}): ${indented(text)}` : `(${first}-${last}): ${last - first + 1} x ${indented(text)}`,
  );
}

/** All lines but the first moved to the right by two columns. */
function indented(text: string): string {
  return text.replaceAll('\n', '\n  ');
}

/** A number as Python prints a float: `0.0`, `0.5`, `1e-05`. */
export function pythonFloat(value: number): string {
  if (value === 0) return Object.is(value, -0) ? '-0.0' : '0.0';
  const magnitude = Math.abs(value);
  if (magnitude >= 1e-4 && magnitude < 1e16) return Number.isInteger(value) ? `${value}.0` : String(value);
  const [digits, exponent = ''] = value.toExponential().split('e');
  const size = exponent.slice(1).padStart(2, '0');
  return Number.isFinite(value) ? `${digits}e${exponent[0]}${size}` : String(value);
}

/** Sizes as Python prints a tuple: `(6,)`, `(3, 6)`. */
export function pythonTuple(sizes: readonly number[]): string {
  return sizes.length === 1 ? `(${sizes[0]},)` : `(${sizes.join(', ')})`;
}

/** A flag as Python prints it. */
export function pythonBool(value: boolean): string {
  return value ? 'True' : 'False';
}
