import { Cost, type Spend } from './budget';
import { GlobalError, type Keys } from './globals';
import { Float, InertObject, Tuple } from './types';

type Container = Map<unknown, unknown> | Set<unknown>;

/** What the text of a key takes in a Map, without its characters. */
const contentCost = 100;

/**
 * Keys of dicts and members of sets, as Python compares them: `True`, `1` and `1.0` are one key, `2**60` is equal to its float, and
 * tuples and bytes are equal if their contents are. As in Python, the first of equal keys stays and the last value wins.
 */
export class PythonKeys implements Keys {
  /** For each container with tuples or bytes among its keys: the key of each content. */
  private readonly contents = new Map<Container, Map<string, unknown>>();
  /** Numbers of the tuples within tuples, so that the content of each is written once. */
  private readonly nested = new Map<string, number>();
  private notNumbers = 0;

  constructor(
    private readonly spend: Spend,
    private readonly takesObjects = false,
  ) {}

  set(dict: Map<unknown, unknown>, key: unknown, value: unknown): void {
    dict.set(this.keyIn(dict, key), value);
  }

  add(set: Set<unknown>, member: unknown): void {
    set.add(this.keyIn(set, member));
  }

  /** The equal key that the container has already, else this key. */
  private keyIn(container: Container, key: unknown): unknown {
    switch (typeof key) {
      case 'boolean':
        return container.has(Number(key)) ? Number(key) : key;
      case 'number':
        return numberIn(container, key);
      case 'bigint':
        return !container.has(key) && container.has(Number(key)) && BigInt(Number(key)) === key ? Number(key) : key;
      case 'object':
        return key === null ? key : this.objectIn(container, key);
      default:
        return key;
    }
  }

  private objectIn(container: Container, key: object): unknown {
    if (key instanceof Float) return numberIn(container, key.value);
    if (this.takesObjects && key instanceof InertObject) return key;
    const content = key instanceof Tuple ? `(${this.tupleText(key)}` : this.textOf(key);
    if (container.has(key)) return key;
    let known = this.contents.get(container);
    if (known === undefined) {
      this.spend(Cost.map + Cost.entry);
      known = new Map();
      this.contents.set(container, known);
    }
    const equal = known.get(content);
    if (equal !== undefined) return equal;
    this.spend(contentCost);
    known.set(content, key);
    return key;
  }

  /** Text that equal tuples share. Tuples within tuples are entered without recursion, each once. */
  private tupleText(root: Tuple): string {
    const texts = new Map<Tuple, string>();
    const entered = new Set<Tuple>();
    const pending = [root];
    for (let tuple = pending.pop(); tuple !== undefined; tuple = pending.pop()) {
      if (texts.has(tuple)) continue;
      if (!entered.has(tuple)) {
        this.spend(tuple.length * Cost.item);
        entered.add(tuple);
        const inner = tuple.filter((member) => member instanceof Tuple && !texts.has(member)) as Tuple[];
        if (inner.length > 0) {
          pending.push(tuple, ...new Set(inner));
          continue;
        }
      }
      const members = Array.from(tuple, (member) =>
        member instanceof Tuple ? `t${this.numberOf(texts.get(member)!)}` : this.textOf(member),
      );
      texts.set(tuple, members.join());
    }
    return texts.get(root)!;
  }

  private numberOf(text: string): number {
    let number = this.nested.get(text);
    if (number === undefined) {
      this.spend(contentCost);
      number = this.nested.size;
      this.nested.set(text, number);
    }
    return number;
  }

  /** Of a key, or of a member of a tuple, that is not a tuple itself. */
  private textOf(value: unknown): string {
    switch (typeof value) {
      case 'string':
        this.spend(value.length);
        return `s${value.length}:${value}`;
      case 'number':
        return this.numberText(value);
      case 'boolean':
      case 'bigint':
        return `${BigInt(value)}`;
      default:
    }
    if (value === null) return 'N';
    if (value instanceof Float) return this.numberText(value.value);
    if (!(value instanceof Uint8Array))
      throw new GlobalError('expected a key or member that is str, int, bool, float, bytes, None or a tuple of those');
    this.spend(2 * value.length);
    return `b${Buffer.from(value.buffer, value.byteOffset, value.length).toString('base64')}`;
  }

  private numberText(value: number): string {
    // NaN equals nothing, so each NaN gets a key of its own.
    if (Number.isNaN(value)) return `nan${this.notNumbers++}`;
    return Number.isInteger(value) ? `${BigInt(value)}` : `${value}`;
  }
}

function numberIn(container: Container, key: number): unknown {
  if (key === 0 || key === 1) return container.has(key === 1) ? key === 1 : key;
  return Number.isInteger(key) && !Number.isSafeInteger(key) && container.has(BigInt(key)) ? BigInt(key) : key;
}
