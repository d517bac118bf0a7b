/** What is used of @huggingface/jinja. */
export interface Jinja {
  tokenize(template: string, options: { lstrip_blocks: boolean; trim_blocks: boolean }): unknown;
  parse(tokens: unknown): Node;
  Environment: new () => { set(name: string, value: unknown): unknown };
  Interpreter: new (environment: object) => Interpreter;
}

interface Interpreter {
  run(program: Node): Value;
  evaluate(node: Node | undefined, environment: unknown): Value;
}

export interface Node {
  type: string;
  property?: Node;
  operator?: { value: string };
  left?: Node;
  right?: Node;
  filter?: Node;
  operand?: Node;
  value?: unknown;
}

interface Value {
  type: string;
  value: unknown;
  builtins: Map<string, Value>;
}

/** A node that was evaluated before. */
interface Known extends Node {
  type: 'Known';
  known: Value;
}

/** How many elements of lists, and characters of texts, a template may make beyond what it gets. */
const mostElements = 2 ** 22;
const longestText = 2 ** 20;
const mostText = 2 ** 27;

/** Nodes that make a value of any size out of small ones. */
const makers = new Set(['BinaryExpression', 'FilterExpression', 'CallExpression']);

/**
 * The package's interpreter, which computes as Python's Jinja where the package differs, and ends a template before what it
 * makes fills the memory.
 *
 * @param size characters of what the template gets
 * @param endsTemplate throws the error for a template that makes too much
 */
export function chatInterpreter(
  jinja: Jinja,
  environment: object,
  size: number,
  endsTemplate: () => never,
): Interpreter {
  let elements = mostElements + 64 * size;
  let text = mostText + 64 * size;
  const longest = longestText + 8 * size;

  class ChatInterpreter extends jinja.Interpreter {
    override evaluate(node: Node | undefined, scope: unknown): Value {
      if (node?.type === 'Known') return (node as Known).known;
      const value = this.asInPython(node, scope) ?? super.evaluate(node, scope);
      if (node !== undefined) this.count(node, value);
      if (value.type === 'StringValue') this.useExactStrip(value);
      return value;
    }

    private asInPython(node: Node | undefined, scope: unknown): Value | undefined {
      const operator = node?.operator?.value;
      if (node?.type === 'BinaryExpression' && (operator === '~' || operator === '+')) return this.join(node, scope);
      if (node?.type !== 'FilterExpression' || node.filter?.value !== 'trim') return undefined;
      const operand = this.evaluate(node.operand, scope);
      if (operand.type === 'StringValue') return this.text(strip(operand.value as string, 'both'));
      return super.evaluate({ ...node, operand: known(operand) }, scope);
    }

    /** `+` joins a text with a text only; `~` joins what is not defined as nothing. */
    private join(node: Node, scope: unknown): Value {
      let [left, right] = [this.evaluate(node.left, scope), this.evaluate(node.right, scope)];
      if (node.operator?.value === '~') {
        const defined = (value: Value): Value => (value.type === 'UndefinedValue' ? this.text('') : value);
        [left, right] = [defined(left), defined(right)];
      } else if ((left.type === 'StringValue') !== (right.type === 'StringValue')) {
        throw new Error(`it joins a ${nameOf(left)} and a ${nameOf(right)} with +`);
      }
      return super.evaluate({ ...node, left: known(left), right: known(right) }, scope);
    }

    private text(value: string): Value {
      return super.evaluate({ type: 'StringLiteral', value }, environment);
    }

    /** The package's `strip` takes no characters, and its white space is JavaScript's. */
    private useExactStrip({ value, builtins }: Value): void {
      const methods = { strip: 'both', lstrip: 'left', rstrip: 'right' } as const;
      for (const [name, side] of Object.entries(methods)) {
        const method = builtins.get(name);
        if (method === undefined) continue;
        method.value = ([chars]: Value[]) =>
          this.text(strip(value as string, side, chars?.type === 'StringValue' ? (chars.value as string) : undefined));
      }
    }

    private count(node: Node, { type, value }: Value): void {
      const isSlice = node.type === 'MemberExpression' && node.property?.type === 'SliceExpression';
      if (!isSlice && !makers.has(node.type)) return;
      if (type === 'ArrayValue') elements -= (value as unknown[]).length;
      if (type === 'StringValue') {
        const { length } = value as string;
        // A joined text shares the memory of its parts.
        if (node.type !== 'BinaryExpression') text -= length;
        if (length > longest) endsTemplate();
      }
      if (elements < 0 || text < 0) endsTemplate();
    }
  }
  return new ChatInterpreter(environment);
}

function known(value: Value): Known {
  return { type: 'Known', known: value };
}

function nameOf({ type }: Value): string {
  return type.replace('Value', '').toLowerCase();
}

/** What Python's str.strip removes if it is given no characters. */
// Python's white space, of which four control characters are a part.
const whiteSpace = /[\p{White_Space}\u001c-\u001f]/u; // eslint-disable-line no-control-regex

function strip(text: string, side: 'left' | 'right' | 'both', chars?: string): string {
  const isStripped = (char: string): boolean => (chars === undefined ? whiteSpace.test(char) : chars.includes(char));
  const all = [...text];
  let [start, end] = [0, all.length];
  if (side !== 'right') while (start < end && isStripped(all[start]!)) start++;
  if (side !== 'left') while (end > start && isStripped(all[end - 1]!)) end--;
  return all.slice(start, end).join('');
}
