import { checkArgument, checkIterable } from '../errors';
import { Module } from './module';

/** Modules in a row, registered under their index (PyTorch's `torch.nn.ModuleList`). */
export class ModuleList<M extends Module = Module> extends Module implements Iterable<M> {
  readonly #items: M[];

  constructor(items: Iterable<M> = []) {
    super();
    checkIterable(items, 'modules', new.target.name);
    this.#items = [...items];
    for (const item of this.#items) checkModule(item, new.target.name);
  }

  get length(): number {
    return this.#items.length;
  }

  /** The module at an index; negative counts from the end. */
  at(index: number): M | undefined {
    checkArgument(typeof index === 'number', 'an index', index, 'at()');
    return this.#items.at(index);
  }

  /** Adds a module at the end. */
  append(item: M): this {
    checkModule(item, 'append()');
    this.#items.push(item);
    return this;
  }

  [Symbol.iterator](): Iterator<M> {
    return this.#items[Symbol.iterator]();
  }

  override isList(): boolean {
    return true;
  }

  override namedChildren(): [string, Module][] {
    return this.#items.map((item, index) => [String(index), item]);
  }
}

function checkModule(item: unknown, where: string): void {
  checkArgument(item instanceof Module, 'a module', item, where);
}
