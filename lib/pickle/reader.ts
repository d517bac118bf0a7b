import { Cursor } from './cursor';
import { CheckpointCode } from './errors';
import { isDangerousModule } from './dangerous';
import {
  GlobalError,
  type GlobalTable,
  hashableKey,
  PickleConstant,
  PickleGlobal,
  Unfinished,
  UnsupportedGlobal,
} from './globals';
import { Op, opName } from './opcodes';
import { decodeQuotedString, decodeRawUnicodeEscape, decodeUtf8, latin1 } from './text';
import { ByteArray, Float, FrozenSet, GlobalName, InertObject, isPythonInt, OrderedDict, Tuple } from './types';

/** Python's own limit on the digits of an int in text form, which protocols 0 and 1 use. */
const maxIntDigits = 4300;

/** An int of more bytes than this is no number that a checkpoint holds, and slow to make. */
const maxIntBytes = 2 ** 20;

const highestProtocol = 5;

export interface PickleReaderOptions {
  /** Everything that the pickle may name. */
  globals: GlobalTable;
  /** What a persistent id (BINPERSID) stands for. Throws `GlobalError` where the id is not one. */
  persistentLoad: (id: unknown) => unknown;
  /** Gives floats that a plain number would turn into ints as `Float`. */
  exact?: boolean;
  /**
   * Gives objects of unknown classes as `InertObject` and unknown names as `GlobalName`, instead of refusing them.
   * Names that only an attack has a use for are refused all the same, but with `all`, which is for who only looks.
   */
  inert?: boolean | 'all';
  /** Name of the record that the bytes are, for messages. */
  record?: string;
}

export interface PickleResult {
  value: unknown;
  /** Position just after STOP. */
  end: number;
}

/**
 * Reads one pickle of protocol 0 to 5 as data. No name is ever imported and no code is run: a name that is not in
 * `globals` is refused (or inert data, on request), and so are the opcodes that exist to call things (INST, OBJ, NEWOBJ
 * of known classes, NEWOBJ_EX, EXT*).
 *
 * Objects that the pickle shares are shared in the result, and cycles stay cycles. The stack is explicit, so depth is
 * bounded only by the length of the stream, as is the number of objects.
 *
 * @throws CheckpointError for anything but a well-formed pickle of known things
 */
export function readPickle(bytes: Uint8Array, options: PickleReaderOptions): PickleResult {
  return new PickleReader(bytes, options).read();
}

class PickleReader {
  private readonly cursor: Cursor;
  private readonly stack: unknown[] = [];
  /** Stack heights at the open MARKs; nothing below the last one can be popped. */
  private readonly marks: number[] = [];
  private readonly memo = new Map<number, unknown>();
  /** Where in the memo objects are that BUILD will replace. */
  private readonly unfinished = new Map<Unfinished, number[]>();
  /** Position of the opcode that is being executed. */
  private opStart = 0;

  constructor(
    bytes: Uint8Array,
    private readonly options: PickleReaderOptions,
  ) {
    this.cursor = new Cursor(bytes, options.record);
  }

  read(): PickleResult {
    if (this.cursor.bytes.length === 0) throw this.cursor.error('the pickle is empty', CheckpointCode.truncated);
    for (;;) {
      this.opStart = this.cursor.position;
      if (this.opStart === this.cursor.bytes.length)
        throw this.fail('the pickle ends without STOP', CheckpointCode.truncated);
      const op = this.cursor.opcode();
      if (op === Op.STOP) break;
      this.step(op);
    }
    const value = this.pop();
    if (this.stack.length > 0 || this.marks.length > 0)
      throw this.fail('objects are left over at the end of the pickle');
    return { value, end: this.cursor.position };
  }

  /** One opcode: literals first, then what works on the stack. */
  private step(op: number): void {
    const literal = this.literal(op);
    if (literal !== notLiteral) this.stack.push(literal);
    else if (!this.structure(op) && !this.memoOp(op)) this.special(op);
  }

  /** Opcodes that push one value made from their own bytes. */
  private literal(op: number): unknown {
    const { cursor } = this;
    switch (op) {
      case Op.BINUNICODE:
        return this.text(cursor.take(cursor.uint32()));
      case Op.SHORT_BINUNICODE:
      case Op.SHORT_BINSTRING:
        return this.text(cursor.take(cursor.uint8()));
      case Op.BINUNICODE8:
        return this.text(cursor.take(cursor.uint64()));
      case Op.BINSTRING:
        return this.text(cursor.take(this.nonNegative(cursor.int32())));
      case Op.BININT1:
        return cursor.uint8();
      case Op.BININT2:
        return cursor.uint16();
      case Op.BININT:
        return cursor.int32();
      case Op.LONG1:
        return littleEndianInt(cursor.take(cursor.uint8()));
      case Op.LONG4:
        return littleEndianInt(cursor.take(this.intLength(cursor.int32())));
      case Op.BINFLOAT:
        return this.float(cursor.float64());
      case Op.NONE:
        return null;
      case Op.NEWTRUE:
        return true;
      case Op.NEWFALSE:
        return false;
      case Op.EMPTY_TUPLE:
        return new Tuple();
      case Op.EMPTY_LIST:
        return [];
      case Op.EMPTY_DICT:
        return new Map();
      case Op.EMPTY_SET:
        return new Set();
      case Op.SHORT_BINBYTES:
        return cursor.take(cursor.uint8()).slice();
      case Op.BINBYTES:
        return cursor.take(cursor.uint32()).slice();
      case Op.BINBYTES8:
        return cursor.take(cursor.uint64()).slice();
      case Op.BYTEARRAY8:
        return ByteArray.from(cursor.take(cursor.uint64()));
      default:
        return this.textLiteral(op);
    }
  }

  /** The literals of protocol 0, each a line of text. */
  private textLiteral(op: number): unknown {
    switch (op) {
      case Op.INT:
        return this.textInt(latin1(this.cursor.line()));
      case Op.LONG:
        return this.textLong(latin1(this.cursor.line()));
      case Op.FLOAT:
        return this.textFloat(latin1(this.cursor.line()));
      case Op.STRING:
        return this.text(this.decoded(decodeQuotedString(this.cursor.line())));
      case Op.UNICODE:
        return this.decoded(decodeRawUnicodeEscape(this.cursor.line()));
      default:
        return notLiteral;
    }
  }

  /** Opcodes that build containers from what is on the stack. */
  private structure(op: number): boolean {
    switch (op) {
      case Op.MARK:
        this.marks.push(this.stack.length);
        return true;
      case Op.TUPLE:
        this.stack.push(Tuple.from(this.popMark()));
        return true;
      case Op.TUPLE1:
        return this.tuple(1);
      case Op.TUPLE2:
        return this.tuple(2);
      case Op.TUPLE3:
        return this.tuple(3);
      case Op.LIST:
        this.stack.push(this.popMark());
        return true;
      case Op.DICT:
        return this.setItems(this.popMark(), this.pushed(new Map()));
      case Op.APPEND:
        return this.append([this.pop()]);
      case Op.APPENDS:
        return this.append(this.popMark());
      case Op.SETITEM: {
        const value = this.pop();
        return this.setItems([this.pop(), value], this.top());
      }
      case Op.SETITEMS:
        return this.setItems(this.popMark(), this.top());
      case Op.ADDITEMS:
        return this.addItems(this.popMark());
      case Op.FROZENSET:
        return this.frozenSet(this.popMark());
      case Op.POP:
        // As in Python: directly after MARK, POP takes the mark.
        if (this.stack.length === this.marks.at(-1)) this.marks.pop();
        else this.pop();
        return true;
      case Op.POP_MARK:
        this.popMark();
        return true;
      default:
        return false;
    }
  }

  private memoOp(op: number): boolean {
    const { cursor } = this;
    switch (op) {
      case Op.BINPUT:
        return this.put(cursor.uint8());
      case Op.LONG_BINPUT:
        return this.put(cursor.uint32());
      case Op.PUT:
        return this.put(this.memoIndex());
      case Op.MEMOIZE:
        return this.put(this.memo.size);
      case Op.BINGET:
        return this.get(cursor.uint8());
      case Op.LONG_BINGET:
        return this.get(cursor.uint32());
      case Op.GET:
        return this.get(this.memoIndex());
      default:
        return false;
    }
  }

  private special(op: number): void {
    const { cursor } = this;
    switch (op) {
      case Op.PROTO:
        return this.protocol(cursor.uint8());
      case Op.FRAME:
        return cursor.openFrame(cursor.uint64());
      case Op.GLOBAL: {
        const module = this.text(cursor.line());
        return this.global(module, this.text(cursor.line()));
      }
      case Op.STACK_GLOBAL: {
        const name = this.pop();
        const module = this.pop();
        if (typeof module !== 'string' || typeof name !== 'string') throw this.fail('STACK_GLOBAL without two strings');
        return this.global(module, name);
      }
      case Op.REDUCE:
        return this.reduce();
      case Op.NEWOBJ:
        return this.newObject();
      case Op.BUILD:
        return this.build();
      case Op.BINPERSID:
        this.stack.push(this.guarded('persistent id', () => this.options.persistentLoad(this.pop())));
        return;
      default:
        throw this.refusedOpcode(op);
    }
  }

  private refusedOpcode(op: number): Error {
    return this.fail(`pickle opcode ${opName(op)} is not one that a checkpoint needs, and is refused`);
  }

  private protocol(version: number): void {
    if (this.opStart !== 0) throw this.fail('a second pickle begins inside the first');
    if (version > highestProtocol)
      throw this.fail(`pickle protocol ${version} is unknown; 0 to ${highestProtocol} are read`);
  }

  private global(module: string, name: string): void {
    const fullName = `${module === '__builtin__' ? 'builtins' : module}.${name}`;
    const entry = this.options.globals.get(fullName);
    if (entry === undefined) {
      this.stack.push(this.unknownName(module, name, fullName));
      return;
    }
    if (entry instanceof UnsupportedGlobal) {
      throw this.fail(
        `the file holds ${entry.what} (${fullName}), which torchbind does not read`,
        CheckpointCode.unsupported,
      );
    }
    this.stack.push(entry instanceof PickleConstant ? entry.value : entry);
  }

  private unknownName(module: string, name: string, fullName: string): GlobalName {
    const shown = JSON.stringify(fullName);
    if (this.options.inert !== 'all' && isDangerousModule(module)) {
      throw this.fail(
        `the pickle names ${shown}, which has no place in a checkpoint: the file may have been made to do harm. ` +
          'Nothing in it was executed',
        CheckpointCode.global,
      );
    }
    if (this.options.inert !== undefined && this.options.inert !== false) return new GlobalName(module, name);
    throw this.fail(
      `the pickle names ${shown}, which is not a class or function that torchbind knows; ` +
        "nothing in a checkpoint is executed. load(path, { unknown: 'inert' }) gives such objects as plain data",
      CheckpointCode.global,
    );
  }

  private reduce(): void {
    const args = this.pop();
    const callee = this.pop();
    if (callee instanceof GlobalName) return this.inertObject(callee, args, true);
    if (!(callee instanceof PickleGlobal) || callee.call === undefined) {
      throw this.fail(`REDUCE calls ${callee instanceof PickleGlobal ? callee.name : 'what is not a function'}`);
    }
    if (!(args instanceof Tuple)) throw this.fail(`REDUCE of ${callee.name} without a tuple of arguments`);
    const { call } = callee;
    this.stack.push(this.guarded(callee.name, () => call(args)));
  }

  /** Instances of known classes are never made without a call; those of unknown ones are data. */
  private newObject(): void {
    const args = this.pop();
    const type = this.pop();
    if (!(type instanceof GlobalName)) throw this.refusedOpcode(Op.NEWOBJ);
    this.inertObject(type, args, false);
  }

  private inertObject({ module, name }: GlobalName, args: unknown, called: boolean): void {
    if (!(args instanceof Tuple)) throw this.fail(`${module}.${name} is called without a tuple of arguments`);
    this.stack.push(new InertObject(module, name, args, called));
  }

  /** An OrderedDict takes attributes, which are kept aside from its items. */
  private build(): void {
    const state = this.pop();
    const target = this.top();
    if (target instanceof Unfinished) return this.finish(target, state);
    if (target instanceof InertObject) {
      target.state = state;
      return;
    }
    if (!(target instanceof OrderedDict)) throw this.fail('BUILD on what takes no state');
    if (!(state instanceof Map)) throw this.fail('BUILD with a state that is not a dict');
    for (const [name, value] of state) {
      if (typeof name !== 'string') throw this.fail('BUILD with an attribute name that is not a string');
      target.attributes.set(name, value);
    }
  }

  /** Puts what is finished in the place of what was not: on the stack, and in the memo. */
  private finish(target: Unfinished, state: unknown): void {
    const value = this.guarded(target.what, () => target.build(state));
    this.stack[this.stack.length - 1] = value;
    for (const index of this.unfinished.get(target) ?? []) {
      if (this.memo.get(index) === target) this.memo.set(index, value);
    }
  }

  private tuple(length: number): boolean {
    const items = new Tuple(length);
    for (let i = length - 1; i >= 0; i--) items[i] = this.pop();
    this.stack.push(items);
    return true;
  }

  private append(items: unknown[]): boolean {
    const top = this.top();
    const list = top instanceof InertObject ? top.members : top;
    // Array.isArray also holds for Tuple and torch.Size, which Python cannot append to.
    if (!Array.isArray(list) || list.constructor !== Array) throw this.fail('items are appended to what is not a list');
    for (const item of items) list.push(item);
    return true;
  }

  private setItems(items: unknown[], target: unknown): boolean {
    const dict = target instanceof InertObject ? target.items : target;
    if (!(dict instanceof Map)) throw this.fail('items are set on what is not a dict');
    if (items.length % 2 !== 0) throw this.fail('a dict has a key without a value');
    for (let i = 0; i < items.length; i += 2) {
      dict.set(
        this.guarded('dict key', () => hashableKey(items[i])),
        items[i + 1],
      );
    }
    return true;
  }

  private addItems(items: unknown[]): boolean {
    const set = this.top();
    if (!(set instanceof Set) || set instanceof FrozenSet) throw this.fail('members are added to what is not a set');
    for (const item of items) set.add(this.guarded('set member', () => hashableKey(item)));
    return true;
  }

  private frozenSet(items: unknown[]): boolean {
    this.stack.push(new FrozenSet(items.map((item) => this.guarded('set member', () => hashableKey(item)))));
    return true;
  }

  private put(index: number): boolean {
    // A Map is as small as what it holds, but an index beyond the stream's length is a lie all the same.
    if (index > this.cursor.bytes.length) throw this.fail(`memo index ${index} is beyond the length of the pickle`);
    const value = this.top();
    this.memo.set(index, value);
    if (value instanceof Unfinished) {
      const places = this.unfinished.get(value);
      if (places === undefined) this.unfinished.set(value, [index]);
      else places.push(index);
    }
    return true;
  }

  private get(index: number): boolean {
    const value = this.memo.get(index);
    if (value === undefined) throw this.fail(`memo index ${index} was never set`);
    this.stack.push(value);
    return true;
  }

  private memoIndex(): number {
    const line = latin1(this.cursor.line());
    if (!/^\d{1,10}$/.test(line)) throw this.fail('a memo index is not a number');
    return Number(line);
  }

  private pushed<T>(value: T): T {
    this.stack.push(value);
    return value;
  }

  private pop(): unknown {
    if (this.stack.length <= (this.marks.at(-1) ?? 0)) throw this.fail('the pickle takes an object that is not there');
    return this.stack.pop();
  }

  private top(): unknown {
    if (this.stack.length <= (this.marks.at(-1) ?? 0)) throw this.fail('the pickle uses an object that is not there');
    return this.stack[this.stack.length - 1];
  }

  private popMark(): unknown[] {
    const mark = this.marks.pop();
    if (mark === undefined) throw this.fail('the pickle closes a group that was never opened');
    return this.stack.splice(mark);
  }

  private text(bytes: Uint8Array): string {
    return this.decoded(decodeUtf8(bytes));
  }

  private decoded<T>(value: T | undefined): T {
    if (value === undefined) throw this.fail('a string is not valid text');
    return value;
  }

  private float(value: number): number | Float {
    return this.options.exact === true && isPythonInt(value) ? new Float(value) : value;
  }

  private textInt(line: string): number | bigint | boolean {
    if (line === '01') return true;
    if (line === '00') return false;
    return this.textLong(line);
  }

  private textLong(line: string): number | bigint {
    const digits = line.replace(/L$/, '');
    if (!/^-?\d+$/.test(digits) || digits.length > maxIntDigits) throw this.fail('an int is not a number in decimal');
    return narrow(BigInt(digits));
  }

  private textFloat(line: string): number | Float {
    const special: Record<string, number> = { inf: Infinity, '-inf': -Infinity, nan: NaN, '-nan': NaN };
    if (Object.hasOwn(special, line)) return special[line]!;
    if (!/^-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(line)) throw this.fail('a float is not a number in decimal');
    return this.float(Number(line));
  }

  private intLength(length: number): number {
    if (length > maxIntBytes) throw this.fail(`an int of ${length} bytes; at most ${maxIntBytes} are read`);
    return this.nonNegative(length);
  }

  private nonNegative(length: number): number {
    if (length < 0) throw this.fail('a length is negative');
    return length;
  }

  /** Runs what knows the meaning of a value but not its place in the file. */
  private guarded<T>(what: string, body: () => T): T {
    try {
      return body();
    } catch (error) {
      if (error instanceof GlobalError) throw this.fail(`${what}: ${error.message}`);
      throw error;
    }
  }

  private fail(message: string, code: CheckpointCode = CheckpointCode.pickle): Error {
    return this.cursor.error(message, code, this.opStart);
  }
}

const notLiteral = Symbol('not a literal');

/** Two's complement, least significant byte first; no bytes are 0. */
function littleEndianInt(bytes: Uint8Array): number | bigint {
  if (bytes.length === 0) return 0;
  const bits = bytes.length * 8;
  const hex = Buffer.from(bytes).reverse().toString('hex');
  return narrow(BigInt.asIntN(bits, BigInt(`0x${hex}`)));
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
